"""Whose a picture is, by its neighbours."""

from __future__ import annotations

import math
from dataclasses import replace

from edgebone.core.matches import UNKNOWN, Matches

# How fast a vote fades with the distance to the nearest: Wu et al., "Unsupervised Feature Learning via Non-Parametric
# Instance Discrimination", 2018.
_TEMPERATURE = 0.07


def voted(matches: Matches, threshold: float) -> Matches:
    """The same with the label that the entries vote for, the nearer the more; unknown where none is near enough.

    Args:
        matches: The nearest entries.
        threshold: The least similarity of an entry that has a vote.
    """
    pairs = zip(matches.labels, matches.similarity.tolist(), strict=True)
    voters = [(label, similarity) for label, similarity in pairs if similarity >= threshold]
    if not voters:
        return replace(matches, label=UNKNOWN)
    votes: dict[str, float] = {}
    for label, similarity in voters:
        votes[label] = votes.get(label, 0.0) + math.exp((similarity - voters[0][1]) / _TEMPERATURE)
    return replace(matches, label=max(votes, key=votes.__getitem__))
