"""Find the input that takes the picture, and bind the values of the other inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone_export.errors import ExportError

# Element types of a picture input; the graph converts to them. NumPy has no bfloat16 to run the file itself with.
DTYPES = {
    ir.DataType.FLOAT: np.float32,
    ir.DataType.FLOAT16: np.float16,
    ir.DataType.DOUBLE: np.float64,
    ir.DataType.UINT8: np.uint8,
}
# Grey weights are multiples of a thousandth: slightly more than a half decides ties, whatever the order of summation.
_HALF = 0.5002
# Extra inputs of publishers' exporters, with the values that make boxes pixels of the network's input.
_KNOWN: dict[str, Callable[[int, int], list[float]]] = {
    # RT-DETR's references/deploy, D-FINE, DEIM: width, height.
    "orig_target_sizes": lambda height, width: [width, height],
    # PaddleDetection's deploy: height, width, and the scale from picture to input.
    "im_shape": lambda height, width: [height, width],
    "scale_factor": lambda _height, _width: [1.0, 1.0],
}


@dataclass(frozen=True)
class PictureInput:
    """The inputs of a network.

    Attributes:
        name: Name of the picture input in the file.
        dtype: Its element type.
        planes: Whether channels come first.
        grey: Whether it takes a single channel.
        size_hw: Height and width, in pixels.
        batch: Smallest and largest batch size.
        bound: Values of the other inputs for one picture, by name.
    """

    name: str
    dtype: ir.DataType
    planes: bool
    grey: bool
    size_hw: tuple[int, int]
    batch: tuple[int, int]
    bound: Mapping[str, NDArray[Any]]

    def feeds(self, pictures: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the inputs for a run of the original file.

        Args:
            pictures: (n, 3 or 1, height, width): normalised float32, or bytes if the file takes them.
        """
        own = pictures if self.planes else pictures.transpose(0, 2, 3, 1)
        found = {self.name: np.ascontiguousarray(own, DTYPES[self.dtype])}
        return {**found, **{name: _repeated(value, len(pictures)) for name, value in self.bound.items()}}


def find_input(
    model: ir.Model,
    path: Path,
    size_hw: tuple[int, int] | None,
    batch: tuple[int, int] | None,
    own_size_hw: tuple[int, int] | None,
    stated: Mapping[str, Any],
) -> PictureInput:
    """Find the picture input and set its sizes, in place.

    Args:
        model: The graph.
        path: Path of its file, for messages.
        size_hw: Height and width from the user, for an input whose size is dynamic.
        batch: Smallest and largest batch size from the user; None takes the file's own, or 1 if it is dynamic.
        own_size_hw: Height and width from the file's metadata, for an input whose size is dynamic.
        stated: Values of other inputs, by name: numbers, or lists of numbers.

    Raises:
        ExportError: No input or several could be the picture's, another input has no value, or sizes are missing or
            contradictory.
    """
    inputs = list(model.graph.inputs)
    shapes = ", ".join(f"{value.name} {_shape_text(value)}" for value in inputs)
    unknown = stated.keys() - {str(value.name) for value in inputs}
    if unknown:
        raise ExportError(f"{path}: no input {sorted(unknown)[0]} to bind; the file has {shapes}")
    free = [value for value in inputs if value.name not in stated]
    pictures = [value for value in free if _is_picture(value, 3)] or [value for value in free if _is_picture(value, 1)]
    if len(pictures) != 1:
        found = ", ".join(f"{value.dtype} {value.name} {_shape_text(value)}" for value in inputs)
        raise ExportError(
            f"{path}: expected one input for the picture: float or uint8 [batch, 3, height, width] or "
            f"[batch, height, width, 3], or with 1 grey channel, found {found}; other channel counts are not supported"
        )
    (value,) = pictures
    others = [str(other.name) for other in inputs if other is not value]
    lost = [name for name in others if name not in stated and name not in _KNOWN]
    if lost:
        raise ExportError(
            f"{path}: a picture needs one input, but this network has {len(inputs)}: {shapes}; if the others are the "
            f"same for every picture, pass their values: --bind {lost[0]}=VALUE, a number or a JSON list"
        )
    channels = 3 if _is_picture(value, 3) else 1
    size, batch_range, planes = _fix_sizes(value, path, channels, size_hw, batch, own_size_hw)
    bound = {}
    for other in inputs:
        if other is not value:
            name = str(other.name)
            content = stated[name] if name in stated else _KNOWN[name](*size)
            bound[name] = _array(other, content, path)
    assert value.dtype is not None
    return PictureInput(str(value.name), value.dtype, planes, channels == 1, size, batch_range, bound)


