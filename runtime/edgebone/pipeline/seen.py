"""What was seen in all, at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgebone.core.detections import Detections
from edgebone.core.matches import Matches
from edgebone.core.results import Classification, Embedding, MultiLabel, Regression, Result, Results
from edgebone.core.segmentation import SegmentationMap
from edgebone.stream.stats import StreamStats


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
        self._found.update((name, line) for name, result in by_head.items() for line in _headlines(result))

    def most_common(self, most: int) -> list[tuple[str, float]]:
        """Labels and how often they were there, 0 to 1, out of the frames that their head ran on."""
        shares: dict[str, float] = {}
        for (head, label), number in self._found.items():
            # Where several heads say the same, the one that says it more often counts.
            shares[label] = max(shares.get(label, 0.0), number / self._ran[head])
        return sorted(shares.items(), key=lambda item: -item[1])[:most]


def _headlines(result: Result) -> set[str]:
    """What there is to say about a result, once each: the best class, or the classes that were found."""
    if isinstance(result, Classification):
        return {result.decision or result.label}
    if isinstance(result, Matches):
        return {result.label}
    if isinstance(result, Regression):
        # Numbers are not counted: hardly one comes twice.
        return set()
    if isinstance(result, (Detections, MultiLabel)):
        return set(result.labels)
    if isinstance(result, SegmentationMap):
        return {label for label, pixels in zip(result.labels[1:], result.area[1:], strict=True) if pixels}
    if isinstance(result, Embedding):
        return {"embedding"}
    return {type(result).__name__.lower()}
