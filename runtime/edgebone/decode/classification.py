"""``classification@1``: one vector of class scores to the k most likely classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.geometry import Geometry
from edgebone.core.results import Classification
from edgebone.core.tensors import TensorSpec
from edgebone.decode.registry import Decoder, as_float32, misfit, not_finite


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of ``classification@1``.

    Attributes:
        activation: ``softmax`` for exclusive classes, ``sigmoid`` for independent ones, ``none`` where the
            network's output is already a probability.
        top_k: How many classes a result lists.
    """

    activation: Literal["softmax", "sigmoid", "none"]
    top_k: int = 5

    def __post_init__(self) -> None:
        """Refuse a result without classes."""
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")


def make(
    name: str, params: Params, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> Decoder:
    """Build the decoder; the one output must be (batch, classes) with a label each.

    The decoder raises EngineError for scores that are not finite: any class named for them would be made up.
    """
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].shape[1] != len(labels):
        raise misfit(name, "classification@1", f"one output of shape [batch, {len(labels)}] (one a label)", outputs)
    k = min(params.top_k, len(labels))

    def decode(tensors: Sequence[NDArray[Any]], _: Geometry) -> Classification:
        raw = as_float32(tensors[0])
        if not np.isfinite(raw).all():
            raise not_finite(name)
        scores = probabilities(raw, params.activation)
        # Only the top k are sorted: a full sort of thousands of classes would cost more than the softmax.
        top = np.argpartition(scores, -k)[-k:]
        top = top[np.argsort(-scores[top], kind="stable")]
        return Classification(top, scores[top], tuple(labels[index] for index in top), scores)

    return decode


def probabilities(scores: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """Class scores, shape (classes,), to probabilities of the same shape."""
    if activation == "softmax":
        exponentials = np.exp(scores - scores.max())
        return np.asarray(exponentials / exponentials.sum(), np.float32)
    if activation == "sigmoid":
        # Split by sign, so that exp never overflows.
        small = np.exp(-np.abs(scores))
        return np.asarray(np.where(scores >= 0, 1 / (1 + small), small / (1 + small)), np.float32)
    return scores
