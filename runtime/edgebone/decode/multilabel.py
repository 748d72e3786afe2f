"""``multilabel@1``: one independent score per label to the labels that hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import BundleError
from edgebone.core.geometry import Geometry
from edgebone.core.results import MultiLabel
from edgebone.core.tensors import TensorSpec
from edgebone.decode.classification import probabilities
from edgebone.decode.contract import Decoder, DecoderSpec, as_float32, misfit, not_finite
from edgebone.tasks.multilabel import MULTILABEL


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of ``multilabel@1``.

    Attributes:
        activation: ``sigmoid`` for scores, ``none`` if the network's output is already a probability per label.
        thresholds: One probability per label from which it holds; 0.5 each by default.
    """

    activation: Literal["sigmoid", "none"] = "sigmoid"
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Reject thresholds that are not probabilities."""
        for value in self.thresholds or ():
            if not 0 <= value <= 1:
                raise ValueError(f"thresholds must be probabilities, got {value}")


def make(
    name: str, params: Params, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> Decoder:
    """Build the decoder; the one output must be (batch, labels).

    The decoder raises EngineError for scores that are not finite.
    """
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].shape[1] != len(labels):
        raise misfit(name, "multilabel@1", f"one output of shape [batch, {len(labels)}] (one per label)", outputs)
    if params.thresholds is not None and len(params.thresholds) != len(labels):
        raise BundleError(f"head {name}: it has {len(params.thresholds)} thresholds and {len(labels)} labels")
    thresholds = np.full(len(labels), 0.5) if params.thresholds is None else np.asarray(params.thresholds)

    def decode(tensors: Sequence[NDArray[Any]], _: Geometry) -> MultiLabel:
        raw = as_float32(tensors[0])
        if not np.isfinite(raw).all():
            raise not_finite(name)
        shares = probabilities(raw, params.activation)
        held = np.flatnonzero(shares >= thresholds)
        held = held[np.argsort(-shares[held], kind="stable")]
        return MultiLabel(held, shares[held], tuple(labels[index] for index in held), shares)

    return decode


SPEC = DecoderSpec("multilabel@1", MULTILABEL, Params, make)
