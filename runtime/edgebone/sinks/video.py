"""Annotated video."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import EdgeboneError, OutputError
from edgebone.core.event import Event
from edgebone.core.ffmpeg import import_av, nameless
from edgebone.core.foreign import foreign
from edgebone.core.frame import Frame
from edgebone.core.results import Results
from edgebone.core.staging import replace_file, staging
from edgebone.core.writing import writing
from edgebone.sinks.annotate import Draw, drawn

_PROBE_BYTES = 1 << 16
# FFmpeg's names of the container and the codec.
_KINDS = {
    ".mp4": ("mp4", "mpeg4"),
    ".mov": ("mov", "mpeg4"),
    ".mkv": ("matroska", "mpeg4"),
    ".avi": ("avi", "mjpeg"),
}
# MPEG-4's time base has at most 65,535 ticks per second.
_MOST_TICKS = 60_000
# The quality of FFmpeg's quantizer 3, at any bit rate.
_QUALITY = {"qmin": "3"}
_BITS_A_PIXEL = 4
_MOST_BITS_A_SECOND = 1 << 30


class VideoFileSink:
    """Writes frames with their results drawn on them, in the first frame's size; others are fitted into it.

    A recording's frames keep their own times, so that one with a variable rate keeps its length; other frames follow at
    the given rate. AVI has only one rate, to which times are rounded.

    The file gets its name when it is complete: until then it is in a hidden folder beside it.

    Args:
        path: The file; ``.mp4``, ``.mov``, ``.mkv`` or ``.avi``. Replaced if it exists.
        fps: Frames per second; fractions are kept.
        draw: Draws more onto a frame, after its result.

    Raises:
        MissingDependencyError: PyAV is not installed.
        OutputError: Another kind of file.
    """

    def __init__(self, path: Path, fps: float, draw: Draw | None = None) -> None:
        if path.suffix.lower() not in _KINDS:
            raise OutputError(f"{path}: videos can be written as {', '.join(_KINDS)}")
        self._av = import_av()
        self._path = path
        self._fps = fps
        self._draw = draw
        self._folder = ExitStack()
        self._partial = Path()
        self._file: BinaryIO | None = None
        self._container: Any = None
        self._stream: Any = None
        self._size_wh = (0, 0)
        self._tick_s = Fraction(0)
        self._began_s: float | None = None
        self._last_tick = -1
        self._step_ticks = 1

    def write(self, frame: Frame, result: Results, events: Sequence[Event] = ()) -> None:
        """Draw and append.

        Raises:
            OutputError: It cannot be written.
        """
        image = drawn(frame, result, self._draw)
        if self._container is None:
            self._open(image)
        tick = self._tick_of(frame.position_s)
        with foreign(self._unwritable), writing(self._path):
            picture = self._av.VideoFrame.from_ndarray(_fit(image, self._size_wh), format="bgr24")
            picture.pts, picture.time_base = tick, self._tick_s
            self._encode(picture)

    def _encode(self, picture: Any) -> None:
        for packet in self._stream.encode(picture):
            # For the last frame: the others last until the next.
            packet.duration = self._step_ticks
            self._container.mux(packet)

    def _tick_of(self, position_s: float | None) -> int:
        tick = self._last_tick + self._step_ticks if self._last_tick >= 0 else 0
        if position_s is not None:
            if self._began_s is None:
                self._began_s = position_s - float(tick * self._tick_s)
            tick = max(self._last_tick + 1, round((position_s - self._began_s) / self._tick_s))
        self._last_tick = tick
        return tick

    def _open(self, image: NDArray[np.uint8]) -> None:
        container, codec = _KINDS[self._path.suffix.lower()]
        with writing(self._path):
            self._partial = self._folder.enter_context(staging(self._path)) / f"video{self._path.suffix}"
            self._probe()
            self._file = self._partial.open("wb")
        height, width = image.shape[:2]
        # The codecs support only even sizes.
        self._size_wh = (width + width % 2, height + height % 2)
        rate = _as_fraction(self._fps)
        # An AVI's ticks are its frames.
        self._step_ticks = 1 if container == "avi" else max(1, _MOST_TICKS // rate.numerator) * rate.denominator
        self._tick_s = 1 / (rate * self._step_ticks)
        try:
            with foreign(self._unwritable), writing(self._path):
                # Without its name: FFmpeg would take a name with a colon for a protocol.
                self._container = self._av.open(nameless(self._file, "write", "seek", "tell"), "w", format=container)
                self._stream = self._container.add_stream(codec, rate=rate, options=_QUALITY)
                self._stream.width, self._stream.height = self._size_wh
                self._stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                encoder = self._stream.codec_context
                encoder.time_base, encoder.thread_count = self._tick_s, 1
                encoder.bit_rate = min(int(_BITS_A_PIXEL * width * height * self._fps) + 1, _MOST_BITS_A_SECOND)
        except EdgeboneError:
            self.discard()
            raise

    def _unwritable(self, reason: str) -> OutputError:
        return OutputError(f"{self._path}: FFmpeg cannot write the video ({reason}); try .avi")

    def _probe(self) -> None:
        """Write to the disk, which otherwise would only report being full after some frames.

        Raises:
            OSError: The disk is full or nearly full.
        """
        try:
            with self._partial.open("wb") as file:
                file.write(bytes(_PROBE_BYTES))
                os.fsync(file.fileno())
        except OSError:
            self.discard()
            raise

    def close(self) -> None:
        """Finish the file and rename it to its target.

        Raises:
            OutputError: It cannot be finished, most likely because the disk is full. Nothing is left behind.
        """
        if self._container is None:
            return
        try:
            with foreign(self._unwritable), writing(self._path):
                self._encode(None)
                self._let_go()
                replace_file(self._partial, self._path)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the unfinished file."""
        with contextlib.suppress(Exception):
            self._let_go()
        self._folder.close()

    def _let_go(self) -> None:
        container, file = self._container, self._file
        self._container = self._stream = self._file = None
        with contextlib.ExitStack() as last:
            if file is not None:
                last.enter_context(file)
            if container is not None:
                container.close()


def _as_fraction(fps: float) -> Fraction:
    """Return the rate as a fraction that a video can store: 29.97 is 30000 / 1001."""
    fps = max(fps, 1 / 1000)
    exact = Fraction(fps).limit_denominator(1001)
    return exact if exact.numerator <= _MOST_TICKS else Fraction(fps).limit_denominator(max(1, int(_MOST_TICKS / fps)))


def _fit(image: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale a picture into a size, keeping its aspect, with black around it."""
    width, height = size_wh
    have_h, have_w = image.shape[:2]
    if (have_w, have_h) == size_wh:
        return image
    scale = min(width / have_w, height / have_h)
    if 0 <= width - have_w <= 1 and 0 <= height - have_h <= 1:
        scale = 1.0
    new_w, new_h = min(width, max(1, round(have_w * scale))), min(height, max(1, round(have_h * scale)))
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - new_w) // 2, (height - new_h) // 2
    resized = image if scale == 1.0 else cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_AREA)
    canvas[top : top + new_h, left : left + new_w] = resized
    return canvas
