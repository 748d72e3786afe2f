"""Video files, read through OpenCV."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.foreign import foreign
from edgebone.core.frame import Frame

# A container's frame count may be an estimate from its duration, off by a few.
_COMPLETE = 0.95
_UNREADABLE = "{}: neither a picture nor a video that can be read; damaged or truncated?"


class VideoFile:
    """A video file; every frame is delivered.

    Args:
        path: Any container and codec that OpenCV's FFmpeg reads.

    Raises:
        SourceError: The file cannot be opened as a video, or its frames are larger than ``limits`` allows.
    """

    live = False
    in_memory = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._capture: Any = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(_UNREADABLE.format(path))
        width, height = (self._capture.get(key) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > limits.FRAME_PIXELS:
            self._capture.release()
            raise SourceError(
                f"{path}: its frames of {width:g}x{height:g} are more than {limits.FRAME_PIXELS:,} pixels"
            )
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.fps: float | None = rate if 0 < rate < 10_000 else None
        self.frame_count: int | None = count if count > 0 else None
        self._index = 0

    def read(self) -> Frame | None:
        """Decode the next frame.

        Raises:
            SourceError: The video ends well before the number of frames that it announces, or cannot be read.
        """
        with foreign(lambda reason: SourceError(f"{self.name}: frame {self._index} cannot be read ({reason})")):
            good, image = self._capture.read()
        if not good:
            self._check_complete()
            return None
        position_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        frame = Frame(np.asarray(image, np.uint8), self._index, time.monotonic_ns(), self.name, position_s)
        self._index += 1
        return frame

    def _check_complete(self) -> None:
        if self._index == 0:
            # FFmpeg opens some files by their suffix alone, a text called .jpg for one.
            raise SourceError(_UNREADABLE.format(self.name))
        if self.frame_count and self._index < _COMPLETE * self.frame_count:
            raise SourceError(
                f"{self.name}: the video breaks off after {self._index} of {self.frame_count} frames: "
                "damaged or truncated"
            )

    def interrupt(self) -> None:
        """A read of a file ends by itself."""

    def close(self) -> None:
        """Close the file."""
        self._capture.release()