def _is_picture(value: ir.Value, channels: int) -> bool:
    shape = value.shape
    return shape is not None and len(shape) == 4 and value.dtype in DTYPES and channels in (shape[1], shape[3])


def _fix_sizes(
    value: ir.Value,
    path: Path,
    channels: int,
    size_hw: tuple[int, int] | None,
    batch: tuple[int, int] | None,
    own_size_hw: tuple[int, int] | None,
) -> tuple[tuple[int, int], tuple[int, int], bool]:
    shape, text = value.shape, f"{value.name} {_shape_text(value)}"
    assert shape is not None
    if shape[1] == shape[3] == channels:
        raise ExportError(f"{path}: the input is {text}: channels first or last is ambiguous")
    planes = shape[1] == channels
    first = 2 if planes else 1
    said: list[int | None] = [item if isinstance(item, int) else None for item in shape[first : first + 2]]
    if size_hw is not None and any(item not in (None, want) for item, want in zip(said, size_hw, strict=True)):
        raise ExportError(f"{path}: the input is {text} with a fixed size; --size {_x(size_hw)} cannot change it")
    if own_size_hw is not None and any(item not in (None, w) for item, w in zip(said, own_size_hw, strict=True)):
        raise ExportError(
            f"{path}: the input is {text}, but the file's own metadata has imgsz {list(own_size_hw)}: it was changed "
            "after its export; export it again, or pass its preprocessing with --preprocess"
        )
    height, width = size_hw or own_size_hw or said
    if height is None or width is None:
        raise ExportError(f"{path}: the input is {text}; pass its size: --size WIDTHxHEIGHT")
    own = shape[0] if isinstance(shape[0], int) else None
    low, high = batch or (own or 1, own or 1)
    if own is not None and (low, high) != (own, own):
        raise ExportError(
            f"{path}: the input is {text} with a fixed batch of {own}; --batch cannot change it: "
            "export the network with a dynamic batch"
        )
    free: int | str = low if low == high else "batch"
    value.shape = ir.Shape([free, channels, height, width] if planes else [free, height, width, channels])
    return (height, width), (low, high), planes


def _array(value: ir.Value, content: Any, path: Path) -> NDArray[Any]:
    """Return a bound value in its input's element type and shape, for a batch of 1."""
    name, dtype = value.name, value.dtype
    try:
        assert dtype is not None
        array = np.asarray(content, dtype.numpy())
    except (AssertionError, TypeError, ValueError, OverflowError) as error:
        raise ExportError(f"{path}: {content!r} is not a value for the input {name} {_shape_text(value)}") from error
    shape = value.shape
    if shape is None:
        return array
    if array.ndim == len(shape) - 1:
        array = array[None]
    fits = array.ndim == len(shape) and all(
        not isinstance(want, int) or want == have or (axis == 0 and have == 1)
        for axis, (want, have) in enumerate(zip(shape, array.shape, strict=True))
    )
    if not fits:
        raise ExportError(f"{path}: the value {content} does not fit the input {name} {_shape_text(value)}")
    return array


def _repeated(array: NDArray[Any], batch: int) -> NDArray[Any]:
    """Repeat a value for each picture; return it unchanged if it has no batch axis or is shared by all."""
    return np.repeat(array, batch, axis=0) if array.ndim > 1 and len(array) == 1 else array


