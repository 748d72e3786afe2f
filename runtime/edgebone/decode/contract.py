"""The contract of decoders, their rows, and the errors for outputs that they cannot read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import BundleError, EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.results import Result
from edgebone.core.tensors import TensorSpec
from edgebone.tasks.contract import Task

Decoder = Callable[[Sequence[NDArray[Any]], Geometry], Result]
"""Takes one picture's outputs, without the batch axis, in the head's order, and the picture's geometry."""
Make = Callable[[str, Any, tuple[str, ...], tuple[TensorSpec, ...], tuple[int, int]], Decoder]
"""Takes a head's name, for messages, its params, labels and outputs (batch axis included), and height and width of the
network's input in pixels; raises BundleError for outputs that it cannot read."""


@dataclass(frozen=True)
class DecoderSpec:
    """A decoder's row.

    Attributes:
        name: ``name@version``, as in manifests. The version changes if its result for the same tensors would.
        task: The task of its results.
        params: The struct that a head's params must fit; its fields are what ``edgebone.load`` can set.
        make: Builds the decoder of a head.
        box_reader: For a detector: builds the reader of boxes before suppression, from the same arguments as ``make``.
        may_be_empty: Whether an output may have no rows if nothing was found.
        in_graph: Place of the function that appends the same decoding to a graph, ``module:name``, imported only by
            ``edgebone import``; empty if only the host decodes.
        decoded: The decoder that reads what ``in_graph`` returns; empty for the same one.
    """

    name: str
    task: Task[Any]
    params: type[msgspec.Struct]
    make: Make
    box_reader: Callable[..., Any] | None = None
    may_be_empty: bool = False
    in_graph: str = ""
    decoded: str = ""


def misfit(name: str, decoder: str, wanted: str, outputs: Sequence[TensorSpec]) -> BundleError:
    """Return the error for outputs that a decoder cannot read, with what it reads and what the bundle has."""
    found = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in outputs)
    return BundleError(f"head {name}: {decoder} reads {wanted}, the network outputs {found or 'nothing'}")


def not_finite(name: str) -> EngineError:
    """Return the error for outputs with NaN or infinity."""
    return EngineError(
        f"head {name}: the network returned NaN or infinity; edgebone doctor shows which engine and precision do"
    )


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return the array as float32, without a copy if it already is."""
    return np.asarray(array, np.float32)
