"""Which pictures look alike: shots of one shelf, frames of one scene. Splitting them flatters every figure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebone_export.heads.fitted import Features

# Clusters a class: so many that five folds have something to share, so few that near-duplicates fall into one.
_MOST_CLUSTERS = 6
_LEAST_PICTURES = 3
# Beyond it, the table of distances would be what takes the time and the memory.
_MOST_PICTURES = 3000


def groups_alike(x: Features, y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group the pictures of each class by how alike they look.

    Average linkage on the cosine of standardised features, into at most six groups a class of at least three pictures
    each, on average.

    Args:
        x: float32, (n, d): one row a picture.
        y: int64, (n,): class ids.

    Returns:
        int64, (n,): the group of each picture.
    """
    from sklearn.cluster import AgglomerativeClustering

    spread = x.std(axis=0)
    scaled = (x - x.mean(axis=0)) / np.maximum(spread, 0.01 * max(float(np.median(spread)), 1e-12))
    group = np.zeros(len(x), np.int64)
    count = 0
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        clusters = min(_MOST_CLUSTERS, len(rows) // _LEAST_PICTURES)
        if clusters < 2 or len(rows) > _MOST_PICTURES:
            own = np.arange(len(rows))
        else:
            found = AgglomerativeClustering(n_clusters=clusters, metric="cosine", linkage="average")
            own = np.asarray(found.fit_predict(scaled[rows]), np.int64)
        group[rows] = count + own
        count += int(own.max()) + 1
    return group
