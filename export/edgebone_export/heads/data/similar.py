"""Group pictures that look alike, such as shots of one shelf: splitting such a group flatters every figure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebone_export.heads.features.fitted import Features

# One less the cosine of standardised features. Shots of one shelf of groceries were below it; of unrelated photographs
# (500 of ImageNet's classes, MobileNetV2) nine in ten stayed alone.
_ALIKE = 0.4
# For more pictures, the table of distances would take too much time and memory.
_MOST_PICTURES = 3000


@dataclass(frozen=True)
class SimilarGroups:
    """Groups of pictures that look alike.

    Attributes:
        group: int64, (n,): the group of each picture.
        inseparable: Strata whose pictures all look alike and were split regardless, since nothing would be left to
            measure on otherwise.
    """

    group: NDArray[np.int64]
    inseparable: tuple[int, ...]


def group_similar(x: Features, strata: NDArray[np.int64]) -> SimilarGroups:
    """Group pictures that look alike, whatever their classes, by average linkage on standardised features.

    Args:
        x: float32 (n, d), one row per picture. With more than a few thousand, only identical rows are grouped.
        strata: int64 (n,): class ids, or other strata that should be on both sides of a split.

    Returns:
        The groups. Pictures with the same features are always in the same group.
    """
    first: dict[bytes, int] = {}
    same = np.asarray([first.setdefault(row.tobytes(), len(first)) for row in x], np.int64)
    group = same
    if len(first) > 1 and len(x) <= _MOST_PICTURES and np.isfinite(x).all():
        group = _clusters(x[np.unique(same, return_index=True)[1]])[same]
    inseparable = []
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        if len(np.unique(group[rows])) == 1 < len(np.unique(same[rows])):
            inseparable.append(int(stratum))
            group = group.copy()
            group[rows] = group.max() + 1 + same[rows]
    return SimilarGroups(np.unique(group, return_inverse=True)[1].astype(np.int64), tuple(inseparable))


def _clusters(x: Features) -> NDArray[np.int64]:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    spread = x.std(axis=0)
    scaled = (x - x.mean(axis=0)) / np.maximum(spread, 0.01 * max(float(np.median(spread)), 1e-12))
    unit = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    distance = np.maximum(1 - unit @ unit.T, 0)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    return np.asarray(fcluster(tree, _ALIKE, "distance"), np.int64)
