"""Sources that do as the test says."""

from __future__ import annotations

import threading
import time

import numpy as np

from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame
from support.pictures import RED, picture


class Scripted:
    """A source that does as the test says."""

    live = False
    in_memory = False
    fps = None
    frame_count = None

    def __init__(self, script: list[object], name: str = "scripted", live: bool = False) -> None:
        self.name, self.live, self.script, self.closed, self.read_count = name, live, list(script), 0, 0

    def read(self) -> Frame | None:
        if not self.script:
            return None
        item = self.script.pop(0)
        if isinstance(item, Exception):
            raise item
        self.read_count += 1
        return Frame(picture(RED), self.read_count - 1, time.monotonic_ns(), self.name)

    def interrupt(self) -> None: ...

    def close(self) -> None:
        self.closed += 1


class Ticking:
    """A camera of one colour at a rate, which can be told to stop, to fail, or to give damaged frames."""

    live = True
    in_memory = False
    frame_count = None

    def __init__(self, name: str, fps: float, frames: int, color: tuple[int, int, int] = RED) -> None:
        self.name = name
        self.fps = fps
        self.frames = frames
        self.color = color
        self.read_count = 0
        self.damaged: set[int] = set()
        self.fails_after: int | None = None
        self._interrupted = threading.Event()

    def read(self) -> Frame | None:
        if self.read_count == self.fails_after:
            raise SourceError(f"{self.name} is gone")
        if self.read_count == self.frames or self._interrupted.wait(1 / self.fps):
            return None
        index = self.read_count
        self.read_count += 1
        return Frame(lambda: self._decode(index), index, time.monotonic_ns(), self.name)

    def _decode(self, index: int) -> np.ndarray:
        if index in self.damaged:
            raise SourceError("damaged")
        return picture(self.color)

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        pass


class Paced(Ticking):
    """A camera without a clock: it gives its first frame, and another at each call of :meth:`give`."""

    def __init__(self, name: str, frames: int, color: tuple[int, int, int] = RED) -> None:
        super().__init__(name, 1000, frames, color)
        self._given = threading.Semaphore(1)

    def give(self) -> None:
        self._given.release()

    def read(self) -> Frame | None:
        while self.read_count < self.frames and not self._given.acquire(timeout=0.01):
            if self._interrupted.is_set():
                return None
        return super().read()
