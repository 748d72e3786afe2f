"""Adapt inputs and outputs of the user's own networks: grey pictures, several tensors, dictionaries, maps."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgebone.core.manifest import Preprocess
from edgebone_export.errors import ExportError, in_one_line
from edgebone_export.models.grey import grey_weights
from edgebone_export.models.output_kinds import Kind
from edgebone_export.models.taps import stride_of

_ALONE = "output"
# The name of the graph's input cannot name an output.
_TAKEN = "images"
# The batch size of the trial run: a size that no other axis is likely to have.
_TRIED = 2

Shapes = Mapping[str, tuple[int, ...]]


class Grey(nn.Module):
    """Converts pictures of three channels to grey for a network that takes one.

    Args:
        module: The network.
        shares: Weight of each of the three channels.
    """

    def __init__(self, module: nn.Module, shares: Sequence[float]) -> None:
        super().__init__()
        self.module = module
        self.shares: Tensor
        self.register_buffer("shares", torch.tensor(shares).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Any:
        """Return the network's outputs for normalised (n, 3, h, w) reduced to (n, 1, h, w)."""
        return self.module((images * self.shares).sum(dim=1, keepdim=True))


class Returned(nn.Module):
    """Returns some of a network's outputs as a tuple.

    Args:
        module: The network.
        names: Names of the outputs as in :func:`flatten`.
        flat: Whether to flatten each output to (n, k).
    """

    def __init__(self, module: nn.Module, names: Sequence[str], flat: bool = False) -> None:
        super().__init__()
        self.module = module
        self._names = tuple(names)
        self._flat = flat

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return one tensor per name for (n, 3, h, w)."""
        found = flatten(self.module(images))
        chosen = tuple(found[name] for name in self._names)
        return tuple(tensor.reshape(tensor.shape[0], -1) for tensor in chosen) if self._flat else chosen


def flatten(returned: object) -> dict[str, Tensor]:
    """Return every tensor of a network's result by name: dictionary keys, fields, positions in a tuple.

    Anything else, such as a loss of None, is skipped.
    """
    found: dict[str, Tensor] = {}
    for path, tensor in _tensors(returned, ()):
        name = re.sub(r"\W", "_", "_".join(path)) or _ALONE
        if name[0].isdigit() or name == _TAKEN:
            name = f"output_{name}"
        while name in found:
            name += "_"
        found[name] = tensor
    return found


def _tensors(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    items: Iterator[tuple[Any, Any]] | list[tuple[Any, Any]] = []
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        items = list(value.items())
    elif dataclasses.is_dataclass(value):
        items = [(item.name, getattr(value, item.name)) for item in dataclasses.fields(value)]
    elif isinstance(value, (list, tuple)):
        items = list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    for key, item in items:
        yield from _tensors(item, (*path, str(key)))


def try_out(module: nn.Module, preprocess: Preprocess, name: str) -> tuple[nn.Module, Shapes]:
    """Run a network once.

    Args:
        module: The network, in eval mode.
        preprocess: The network's preprocessing.
        name: The network's name, for messages.

    Returns:
        The network, after a conversion to grey if it takes one channel, and the shapes of its outputs.

    Raises:
        ExportError: It does not run, or its results are not tensors with the batch first.
    """
    returned = _run(module, 3, preprocess)
    if isinstance(returned, Exception) and not isinstance(_run(module, 1, preprocess), Exception):
        module = Grey(module, grey_weights(preprocess, name))
        returned = _run(module, 3, preprocess)
    if isinstance(returned, Exception):
        height, width = preprocess.size_hw
        raise ExportError(f"{name} does not run at {width}x{height}: {in_one_line(returned)}") from returned
    shapes = {key: tuple(map(int, tensor.shape)) for key, tensor in flatten(returned).items()}
    odd = [f"{key} {list(shape)}" for key, shape in shapes.items() if not shape or shape[0] != _TRIED]
    if odd or not shapes:
        raise ExportError(
            f"{name} must return tensors whose first axis is the batch; for {_TRIED} pictures it returned "
            f"{', '.join(odd) or type(returned).__name__}"
        )
    return module, shapes


def _run(module: nn.Module, channels: int, preprocess: Preprocess) -> object:
    """Return the network's result, or the exception that it raises; it may raise any."""
    try:
        with torch.inference_mode():
            return module(torch.zeros(_TRIED, channels, *preprocess.size_hw))
    except Exception as error:
        return error


def default_kind(shapes: Shapes, numbers: Kind | None = None) -> Literal["logits", "raw"]:
    """Return the default output kind of a network: values with a meaning, or raw tensors.

    Args:
        shapes: Output shapes; empty for a library's network.
        numbers: Stated meaning of the values, if any. A single vector means classes even without one; a single value
            requires one.
    """
    alone = [len(shape) == 2 or math.prod(shape[1:]) == 1 for shape in shapes.values()]
    return "logits" if numbers is not None or alone in ([], [True]) else "raw"


def choose(
    kind: str, shapes: Shapes, size_hw: tuple[int, int], name: str, numbers: Kind | None = None
) -> tuple[str, ...]:
    """Return the output tensors of a user's own network that match the requested kind.

    None if they do not matter: its layers are tapped, or it returns one tensor as a library's network does.

    Raises:
        ExportError: No output matches, or several do.
    """
    if not shapes or kind not in ("logits", "segmentation", "features", "raw"):
        return ()
    if kind == "raw":
        return tuple(shapes)
    if kind == "features":
        maps = {key: shape[2] for key, shape in shapes.items() if len(shape) == 4 and 1 < shape[2] < size_hw[0]}
        # A later map of the same stride replaces an earlier one.
        last = {stride_of(size_hw[0], cells): key for key, cells in maps.items()}
        return tuple(last[stride] for stride in sorted(last)) if len(maps) == len(shapes) else ()
    if kind == "logits":
        fits = _vectors(shapes, numbers)
        if list(shapes) == [_ALONE] == fits and len(shapes[_ALONE]) == 2:
            return ()
    else:
        fits = [key for key, shape in shapes.items() if len(shape) == 4 and shape[1] > 1]
    fits = [kind] if kind in fits else fits
    if len(fits) != 1:
        wanted = "(batch, classes)" if kind == "logits" else "(batch, classes, height, width)"
        found = ", ".join(f"{key} {list(shape)}" for key, shape in shapes.items())
        raise ExportError(
            f"{name}: {kind} must be one output of shape {wanted}, found {found}; try --output raw, which takes all "
            "of them unchanged"
        )
    return tuple(fits)


def _vectors(shapes: Shapes, numbers: Kind | None) -> list[str]:
    """Return the tensors that could be values of a picture: vectors, ignoring axes of size 1."""
    counts = {key: math.prod(shape[1:]) for key, shape in shapes.items() if sum(n > 1 for n in shape[1:]) <= 1}
    if "logits" in counts or len(counts) <= 1:
        return list(counts)
    if numbers == "binary":
        return [key for key, count in counts.items() if count == 1]
    return list(counts) if numbers == "regression" else [key for key, count in counts.items() if count > 1]
