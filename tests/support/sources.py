"""Sources that do as the test says."""

from __future__ import annotations

import time

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
