"""``features@1``: the backbone's feature maps, as the network returned them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgebone.core.bounded import Stride
from edgebone.core.geometry import Geometry
from edgebone.core.results import FeatureMaps
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, as_float32, misfit
from edgebone.tasks.features import FEATURES


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of ``features@1``.

    Attributes:
        strides: Network input pixels per cell, one per output.
    """

    strides: tuple[Stride, ...]


def make(
    name: str, params: Params, _labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> Decoder:
    """Build the decoder; every output must be (batch, channels, height, width), one per stride."""
    if len(outputs) != len(params.strides) or any(len(spec.shape) != 4 for spec in outputs):
        wanted = f"{len(params.strides)} outputs of shape [batch, channels, height, width]"
        raise misfit(name, "features@1", wanted, outputs)

    def decode(tensors: Sequence[NDArray[Any]], _: Geometry) -> FeatureMaps:
        return FeatureMaps(tuple(as_float32(tensor) for tensor in tensors), params.strides)

    return decode


SPEC = DecoderSpec("features@1", FEATURES, Params, make)
