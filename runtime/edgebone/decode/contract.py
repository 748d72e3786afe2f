"""What a decoder is, what it says of itself, and the errors for outputs that it cannot read."""

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
        name: ``name@version``, as manifests name it. The version changes when its result for the same tensors would.
        task: What its results are.
        params: The struct that a head's params must fit; its fields are what ``edgebone.load`` can set.
        make: Builds the decoder of a head.
        box_reader: Of a detector: builds what reads boxes before any suppression, from the same arguments as ``make``.
        may_be_empty: Whether an output may have no rows where nothing was found.
        in_graph: Place of the function that appends the same decoding to a graph, ``module:name``, imported by
            ``edgebone import`` alone; empty where only the host decodes.
    """

    name: str
    task: Task[Any]
    params: type[msgspec.Struct]
    make: Make
    box_reader: Callable[..., Any] | None = None
    may_be_empty: bool = False
    in_graph: str = ""


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
