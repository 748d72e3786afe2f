"""``classification@1``: one vector of class scores to the k most likely classes and a decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.bounded import Most
from edgebone.core.errors import BundleError
from edgebone.core.geometry import Geometry
from edgebone.core.results import ABSTAIN, Classification
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, as_float32, misfit, not_finite
from edgebone.tasks.classification import CLASSIFICATION

_Decide = Callable[[NDArray[np.float32], int], str | None]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of ``classification@1``.

    Attributes:
        activation: ``softmax`` for exclusive classes, ``sigmoid`` for independent ones, ``none`` if the network's
            output is already a probability.
        top_k: The number of classes in a result.
        positive: The positive one of two classes; the other decision settings apply to its probability.
        threshold: The probability from which the decision is the positive class; 0.5 by default.
        abstain: The range of the positive class's probability, lowest and highest, in which the head abstains.
        abstain_below: Without a positive class: the head abstains if the best class is less probable.
    """

    activation: Literal["softmax", "sigmoid", "none"]
    top_k: Most = 5
    positive: str | None = None
    threshold: float | None = None
    abstain: tuple[float, float] | None = None
    abstain_below: float | None = None

    def __post_init__(self) -> None:
        """Reject a result without classes, and contradictory decision settings."""
        if self.positive is None and (self.threshold is not None or self.abstain is not None):
            raise ValueError("threshold and abstain need positive: the class whose probability they apply to")
        if self.positive is not None and self.abstain_below is not None:
            raise ValueError("abstain_below is for heads without a positive class; abstain is for those with one")
        low, high = self.abstain or (0.0, 1.0)
        if not 0 <= low <= high <= 1:
            raise ValueError(f"abstain must be two probabilities, the lower first, got {low} and {high}")
        if self.threshold is not None and not low <= self.threshold <= high:
            raise ValueError(f"threshold must be a probability, {low} to {high}, got {self.threshold}")
        if self.abstain_below is not None and not 0 <= self.abstain_below <= 1:
            raise ValueError(f"abstain_below must be a probability, got {self.abstain_below}")


def make(
    name: str, params: Params, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> Decoder:
    """Build the decoder; the one output must be (batch, classes) with a label each.

    The decoder raises EngineError for scores that are not finite: any class would be arbitrary.
    """
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].shape[1] != len(labels):
        raise misfit(name, "classification@1", f"one output of shape [batch, {len(labels)}] (one per label)", outputs)
    k = min(params.top_k, len(labels))
    decide = _decision(name, params, labels)

    def decode(tensors: Sequence[NDArray[Any]], _: Geometry) -> Classification:
        raw = as_float32(tensors[0])
        if not np.isfinite(raw).all():
            raise not_finite(name)
        scores = probabilities(raw, params.activation)
        # Only the top k are sorted: a full sort of thousands of classes would cost more than the softmax.
        top = np.argpartition(scores, -k)[-k:]
        top = top[np.argsort(-scores[top], kind="stable")]
        names = tuple(labels[index] for index in top)
        return Classification(top, scores[top], names, scores, decide(scores, int(top[0])))

    return decode


def _decision(name: str, params: Params, labels: tuple[str, ...]) -> _Decide:
    """Return the function that decides on probabilities and the best class."""
    if (params.abstain is not None or params.abstain_below is not None) and ABSTAIN in labels:
        raise BundleError(f"head {name}: a class is named {ABSTAIN!r}, which stands for no decision")
    if params.positive is not None:
        if len(labels) != 2 or labels.count(params.positive) != 1:
            raise BundleError(
                f"head {name}: positive is {params.positive!r}, which must be one of two labels, not of "
                f"{', '.join(map(repr, labels[:5]))}{' …' if len(labels) > 5 else ''}"
            )
        positive = labels.index(params.positive)
        negative = labels[1 - positive]
        # An empty range: no probability is above 1 and below 0.
        low, high = params.abstain or (1.0, 0.0)
        threshold = 0.5 if params.threshold is None else params.threshold
        if params.abstain is not None:
            threshold = min(max(threshold, low), high)

        def of_two(scores: NDArray[np.float32], _: int) -> str:
            probability = float(scores[positive])
            if low <= probability <= high:
                return ABSTAIN
            return labels[positive] if probability >= threshold else negative

        return of_two
    least = params.abstain_below
    if least is None:
        return lambda _scores, _best: None
    return lambda scores, best: labels[best] if scores[best] >= least else ABSTAIN


def probabilities(scores: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """Convert class scores, shape (classes,), to probabilities of the same shape."""
    if activation == "softmax":
        exponentials = np.exp(scores - scores.max())
        return np.asarray(exponentials / exponentials.sum(), np.float32)
    if activation == "sigmoid":
        # Split by sign, so that exp never overflows.
        small = np.exp(-np.abs(scores))
        return np.asarray(np.where(scores >= 0, 1 / (1 + small), small / (1 + small)), np.float32)
    return scores


SPEC = DecoderSpec("classification@1", CLASSIFICATION, Params, make)
