"""``tally=SECONDS``: counts the frames in which each class was seen, and reports the counts at that interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgebone.core.errors import EdgeboneError
from edgebone.core.frame import Frame
from edgebone.core.results import Results
from edgebone.model.model import Model
from edgebone.pipeline import Step
from edgebone.tasks.table import headlines
from edgebone.vision.clock import time_s


@dataclass(frozen=True)
class Tallied:
    """What was seen in a while.

    Attributes:
        source: The source.
        frame: The index of the last frame that counts.
        frames: How many frames count.
        seen: By class, the number of frames in which it was seen.
    """

    source: str
    frame: int
    frames: int
    seen: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The event as plain JSON values."""
        return {
            "event": "tally",
            "source": self.source,
            "frame": self.frame,
            "frames": self.frames,
            "seen": self.seen,
        }


class Tally(Step):
    """Counts classes by the time of the frames, source by source.

    Args:
        every_s: How long a while is, in seconds.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._began_s: dict[str, float] = {}
        self._frames: Counter[str] = Counter()
        self._seen: dict[str, Counter[str]] = {}

    def look(self, frame: Frame, results: Results, model: Model) -> tuple[Results, Sequence[Tallied]]:
        """Count a frame; the results stay as they are."""
        source, now_s = frame.source, time_s(frame)
        seen = self._seen.setdefault(source, Counter())
        for result in results.values() if isinstance(results, dict) else (results,):
            seen.update(headlines(result))
        self._frames[source] += 1
        if now_s - self._began_s.setdefault(source, now_s) < self._every_s:
            return results, ()
        told = Tallied(source, frame.index, self._frames[source], dict(seen.most_common()))
        self._began_s[source] = now_s
        self._frames[source] = 0
        seen.clear()
        return results, [told]

    def summary(self) -> list[str]:
        """A line a source, with what was not told yet."""
        return [f"{source}: not told yet: {dict(seen.most_common())}" for source, seen in self._seen.items() if seen]


def make_tally(argument: str) -> Tally:
    """Make the step from what follows ``tally=``; the entry point names this function."""
    try:
        every_s = float(argument or 60)
    except ValueError:
        every_s = 0.0
    if not every_s > 0:
        raise EdgeboneError(f"tally=SECONDS takes a number above 0, such as tally=60, not {argument}")
    return Tally(every_s)
