"""What a decoder is, and what its files share: the errors for outputs that it cannot read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import BundleError, EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.results import Result
from edgebone.core.tensors import TensorSpec

Decoder = Callable[[Sequence[NDArray[Any]], Geometry], Result]
"""Takes one picture's outputs, without the batch axis, in the head's order, and the picture's geometry."""


def misfit(name: str, decoder: str, wanted: str, outputs: Sequence[TensorSpec]) -> BundleError:
    """The error for outputs that a decoder cannot read: what it reads, and what the bundle has."""
    found = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in outputs)
    return BundleError(f"head {name}: {decoder} reads {wanted}, the network gives {found or 'nothing'}")


def not_finite(name: str) -> EngineError:
    """The error for outputs with NaN or infinity."""
    return EngineError(
        f"head {name}: the network gave NaN or infinity; edgebone doctor tells which engine and precision do"
    )


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """The array as float32, without a copy where it is already."""
    return np.asarray(array, np.float32)
