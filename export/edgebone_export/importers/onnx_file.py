"""Read an ONNX file of any exporter into one form, and reject what could not run everywhere."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import external_data_helper

from edgebone.core.foreign import foreign
from edgebone.core.limits import ONNX_BYTES
from edgebone.core.reading import read_regular
from edgebone_export.errors import ExportError
from edgebone_export.given import check_onnx_file
from edgebone_export.graphs.edit import at_least
from edgebone_export.graphs.trace import INPUT, IR_VERSION

_NEWEST_OPSET = int(onnx.defs.onnx_opset_version())
# Before this opset, operators broadcast by attributes, and a cast names its type by a string.
_LEAST_OPSET, _CONVERTED_OPSET = 7, 13
_NEWEST_IR_VERSION = 10
_NO_NUMBERS = (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING)
# Names that our own passes use, now or when frames or heads are added later.
_OURS = re.compile(rf"({INPUT}|normalize|frame_input|imported)($|[_/].*)|.*_normalized_[0-9]+", re.DOTALL)


def read_onnx(path: Path) -> ir.Model:
    """Load an ONNX file with its external data.

    Repairs weights listed among the inputs (old files), dynamic sizes written as -1, and nodes listed before those
    that they read. Drops outputs that are not numeric tensors (strings, sequences, maps); a ZipMap is replaced by its
    scores.

    Raises:
        ExportError: It is missing or not ONNX, its opset is unknown, its nodes form a cycle, it has more data than
            one ONNX file can hold, or its external data is missing or outside its folder.
    """
    check_onnx_file(path)
    _check_size(path, path.stat().st_size)
    with foreign(lambda reason: ExportError(f"{path}: not an ONNX file ({reason})")):
        proto = onnx.load_model_from_string(read_regular(path, ONNX_BYTES))
    if not proto.graph.node or not proto.graph.input:
        raise ExportError(f"{path}: not an ONNX file: it contains no network")
    _check_opset(proto, path)
    _check_external(proto, path)
    _free_sizes(proto)
    _keep_numbers(proto, path)
    with foreign(lambda reason: ExportError(f"{path}: its data cannot be read ({reason})")):
        onnx.load_external_data_for_model(proto, str(path.parent))
        proto = at_least(proto, _LEAST_OPSET, _CONVERTED_OPSET, str(path))
        model = ir.from_proto(proto)
        model = ir.passes.common.InlinePass()(model).model
        model = ir.passes.common.RemoveUnusedNodesPass()(model).model
    try:
        model.graph.sort()
    except ValueError as error:
        raise ExportError(f"{path}: not an ONNX network: its nodes form a cycle") from error
    model.ir_version = min(max(model.ir_version, IR_VERSION), _NEWEST_IR_VERSION)
    model.graph.inputs[:] = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    return model


def _check_size(path: Path, size: int) -> None:
    if size > ONNX_BYTES:
        raise ExportError(
            f"{path}: the network has {size / 2**30:.2f} GiB, but a bundle's ONNX file holds at most 2: "
            "store its weights in half precision (onnxconverter_common.float16, or model.half() before "
            "torch.onnx.export(…, external_data=True)), then import that file"
        )


def _check_opset(proto: onnx.ModelProto, path: Path) -> None:
    plain = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not plain:
        raise ExportError(f"{path}: not an ONNX file: it declares no opset")
    if max(plain) > _NEWEST_OPSET:
        raise ExportError(
            f"{path}: opset {max(plain)} is not supported (the newest is {_NEWEST_OPSET}); "
            "export it with an older opset, or pip install --upgrade onnx"
        )


def _check_external(proto: onnx.ModelProto, path: Path) -> None:
    """Reject external data that is missing, too large, or outside the file's folder."""
    folder = path.parent.resolve()
    files = {}
    for tensor in _tensors(proto.graph):
        if not external_data_helper.uses_external_data(tensor):
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        target = (folder / location).resolve()
        if not location or not target.is_relative_to(folder):
            raise ExportError(f"{path}: {tensor.name} points to {location!r}, outside the file's folder")
        if not target.is_file():
            raise ExportError(
                f"{path}: {tensor.name} is stored in {location}, which is missing; copy it to {path.parent}"
            )
        files[target] = target.stat().st_size
    _check_size(path, path.stat().st_size + sum(files.values()))


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _free_sizes(proto: onnx.ModelProto) -> None:
    """Make sizes of -1 dynamic; Paddle's exporter writes dynamic sizes so."""
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_value < 0:
                dimension.Clear()


def _keep_numbers(proto: onnx.ModelProto, path: Path) -> None:
    """Drop outputs that are not numeric tensors."""
    graph = proto.graph
    made_by = {name: node for node in graph.node for name in node.output}
    types = {value.name: value for value in (*graph.value_info, *graph.output)}
    kept: dict[str, onnx.ValueInfoProto] = {}
    for value in graph.output:
        node = made_by.get(value.name)
        if node is not None and node.op_type == "ZipMap":
            # The same scores as a tensor.
            name = node.input[0]
            kept[name] = types.get(name, onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        elif _is_tensor(value) and value.type.tensor_type.elem_type not in _NO_NUMBERS:
            kept[value.name] = value
    if not kept:
        given = ", ".join(value.name for value in graph.output)
        raise ExportError(f"{path}: expected numeric tensors as outputs, found strings, sequences or maps ({given})")
    outputs, tensors = list(kept.values()), [value for value in graph.value_info if _is_tensor(value)]
    for field, values in ((graph.output, outputs), (graph.value_info, tensors)):
        copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in values]
        del field[:]
        field.extend(copies)


def _is_tensor(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.WhichOneof("value") == "tensor_type")


def rename_clashes(model: ir.Model, heads: Collection[str]) -> dict[str, str]:
    """Rename values and nodes whose names edgebone uses, in place.

    Args:
        model: The graph.
        heads: The heads' names, which decoding uses as prefixes of its nodes.

    Returns:
        New names of outputs by old name.
    """
    own = {f"{head}{suffix}" for head in heads for suffix in ("_boxes", "_classes")}
    under = tuple(f"{head}/" for head in heads)
    graphs = [model.graph, *model.graph.subgraphs()]
    values = [value for graph in graphs for value in (*graph.inputs, *graph.initializers.values())]
    values += [value for node in model.graph.all_nodes() for value in node.outputs]
    taken = {value.name for value in values}
    renamed = {}
    for value in dict.fromkeys(values):
        if value in model.graph.inputs:
            continue
        name = value.name or ""
        if _OURS.fullmatch(name) or name in own or name.startswith(under):
            new = f"imported/{name}"
            while new in taken:
                new += "_"
            taken.add(new)
            if value in model.graph.outputs:
                renamed[name] = new
            value.name = new
    for node in model.graph.all_nodes():
        if node.name and (_OURS.fullmatch(node.name) or node.name.startswith(under)):
            node.name = f"imported/{node.name}"
    return renamed


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0][:200]
