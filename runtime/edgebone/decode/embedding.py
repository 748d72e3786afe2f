"""``embedding@1``: one feature vector, as the network gave it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgebone.core.errors import BundleError
from edgebone.core.geometry import Geometry
from edgebone.core.results import Embedding
from edgebone.decode.registry import Decoder, as_float32


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``embedding@1`` has no settings."""


def make(name: str, _params: Params, _labels: tuple[str, ...], outputs: tuple[tuple[int | str, ...], ...]) -> Decoder:
    """Build the decoder; the one output must be (batch, d)."""
    if len(outputs) != 1 or len(outputs[0]) != 2:
        raise BundleError(
            f"head {name}: embedding@1 reads one output of shape (batch, d), "
            f"the bundle has {[list(shape) for shape in outputs]}"
        )

    def decode(tensors: Sequence[NDArray[Any]], _: Geometry) -> Embedding:
        return Embedding(as_float32(tensors[0]))

    return decode
