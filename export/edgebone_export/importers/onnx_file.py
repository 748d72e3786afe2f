"""Reads a foreign ONNX file, and refuses what could not be run everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import external_data_helper

from edgebone.core.foreign import foreign
from edgebone_export.errors import ExportError

_NEWEST_OPSET = int(onnx.defs.onnx_opset_version())
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def read_onnx(path: Path) -> ir.Model:
    """Load a file with all its data.

    Raises:
        ExportError: It is missing or no ONNX, its opset is unknown, it is built of functions of its own, or data
            that it keeps in other files is missing or lies outside of its folder.
    """
    if not path.is_file():
        raise ExportError(f"{path}: no such file")
    with foreign(lambda reason: ExportError(f"{path}: not an ONNX file ({reason})")):
        proto = onnx.load(path, load_external_data=False)
    if not proto.graph.node or not proto.graph.input:
        raise ExportError(f"{path}: not an ONNX file: it holds no network")
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > _NEWEST_OPSET:
            raise ExportError(
                f"{path}: opset {entry.version} is unknown here (the newest is {_NEWEST_OPSET}); "
                "export it with an older opset, or pip install --upgrade onnx"
            )
    _check_external(proto, path)
    with foreign(lambda reason: ExportError(f"{path}: its data cannot be read ({reason})")):
        onnx.load_external_data_for_model(proto, str(path.parent))
        return ir.from_proto(proto)


def _check_external(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse data in other files that is missing, or that the file has no business with."""
    folder = path.parent.resolve()
    for tensor in _tensors(proto.graph):
        if not external_data_helper.uses_external_data(tensor):
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        target = (folder / location).resolve()
        if not location or not target.is_relative_to(folder):
            raise ExportError(f"{path}: {tensor.name} points to {location!r}, outside of the file's folder; refused")
        if not target.is_file():
            raise ExportError(
                f"{path}: {tensor.name} is kept in {location}, which is missing; copy it to {path.parent}"
            )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def fix_input(
    model: ir.Model, path: Path, size_hw: tuple[int, int] | None, batch: tuple[int, int] | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Give the one input its sizes, in place.

    Args:
        model: The graph.
        path: Its file, for messages.
        size_hw: What the user says of a free height and width.
        batch: Smallest and largest batch that the user wants; None takes the file's own, or 1 where it is free.

    Returns:
        Height and width in pixels, and the smallest and largest batch.

    Raises:
        ExportError: There is another number of inputs, it is no picture, or sizes are free or contradict.
    """
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    shapes = ", ".join(f"{value.name} {_shape_text(value)}" for value in inputs)
    if len(inputs) != 1:
        raise ExportError(f"{path}: a picture goes in by one input, this network has {len(inputs)}: {shapes}")
    value = inputs[0]
    shape = value.shape
    if shape is None or len(shape) != 4 or value.dtype not in _FLOATS or 3 not in (shape[1], shape[3]):
        raise ExportError(
            f"{path}: the input should be float [batch, 3, height, width] or [batch, height, width, 3], "
            f"found {value.dtype} {shapes}"
        )
    first = 2 if shape[1] == 3 else 1
    said: list[int | None] = [item if isinstance(item, int) else None for item in shape[first : first + 2]]
    if size_hw is not None and any(item not in (None, want) for item, want in zip(said, size_hw, strict=True)):
        raise ExportError(f"{path}: the input is {shapes}, its size is built in; --size {_x(size_hw)} cannot change it")
    height, width = size_hw or said
    if height is None or width is None:
        raise ExportError(f"{path}: the input is {shapes}; say its height and width: --size HEIGHTxWIDTH")
    own = shape[0] if isinstance(shape[0], int) else None
    low, high = batch or (own or 1, own or 1)
    if own is not None and (low, high) != (own, own):
        raise ExportError(
            f"{path}: the input is {shapes}, its batch of {own} is built in; --batch cannot change it: "
            "export the network with a free batch"
        )
    free: int | str = low if low == high else "batch"
    picture = (3, height, width) if first == 2 else (height, width, 3)
    value.shape = ir.Shape([free, *picture])
    return (height, width), (low, high)


def _shape_text(value: ir.Value) -> str:
    return "of unknown shape" if value.shape is None else f"[{', '.join(str(item) for item in value.shape)}]"


def _x(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[0]}x{size_hw[1]}"
