"""Specifies names, dtypes and shapes of an engine's inputs and outputs, and checks arrays against them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.bounded import Name, Size
from edgebone.core.errors import TensorError

Array = NDArray[Any]


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output of a network.

    Attributes:
        name: The tensor's name in the graph.
        dtype: NumPy's name of the element type, such as ``uint8`` or ``float32``.
        shape: One entry per axis: a size, or a name such as ``batch`` if the size is free.
    """

    name: Name
    dtype: Annotated[str, msgspec.Meta(pattern=r"^(bool|u?int(8|16|32|64)|float(16|32|64))$")]
    shape: Annotated[tuple[Size | Name, ...], msgspec.Meta(min_length=1, max_length=limits.AXES)]

    def __str__(self) -> str:
        """Show as ``images: uint8[batch,224,224,3]``."""
        return f"{self.name}: {self.dtype}[{','.join(map(str, self.shape))}]"


def bytes_of(shape: Sequence[int | str], dtype: str) -> int:
    """Return the bytes of a tensor; free axes count as one."""
    return math.prod(size for size in shape if isinstance(size, int)) * np.dtype(dtype).itemsize


def check_feeds(
    feeds: Mapping[str, Array], specs: Sequence[TensorSpec], batch_range: tuple[int, int] | None = None
) -> None:
    """Reject feeds whose names, dtypes or shapes the network does not accept.

    Args:
        feeds: Arrays by input name.
        specs: The network's inputs.
        batch_range: Smallest and largest size of a free first axis.

    Raises:
        TensorError: The first difference found, with what was expected and what was given.
    """
    if feeds.keys() != {spec.name for spec in specs}:
        raise TensorError(
            f"inputs are named {sorted(feeds)}, but the network takes {sorted(spec.name for spec in specs)}"
        )
    for spec in specs:
        array = feeds[spec.name]
        if array.dtype != np.dtype(spec.dtype):
            raise TensorError(f"input {spec} was given dtype {array.dtype}; convert it before the call")
        fits = len(array.shape) == len(spec.shape) and all(
            isinstance(want, str) or want == have for want, have in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            raise TensorError(f"input {spec} was given shape {list(array.shape)}")
        if batch_range and isinstance(spec.shape[0], str):
            low, high = batch_range
            if not low <= array.shape[0] <= high:
                raise TensorError(
                    f"input {spec} takes a batch of {low} to {high}, but was given {array.shape[0]}; "
                    f"split the batch, or export with --batch {low}-{array.shape[0]}"
                )


def check_rows(outputs: Mapping[str, Array], names: Collection[str], rows: int) -> None:
    """Reject outputs without a row for each picture, which may only show when the network runs.

    Args:
        outputs: Arrays by output name, from an engine.
        names: The outputs that are read.
        rows: The number of pictures.

    Raises:
        TensorError: The first output with another number of rows.
    """
    for name in names:
        shape = outputs[name].shape
        if shape[:1] < (rows,):
            raise TensorError(
                f"the network returned {name} of shape {list(shape)} for {rows} pictures, not a row for each"
            )
