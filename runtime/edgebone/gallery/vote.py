"""Identifies a picture by its neighbours' votes."""

from __future__ import annotations

import math
from dataclasses import replace

from edgebone.core.matches import UNKNOWN, Matches

# The temperature of the votes' weights: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
# Discrimination", 2018.
_TEMPERATURE = 0.07


def voted(matches: Matches, threshold: float) -> Matches:
    """Return the matches with the label voted for, weighted by nearness; unknown if none is near enough.

    Args:
        matches: The nearest entries.
        threshold: The least similarity of an entry that votes.
    """
    pairs = zip(matches.labels, matches.similarity.tolist(), strict=True)
    voters = [(label, similarity) for label, similarity in pairs if similarity >= threshold]
    if not voters:
        return replace(matches, label=UNKNOWN)
    votes: dict[str, float] = {}
    for label, similarity in voters:
        votes[label] = votes.get(label, 0.0) + math.exp((similarity - voters[0][1]) / _TEMPERATURE)
    return replace(matches, label=max(votes, key=votes.__getitem__))
