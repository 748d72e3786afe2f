"""Annotated video."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import OutputError
from edgebone.core.frame import Frame
from edgebone.core.results import Results
from edgebone.core.staging import replace_file, staging
from edgebone.core.writing import writing
from edgebone.sinks.annotate import annotate

Draw = Callable[[NDArray[np.uint8], Frame], NDArray[np.uint8]]

_PROBE_BYTES = 1 << 16
_CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


class VideoFileSink:
    """Writes frames with their results drawn on, in the first frame's size; others are fitted into it.

    The file gets its name when it is whole: until then it lies in a hidden folder beside it.

    Args:
        path: The file; ``.mp4``, ``.mov``, ``.mkv`` or ``.avi``. Replaced if it exists.
        fps: Frames a second; fractions are kept.
        draw: Draws further things onto a frame that its result is drawn on already.

    Raises:
        OutputError: Another kind of file.
    """

    def __init__(self, path: Path, fps: float, draw: Draw | None = None) -> None:
        if path.suffix.lower() not in _CODECS:
            raise OutputError(f"{path}: a video is written as {', '.join(_CODECS)}")
        self._path = path
        self._fps = fps
        self._draw = draw
        self._folder = ExitStack()
        self._partial = Path()
        self._writer: Any = None
        self._size_wh = (0, 0)
        self._frames = 0

    def write(self, frame: Frame, result: Results) -> None:
        """Draw and append."""
        image = annotate(frame.image, result)
        if self._draw is not None:
            image = self._draw(image, frame)
        if self._writer is None:
            self._open(image)
        self._writer.write(_fit(image, self._size_wh))
        self._frames += 1

    def _open(self, image: NDArray[np.uint8]) -> None:
        with writing(self._path):
            self._partial = self._folder.enter_context(staging(self._path)) / f"video{self._path.suffix}"
            self._probe()
        height, width = image.shape[:2]
        # The codecs take even sizes only.
        self._size_wh = (width + width % 2, height + height % 2)
        fourcc = cv2.VideoWriter.fourcc(*_CODECS[self._path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(self._partial), cv2.CAP_FFMPEG, fourcc, self._fps, self._size_wh)
        if not self._writer.isOpened():
            self.discard()
            raise OutputError(f"{self._path}: OpenCV cannot write a {self._path.suffix} video here; try .avi")

    def _probe(self) -> None:
        """Write to the disk: OpenCV tells nothing about why it cannot.

        Raises:
            OSError: The disk is full, or will be after a moment.
        """
        try:
            with self._partial.open("wb") as file:
                file.write(bytes(_PROBE_BYTES))
                os.fsync(file.fileno())
        except OSError:
            self.discard()
            raise

    def close(self) -> None:
        """Finish the file, check that it holds every frame, and give it its name.

        Raises:
            OutputError: Frames are missing in it: most likely the disk is full.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        written = _count_frames(self._partial)
        if written < self._frames:
            self.discard()
            raise OutputError(
                f"{self._path} cannot be written: {written} of {self._frames} frames arrived; "
                "is the disk full? nothing was left behind"
            )
        with self._folder, writing(self._path):
            replace_file(self._partial, self._path)

    def discard(self) -> None:
        """Remove the unfinished file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        self._folder.close()


def _count_frames(path: Path) -> int:
    """How many frames a file that was just written holds, by its own index."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()


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
