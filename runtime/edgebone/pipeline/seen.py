"""Summarises a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebone.core.results import Results
from edgebone.stream.stats import StreamStats
from edgebone.tasks.table import headlines


@dataclass(frozen=True)
class Summary:
    """The summary of a run.

    Attributes:
        stats: Counts and durations of the frames.
        seen: The labels seen, by source name; without sources of single pictures.
        lines: The steps' summaries, for people.
    """

    stats: StreamStats
    seen: Mapping[str, Seen]
    lines: Sequence[str]


class Seen:
    """The labels seen in a source's frames, and how often.

    Attributes:
        frames: The number of frames.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._ran: Counter[str] = Counter()
        self._found: Counter[tuple[str, str]] = Counter()

    def add(self, results: Results) -> None:
        """Count a frame."""
        self.frames += 1
        by_head = results if isinstance(results, dict) else {"": results}
        self._ran.update(by_head.keys())
        self._found.update((name, line) for name, result in by_head.items() for line in headlines(result))

    def most_common(self, most: int) -> list[tuple[str, float]]:
        """Return labels and how often they were seen, as a share of the frames that their head ran on, 0 to 1."""
        shares: dict[str, float] = {}
        for (head, label), number in self._found.items():
            # If several heads return the same label, the more frequent one counts.
            shares[label] = max(shares.get(label, 0.0), number / self._ran[head])
        return sorted(shares.items(), key=lambda item: -item[1])[:most]
