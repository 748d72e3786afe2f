"""From what the user wrote to a source."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame
from edgebone.sources.arrays import Arrays
from edgebone.sources.capture import UsbCamera, VideoFile
from edgebone.sources.images import SUFFIXES, ImageFiles, is_picture
from edgebone.sources.protocol import Source
from edgebone.sources.synthetic import SyntheticCamera

SourceLike = Union[str, "os.PathLike[str]", Source, NDArray[Any], Frame, list[NDArray[Any] | Frame]]

FORMS = "a picture, a video, a folder, a glob such as 'shots/*.jpg', usb:0, or synthetic://640x480@30"


def open_source(what: SourceLike) -> Source:
    """Open one source.

    Args:
        what: A picture, video, folder or glob; ``usb:0``; ``synthetic://640x480@30``; arrays or frames in
            memory; or an open source, which passes as it is.

    Raises:
        SourceError: It cannot be opened; the message says what was tried.
    """
    if isinstance(what, (np.ndarray, Frame)):
        return Arrays([what])
    if isinstance(what, (str, os.PathLike)):
        return _open_text(os.fspath(what))
    if isinstance(what, (list, tuple)):
        return Arrays(what)
    return what


def open_sources(texts: Sequence[str]) -> list[Source]:
    """Open sources from a command line: pictures named one by one become one source, in their order.

    Raises:
        SourceError: One cannot be opened; those opened before it are closed.
    """
    opened: list[Source] = []
    pictures: list[Path] = []
    try:
        for text in texts:
            path = Path(text)
            if os.path.isfile(text) and is_picture(path):  # noqa: PTH113
                pictures.append(path)
                continue
            if pictures:
                opened.append(_pictures(pictures))
                pictures = []
            opened.append(_open_text(text))
        if pictures:
            opened.append(_pictures(pictures))
    except BaseException:
        for source in opened:
            source.close()
        raise
    return opened


def _pictures(paths: Sequence[Path]) -> ImageFiles:
    return ImageFiles(paths, str(paths[0]) if len(paths) == 1 else f"{len(paths)} pictures")


def _open_text(text: str) -> Source:
    if text.startswith("synthetic://"):
        return SyntheticCamera(text)
    camera = re.fullmatch(r"usb:(\d{1,4})", text)
    if camera:
        return UsbCamera(int(camera[1]))
    if "://" in text:
        scheme = text.split("://", 1)[0]
        raise SourceError(f"{scheme}:// is not a kind of source that edgebone reads: give {FORMS}")
    path = Path(text)
    # os.path says False, where Path raises, of a name that is too long.
    if os.path.isdir(text):  # noqa: PTH112
        found = sorted(child for child in path.iterdir() if _is_listed(child))
        if not found:
            raise SourceError(f"{path}: the folder holds no pictures ({', '.join(sorted(SUFFIXES))})")
        return ImageFiles(found, text)
    if os.path.isfile(text):  # noqa: PTH113
        return _open_file(path)
    if glob.has_magic(text):
        names = glob.glob(text, recursive=True)  # noqa: PTH207
        found = sorted(path for path in map(Path, names) if path.is_file())
        if not found:
            raise SourceError(f"{text}: no file matches")
        return ImageFiles(found, text)
    raise SourceError(f"{text}: no such file; give {FORMS}")


def _is_listed(child: Path) -> bool:
    """Whether a folder's entry counts as a picture; hidden files are no one's pictures (macOS writes ._x.jpg)."""
    return child.suffix.lower() in SUFFIXES and not child.name.startswith(".") and child.is_file()


def _open_file(path: Path) -> Source:
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty")
    if is_picture(path):
        return ImageFiles([path], str(path))
    return VideoFile(path)
