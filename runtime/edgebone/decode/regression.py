"""``regression@1``: named numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.bounded import Names
from edgebone.core.errors import BundleError
from edgebone.core.geometry import Geometry
from edgebone.core.results import Regression
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, as_float32, misfit, not_finite
from edgebone.tasks.regression import REGRESSION


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of ``regression@1``.

    Attributes:
        names: The name of each number.
        half_width: One per number: the largest error of nine in ten.
    """

    names: Names
    half_width: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Reject duplicate names and negative widths."""
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names must differ, got {', '.join(self.names)}")
        for value in self.half_width or ():
            if not 0 <= value < float("inf"):
                raise ValueError(f"half_width must be 0 or more, got {value}")


def make(
    name: str, params: Params, _labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> Decoder:
    """Build the decoder; the one output must be (batch, values), in the order of the names.

    The decoder raises EngineError for values that are not finite.
    """
    n = len(params.names)
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].shape[1] != n or not n:
        raise misfit(name, "regression@1", f"one output of shape [batch, {n}] (one per name)", outputs)
    if params.half_width is not None and len(params.half_width) != n:
        raise BundleError(f"head {name}: it has {len(params.half_width)} half widths and {n} names")
    half_width = None if params.half_width is None else np.asarray(params.half_width, np.float32)

    def decode(tensors: Sequence[NDArray[Any]], _: Geometry) -> Regression:
        values = as_float32(tensors[0])
        if not np.isfinite(values).all():
            raise not_finite(name)
        return Regression(params.names, values, half_width)

    return decode


SPEC = DecoderSpec("regression@1", REGRESSION, Params, make)
