"""Splits for cross-validation: all views of a picture on one side, and each class on every side that it can be on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def folds_of(strata: Rows, picture: Rows, folds: int, seed: int) -> Rows:
    """Deal pictures out to folds, the ones of a class evenly.

    A class that has one picture only could be tested only by what has never seen it: its picture is in no fold, so
    that it is always learned from. Classes that have more are never in one fold altogether.

    Args:
        strata: int64, shape (n,): each row's class. A picture whose rows have several counts to the rarest.
        picture: int64, shape (n,): each row's picture.
        folds: How many folds at most; there are no more than the largest class has pictures.
        seed: Of the shuffling.

    Returns:
        int64, shape (n,): the fold in which a row is tested; -1 where it is in none.
    """
    pictures, place = np.unique(picture, return_inverse=True)
    pairs = np.unique(np.stack([place, strata]), axis=1)
    names, index = np.unique(pairs[1], return_inverse=True)
    counts = np.bincount(index)
    # The rarest class of each picture: the first of its pairs when those are ordered by how many pictures have it.
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
            # The emptiest folds first, so that all end at about the same size.
            turn = np.argsort(sizes, kind="stable")
            dealt[rng.permutation(own)] = turn[np.arange(len(own)) % folds]
            sizes += np.bincount(turn[np.arange(len(own)) % folds], minlength=folds)
    return dealt[place]


def rarest_label(y: NDArray[Any]) -> Rows:
    """The rarest label that holds for each row of independent labels (n, labels); -1 where none does."""
    counts = y.sum(axis=0)
    rarity = np.where(y, counts, len(y) + 1)
    return np.where(y.any(axis=1), rarity.argmin(axis=1), -1).astype(np.int64)
