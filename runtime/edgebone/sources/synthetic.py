"""A synthetic camera: a moving pattern at a fixed rate, for tests and demonstrations."""

from __future__ import annotations

import re
import threading
import time

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame

_FORM = re.compile(r"synthetic://(\d+)x(\d+)@(\d+(?:\.\d+)?)(?:\?frames=(\d+))?")

_MAX_SIDE = 16384
_MIN_FPS, _MAX_FPS = 0.01, 10_000


class SyntheticCamera:
    """Behaves like a live camera: frames arrive at a fixed rate, and those not read in time are lost.

    Args:
        uri: ``synthetic://WIDTHxHEIGHT@FPS``, with ``?frames=N`` for an end.

    Raises:
        SourceError: The URI is invalid.
    """

    live = True
    in_memory = False

    def __init__(self, uri: str) -> None:
        found = _FORM.fullmatch(uri)
        if not found or not all(float(value) for value in found.groups() if value):
            raise SourceError(
                f"{uri}: write a synthetic camera as synthetic://640x480@30, or with an end: …@30?frames=100"
            )
        if max(int(found[1]), int(found[2])) > _MAX_SIDE or not _MIN_FPS <= float(found[3]) <= _MAX_FPS:
            raise SourceError(
                f"{uri}: a synthetic camera has up to {_MAX_SIDE} pixels per side and {_MIN_FPS:g} to "
                f"{_MAX_FPS:g} frames per second"
            )
        self.name = uri
        self._size_wh = (int(found[1]), int(found[2]))
        self.fps: float | None = float(found[3])
        self.frame_count: int | None = int(found[4]) if found[4] else None
        self._period_ns = int(1e9 / float(found[3]))
        self._background = _gradient(*self._size_wh)
        self._started_ns: int | None = None
        self._last = -1
        self._interrupted = threading.Event()

    def read(self) -> Frame | None:
        """Wait for the next tick; its index is painted into the picture on first access."""
        now = time.monotonic_ns()
        if self._started_ns is None:
            self._started_ns = now
        index = max(self._last + 1, (now - self._started_ns) // self._period_ns)
        if self.frame_count is not None and index >= self.frame_count:
            return None
        wait_ns = self._started_ns + index * self._period_ns - now
        if wait_ns > 0 and self._interrupted.wait(wait_ns / 1e9):
            return None
        self._last = index
        return Frame(lambda: self._paint(index), index, time.monotonic_ns(), self.name)

    def _paint(self, index: int) -> NDArray[np.uint8]:
        image = self._background.copy()
        width, height = self._size_wh
        center = (int(width * (0.5 + 0.4 * np.sin(index / 15))), height // 2)
        cv2.circle(image, center, max(2, height // 8), (40, 60, 220), -1, cv2.LINE_AA)
        scale = height / 240
        cv2.putText(
            image, str(index), (int(10 * scale), int(30 * scale)), cv2.FONT_HERSHEY_SIMPLEX, scale,
            (255, 255, 255), max(1, round(scale)), cv2.LINE_AA,
        )  # fmt: skip
        return image

    def interrupt(self) -> None:
        """Wake a waiting ``read``."""
        self._interrupted.set()

    def close(self) -> None:
        """Nothing else is held."""
        self._interrupted.set()


def _gradient(width: int, height: int) -> NDArray[np.uint8]:
    across = np.linspace(0, 200, width, dtype=np.float32)[None, :]
    down = np.linspace(0, 200, height, dtype=np.float32)[:, None]
    planes = (across + 0 * down, down + 0 * across, (across + down) / 2)
    return np.ascontiguousarray(np.stack(planes, axis=-1).astype(np.uint8))
