"""``raw@1``: the network's raw outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.geometry import Geometry
from edgebone.core.results import RawTensors
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec
from edgebone.tasks.raw import RAW


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``raw@1`` has no settings."""


def make(
    _name: str,
    _params: Params,
    _labels: tuple[str, ...],
    outputs: tuple[TensorSpec, ...],
    _size_hw: tuple[int, int],
) -> Decoder:
    """Build the decoder; it accepts any outputs, including values that are not finite."""

    def decode(tensors: Sequence[NDArray[Any]], _: Geometry) -> RawTensors:
        return RawTensors({spec.name: np.asarray(tensor) for spec, tensor in zip(outputs, tensors, strict=True)})

    return decode


SPEC = DecoderSpec("raw@1", RAW, Params, make)
