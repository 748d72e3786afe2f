"""Split for cross-validation: all views of a picture on one side, and each class on as many sides as possible."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def folds_of(strata: Rows, picture: Rows, folds: int, seed: int) -> Rows:
    """Assign pictures to folds, those of a class evenly.

    The picture of a class with only one is in no fold, so that it is always trained on: no model without it could
    recognise it. Classes with more pictures are never entirely in one fold.

    Args:
        strata: int64 (n,): each row's class. A picture whose rows have several counts to the rarest.
        picture: int64 (n,): each row's picture.
        folds: Largest number of folds; limited by the pictures of the largest class.
        seed: Seed of the shuffling.

    Returns:
        int64 (n,): the fold in which a row is tested; -1 for none.
    """
    pictures, place = np.unique(picture, return_inverse=True)
    pairs = np.unique(np.stack([place, strata]), axis=1)
    names, index = np.unique(pairs[1], return_inverse=True)
    counts = np.bincount(index)
    # The rarest class of each picture: the first of its pairs, sorted by the number of pictures of a class.
    order = np.lexsort((pairs[1], counts[index], pairs[0]))
    first = order[np.unique(pairs[0][order], return_index=True)[1]]
    stratum = index[first]
    members = [np.flatnonzero(stratum == number) for number in range(len(names))]
    folds = min(folds, max(map(len, members)))
    dealt = np.full(len(pictures), -1, np.int64)
    if folds < 2:
        return dealt[place]
    rng = np.random.default_rng(seed)
    sizes = np.zeros(folds, np.int64)
    for own in sorted(members, key=len, reverse=True):
        if len(own) > 1:
            # The emptiest folds first, so that all end up about the same size.
            turn = np.argsort(sizes, kind="stable")
            dealt[rng.permutation(own)] = turn[np.arange(len(own)) % folds]
            sizes += np.bincount(turn[np.arange(len(own)) % folds], minlength=folds)
    return dealt[place]


def rarest_label(y: NDArray[Any]) -> Rows:
    """Return the rarest label of each row of independent labels (n, labels); -1 for rows without any."""
    counts = y.sum(axis=0)
    rarity = np.where(y, counts, len(y) + 1)
    return np.where(y.any(axis=1), rarity.argmin(axis=1), -1).astype(np.int64)