def bind(model: ir.Model, taken: PictureInput) -> None:
    """Turn inputs other than the picture's into constants, in place, with one row per picture of the batch."""
    graph = model.graph
    low, high = taken.batch
    for value in [value for value in graph.inputs if value.name in taken.bound]:
        name, array = str(value.name), taken.bound[str(value.name)]
        rows = _repeated(array, low)
        constant = ir.Value(
            name=f"imported/{name}/value",
            shape=ir.Shape(rows.shape),
            type=ir.TensorType(ir.DataType.from_numpy(rows.dtype)),
            const_value=ir.tensor(rows, name=f"imported/{name}/value"),
        )
        graph.register_initializer(constant)
        if low == high or array.ndim < 2 or len(array) != 1:
            ir.convenience.replace_all_uses_with(value, constant)
            continue
        tape = ir.tape.Tape()
        tail = [tape.initializer(ir.tensor(np.array(item, np.int64)), name=f"imported/{name}/{what}")
                for what, item in (("rows", [0]), ("shape", array.shape[1:]))]  # fmt: skip
        picture = next(item for item in graph.inputs if item.name == taken.name)
        count = tape.op("Gather", [tape.op("Shape", [picture]), tail[0]], {"axis": 0})
        expanded = tape.op("Expand", [constant, tape.op("Concat", [count, tail[1]], {"axis": 0})])
        _put_before(graph, tape, f"imported/{name}", value, expanded)
    graph.inputs[:] = [value for value in graph.inputs if value.name not in taken.bound]


def to_grey(pictures: NDArray[Any], shares: Sequence[float]) -> NDArray[Any]:
    """Reduce three channels to grey: (n, 3, height, width) to (n, 1, height, width); bytes are rounded."""
    grey = np.tensordot(np.asarray(shares, np.float32), pictures.astype(np.float32), axes=(0, 1))[:, None]
    return np.floor(grey + np.float32(_HALF)).astype(np.uint8) if pictures.dtype == np.uint8 else grey


def insert_grey(model: ir.Model, taken: PictureInput, shares: Sequence[float]) -> PictureInput:
    """Convert three input channels to grey before the network, in place."""
    graph = model.graph
    old = next(value for value in graph.inputs if value.name == taken.name)
    assert old.shape is not None
    shape = list(old.shape)
    shape[1 if taken.planes else 3] = 3
    new = ir.Value(name=taken.name, shape=ir.Shape(shape), type=ir.TensorType(taken.dtype))
    old.name = "imported/grey_input"
    tape = ir.tape.Tape()
    weight = np.asarray(shares, np.float32).reshape((1, 3, 1, 1) if taken.planes else (3, 1))
    value = new if taken.dtype == ir.DataType.FLOAT else tape.op("Cast", [new], {"to": ir.DataType.FLOAT})
    # Operators with the same form in every opset.
    by = tape.initializer(ir.tensor(weight), name="imported/grey/shares")
    value = tape.op("Conv" if taken.planes else "MatMul", [value, by])
    if taken.dtype == ir.DataType.UINT8:
        half = tape.initializer(ir.tensor(np.array(_HALF, np.float32)), name="imported/grey/half")
        value = tape.op("Floor", [tape.op("Add", [value, half])])
    if taken.dtype != ir.DataType.FLOAT:
        value = tape.op("Cast", [value], {"to": taken.dtype})
    _put_before(graph, tape, "imported/grey", old, value)
    graph.inputs[list(graph.inputs).index(old)] = new
    return replace(taken, grey=False)


def _put_before(graph: ir.Graph, tape: ir.tape.Tape, prefix: str, old: ir.Value, new: ir.Value) -> None:
    """Insert a tape's nodes before a graph's, and replace one value with another for all readers."""
    for index, node in enumerate(tape.nodes):
        node.name = f"{prefix}/{index}"
        node.outputs[0].name = f"{prefix}/{index}_out"
    for item in tape.initializers:
        graph.register_initializer(item)
    ir.convenience.replace_all_uses_with(old, new)
    graph.insert_before(graph[0], list(tape.nodes))


def _shape_text(value: ir.Value) -> str:
    return "of unknown shape" if value.shape is None else f"[{', '.join(str(item) for item in value.shape)}]"


def _x(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"
