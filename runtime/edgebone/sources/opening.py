"""Opens sources by what the user wrote."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from edgebone.core.brought import make_brought, names_brought
from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame
from edgebone.core.machine import Machine
from edgebone.core.near import did_you_mean
from edgebone.sources.address import Address, Mode, parse_address
from edgebone.sources.arrays import Arrays
from edgebone.sources.camera import Camera, Connection
from edgebone.sources.folders import pictures_in
from edgebone.sources.globs import pictures_matching
from edgebone.sources.images import is_listed, is_picture
from edgebone.sources.network_address import SCHEMES, NetworkAddress, read_address, redact_word
from edgebone.sources.picture_files import PictureFiles
from edgebone.sources.picture_formats import FORMATS
from edgebone.sources.protocol import Source
from edgebone.sources.synthetic import SyntheticCamera
from edgebone.sources.unopened import Unopened
from edgebone.sources.usb import UsbConnection
from edgebone.sources.video import VideoFile

SourceLike = Union[str, "os.PathLike[str]", Source, NDArray[Any], Frame, list[NDArray[Any] | Frame]]

FORMS = (
    "a picture, a video, a folder, a glob such as 'shots/*.jpg', usb:0, csi:0, rtsp://HOST/PATH, http://HOST/PATH, "
    "or synthetic://640x480@30"
)
GROUP = "edgebone.sources"
_MEMBERS = ("name", "live", "in_memory", "fps", "frame_count", "read", "interrupt", "close")
_CSI_MODE = Mode((1080, 1920), 30)

_log = logging.getLogger("edgebone.sources")


def open_source(
    what: SourceLike, give_up_s: float | None = None, fps: float | None = None, forgiving: bool = False
) -> Source:
    """Open one source.

    A network camera may still be offline: it is connected when its first frame is read, and again whenever it is lost.
    A recording at ``http://`` is treated like a file: an address with a video's suffix is probed at once.

    Args:
        what: A picture, video, folder or glob; ``usb:0``; ``csi:0``; ``rtsp://…``; ``synthetic://640x480@30``; an
            address whose scheme a package provides; arrays or frames in memory; or an open source, which is returned.
        give_up_s: Seconds without a frame after which a camera fails; None waits forever.
        fps: The rate at which a folder's or glob's pictures were taken, in pictures per second; None if unknown.
        forgiving: A source that cannot be opened fails when it is read, while others continue; else at once.

    Raises:
        SourceError: It cannot be opened; the message says what was tried.
    """
    if isinstance(what, (np.ndarray, Frame)):
        return Arrays([what])
    if isinstance(what, (str, os.PathLike)):
        text = os.fspath(what)
        return _forgiven(lambda: _open_text(text, give_up_s, fps), text, forgiving)
    if isinstance(what, (list, tuple)):
        return Arrays(what)
    return what


def _forgiven(open_one: Callable[[], Source], text: str, forgiving: bool) -> Source:
    try:
        return open_one()
    except SourceError as error:
        if not forgiving:
            raise
        return Unopened(redact_word(text), error)


def open_sources(
    texts: Sequence[str], give_up_s: float | None = None, fps: float | None = None, forgiving: bool = False
) -> list[Source]:
    """Open sources from a command line; pictures named one by one become one source, in order.

    Args:
        texts: The arguments.
        give_up_s: As for :func:`open_source`.
        fps: As for :func:`open_source`.
        forgiving: As for :func:`open_source`.

    Raises:
        SourceError: A source cannot be opened; those already open are closed.
    """
    opened: list[Source] = []
    pictures: list[Path] = []
    try:
        for text in texts:
            if is_listed(Path(text)):
                pictures.append(Path(text))
                continue
            if pictures:
                opened.append(_pictures(pictures, fps, forgiving))
                pictures = []
            opened.append(open_source(text, give_up_s, fps, forgiving))
        if pictures:
            opened.append(_pictures(pictures, fps, forgiving))
    except BaseException:
        for source in opened:
            source.close()
        raise
    return opened


def _pictures(paths: Sequence[Path], fps: float | None, forgiving: bool) -> Source:
    if len(paths) == 1 and paths[0].is_file():
        return _forgiven(lambda: _open_file(paths[0], fps), str(paths[0]), forgiving)
    return PictureFiles(paths, str(paths[0]) if len(paths) == 1 else f"{len(paths)} pictures", fps)


def _open_text(text: str, give_up_s: float | None, fps: float | None) -> Source:
    if text.startswith("synthetic://"):
        return SyntheticCamera(text)
    address = parse_address(text)
    if address:
        return Camera(text, lambda: _connect(address, text), first=_connect(address, text), give_up_s=give_up_s)
    if "://" in text:
        scheme = text.split("://", 1)[0]
        if scheme.lower() in SCHEMES:
            # Imported here: it loads HTTP and TLS, which files do not need.
            from edgebone.sources.http_recording import open_recording

            place = read_address(text)
            recording = open_recording(place)
            if recording is not None:
                return recording
            return Camera(place.name, _way_to(place), give_up_s=give_up_s)
        return _open_brought(scheme.lower(), text, give_up_s, fps)
    path = Path(text)
    # For a name that is too long os.path returns False, while Path raises.
    if os.path.isdir(text):  # noqa: PTH112
        found = pictures_in(path)
        if not found:
            raise SourceError(f"{path}: the folder holds no pictures ({', '.join(known.name for known in FORMATS)})")
        return PictureFiles(found, text, fps)
    if os.path.isfile(text):  # noqa: PTH113
        return _open_file(path, fps)
    if glob.has_magic(text):
        return PictureFiles(pictures_matching(text), text, fps)
    raise SourceError(f"{redact_word(text)}: no such file; give {FORMS}")


def _open_brought(scheme: str, address: str, give_up_s: float | None, fps: float | None) -> Source:
    """Open an address through a package that provides its scheme."""
    brought = names_brought(GROUP)
    if scheme not in brought:
        known = ["synthetic", *SCHEMES, *brought]
        meant = did_you_mean(scheme, known)
        more = f", {', '.join(f'{name}://…' for name in brought)}" if brought else ""
        raise SourceError(f"{scheme}:// is not a kind of source that edgebone reads: {meant}give {FORMS}{more}")
    made: Source = make_brought(
        GROUP, scheme, f"source {scheme}://", SourceError, _MEMBERS, address,
        own=Camera, give_up_s=give_up_s, fps=fps,
    )  # fmt: skip
    return made


def _connect(address: Address, name: str) -> Connection:
    if address.bus == "usb":
        return UsbConnection(address.number, address.mode)
    size_hw = address.mode.size_hw or _CSI_MODE.size_hw
    fps = address.mode.fps or _CSI_MODE.fps
    assert size_hw and fps
    from edgebone.sources import gstreamer

    return gstreamer.Pipeline(gstreamer.csi_pipeline(address.number, size_hw, fps), size_hw, name, float(fps))


def _way_to(address: NetworkAddress) -> Callable[[], Connection]:
    """Return how to connect: with a Jetson's own decoder, which saves the processor; elsewhere with FFmpeg.

    Checked and reported once if the decoder cannot be used, since a camera is reconnected repeatedly.
    """
    from edgebone.sources import gstreamer, network

    software: Callable[[], Connection] = partial(network.NetworkConnection, address)
    if not Machine.probe().jetson:
        return software
    reason = gstreamer.why_no_hardware()
    if reason:
        _log.warning("%s is decoded in software: %s", address.name, reason)
        return software
    way: Callable[[], Connection] = partial(gstreamer.HardwareConnection, address)

    def connect() -> Connection:
        nonlocal way
        try:
            return way()
        except gstreamer.SoftwareOnlyError as error:
            _log.warning("%s is decoded in software: %s", address.name, error)
            way = software
            return way()

    return connect


def _open_file(path: Path, fps: float | None) -> Source:
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty")
    if is_picture(path):
        return PictureFiles([path], str(path), fps)
    return VideoFile(path)
