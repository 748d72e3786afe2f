"""Remembers what a second model said about each track, and decides about whom to ask it next."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgebone.core.results import Results
from edgebone.vision.tracking import LOST_AFTER_S

_KEPT = 8
"""How many answers about a track are merged: enough to outvote a blurred look, few enough to notice a change."""


@dataclass
class Known:
    """One track.

    Attributes:
        seen_s: When it was last seen, on its source's clock.
        asked_s: When the model was last asked about it; None if it has not been.
        answers: The latest answers, from the earliest.
        answer: The answer that they are merged into; None if it is to be merged.
        told: The label that an event told last.
    """

    seen_s: float
    asked_s: float | None = None
    answers: deque[Results] = field(default_factory=lambda: deque(maxlen=_KEPT))
    answer: Results | None = None
    told: str = ""


class Asked:
    """The tracks of any number of sources, each forgotten when it ends.

    Args:
        again_s: Seconds after which the model is asked about a track again.
    """

    def __init__(self, again_s: float) -> None:
        self._again_s = again_s
        self._tracks: dict[str, dict[int, Known]] = {}

    def see(self, source: str, tracker_id: NDArray[np.int64], now_s: float) -> list[Known | None]:
        """Return what is known of each box's track, None for a box without one; tracks that ended are forgotten."""
        tracks = self._tracks.setdefault(source, {})
        known = [None if number < 0 else tracks.setdefault(number, Known(now_s)) for number in tracker_id.tolist()]
        for track in known:
            if track is not None:
                track.seen_s = now_s
        # A source that began again is earlier than what was seen.
        for number in [number for number, track in tracks.items() if abs(now_s - track.seen_s) > LOST_AFTER_S]:
            del tracks[number]
        return known

    def is_due(self, track: Known | None, now_s: float) -> bool:
        """Return whether to ask about a track: a box without one may not be an object."""
        # Time may go back within a track, as in a recording that is played again.
        return track is not None and (track.asked_s is None or not 0 <= now_s - track.asked_s < self._again_s)

    def forget_answers(self) -> None:
        """Ask about every track anew, since another model answers."""
        for tracks in self._tracks.values():
            for track in tracks.values():
                track.asked_s = track.answer = None
                track.answers.clear()

    def name_again(self) -> None:
        """Merge and name every answer anew, since the gallery has changed."""
        for tracks in self._tracks.values():
            for track in tracks.values():
                track.answer = None

    def __len__(self) -> int:
        """Return the number of tracks that are known."""
        return sum(map(len, self._tracks.values()))


def first_ones(rows: Sequence[int], asked_s: Sequence[float], areas: NDArray[np.floating], budget: int) -> list[int]:
    """Return the rows that a budget allows: those not asked about for the longest time first, then the largest.

    Args:
        rows: The rows that are due.
        asked_s: When each row was last asked about, by row; minus infinity for never.
        areas: Each row's area, by row.
        budget: The largest number of rows.
    """
    return sorted(sorted(rows, key=lambda row: (asked_s[row], -areas[row]))[:budget])
