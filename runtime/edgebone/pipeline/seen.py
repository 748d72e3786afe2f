"""What was seen in all, at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebone.core.results import Results
from edgebone.stream.stats import StreamStats
from edgebone.tasks.table import headlines


@dataclass(frozen=True)
class Summary:
    """A run's end.

    Attributes:
        stats: What became of the frames, and how long they took.
        seen: What was seen, by the source's name; sources of pictures one by one are not in it.
        lines: What the steps say of it, for a person.
    """

    stats: StreamStats
    seen: Mapping[str, Seen]
    lines: Sequence[str]


class Seen:
    """What was seen in a source's frames, and how often.

    Attributes:
        frames: How many frames there were.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._ran: Counter[str] = Counter()
        self._found: Counter[tuple[str, str]] = Counter()

    def add(self, results: Results) -> None:
        """Take a frame into account."""
        self.frames += 1
        by_head = results if isinstance(results, dict) else {"": results}
        self._ran.update(by_head.keys())
        self._found.update((name, line) for name, result in by_head.items() for line in headlines(result))

    def most_common(self, most: int) -> list[tuple[str, float]]:
        """Labels and how often they were there, 0 to 1, out of the frames that their head ran on."""
        shares: dict[str, float] = {}
        for (head, label), number in self._found.items():
            # Where several heads say the same, the one that says it more often counts.
            shares[label] = max(shares.get(label, 0.0), number / self._ran[head])
        return sorted(shares.items(), key=lambda item: -item[1])[:most]
