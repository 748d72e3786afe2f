"""``embedding@1``: one feature vector, as the network returned it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgebone.core.geometry import Geometry
from edgebone.core.results import Embedding
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, as_float32, misfit
from edgebone.tasks.embedding import EMBEDDING


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``embedding@1`` has no settings."""


def make(
    name: str, _params: Params, _labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> Decoder:
    """Build the decoder; the one output must be (batch, d)."""
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise misfit(name, "embedding@1", "one output of shape [batch, d]", outputs)

    def decode(tensors: Sequence[NDArray[Any]], _: Geometry) -> Embedding:
        return Embedding(as_float32(tensors[0]))

    return decode


SPEC = DecoderSpec("embedding@1", EMBEDDING, Params, make)
