"""Merges results of one object, seen several times, into one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgebone.core.results import Classification, Embedding, HeadResults, Result, Results
from edgebone.tasks.classification import CLASSIFICATION
from edgebone.tasks.embedding import EMBEDDING


def merged(seen: Sequence[Results]) -> Results:
    """Return one result for several of the same object.

    Classes: the mean of the probabilities; with an operating point, the decision that most results have, the latest of
    equals. Embeddings: the mean of the unit vectors, of length one. Other results: the latest one.

    Args:
        seen: The model's results, from the earliest to the latest; at least one.
    """
    last = seen[-1]
    if isinstance(last, dict):
        own = {
            name: [results[name] for results in seen if isinstance(results, dict) and name in results] for name in last
        }
        return HeadResults((name, _merged(results)) for name, results in own.items())
    return _merged([result for result in seen if not isinstance(result, dict)])


def _merged(seen: Sequence[Result]) -> Result:
    classes = [item for item in map(CLASSIFICATION.of, seen) if item is not None]
    if len(classes) == len(seen):
        return _of_classes(classes)
    vectors = [item for item in map(EMBEDDING.of, seen) if item is not None]
    return _of_vectors(vectors) if len(vectors) == len(seen) else seen[-1]


def _of_classes(seen: Sequence[Classification]) -> Classification:
    last = seen[-1]
    # A head that was swapped meanwhile may have other classes.
    seen = [item for item in seen if item.probabilities.shape == last.probabilities.shape]
    mean = np.stack([item.probabilities for item in seen]).mean(axis=0, dtype=np.float64)
    probabilities: NDArray[np.float32] = np.asarray(mean, np.float32)
    top = np.argsort(-probabilities, kind="stable")[: len(last.labels)]
    names = {int(index): label for item in seen for index, label in zip(item.class_id, item.labels, strict=True)}
    # A class that is among the best of the mean alone has no name in any of them.
    top = np.array([index for index in top if int(index) in names], np.int64)
    # Of equals the first counted wins.
    decided = Counter(item.decision for item in reversed(seen)).most_common(1)[0][0]
    labels = tuple(names[int(index)] for index in top)
    return Classification(top, probabilities[top], labels, probabilities, decided)


def _of_vectors(seen: Sequence[Embedding]) -> Embedding:
    last = seen[-1]
    # A head that was swapped meanwhile computes vectors that cannot be compared.
    vectors = np.stack([item.vector for item in seen if item.head is last.head]).astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    mean = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0).mean(axis=0)
    length = float(np.linalg.norm(mean))
    return dataclasses.replace(last, vector=(mean / length if length else mean).astype(np.float32))
