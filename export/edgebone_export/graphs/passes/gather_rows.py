"""Take whole rows by their numbers with GatherND, which every engine reads alike."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir


@dataclass(frozen=True)
class GatherRows:
    """Replace GatherElements that takes whole rows: its indices are one number a row, repeated for each column.

    So write PyTorch's exporters ``rows.gather(1, index[..., None].expand(…))``, which ends YOLO26. If slices of rows
    that follow each other are gathered, OpenVINO 2026.4 merges the slices, then refuses the shapes as not consistent.
    """

    name: str = "gather rows"

    def requires(self, model: ir.Model) -> None:
        """Accept any graph: one without such nodes is left unchanged."""

    def apply(self, model: ir.Model) -> ir.Model:
        """Replace the nodes in place."""
        found = [node for node in model.graph if node.op_type == "GatherElements" and _rows_of(node) is not None]
        if not found:
            return model
        shapes = _shapes(model)
        for node in found:
            data, index, output = node.inputs[0], _rows_of(node), node.outputs[0]
            assert data is not None and index is not None
            wide, taken = shapes.get(str(data.name)), shapes.get(str(output.name))
            if wide is None or taken is None or len(wide) != 3 or len(taken) != 3:
                continue
            # Fewer columns than there are would be a part of each row; another batch, rows of some pictures.
            if not isinstance(wide[2], int) or wide[2] != taken[2] or wide[0] != taken[0]:
                continue
            attributes = [ir.AttrInt64("batch_dims", 1)]
            rows = ir.Node("", "GatherND", [data, index], attributes, name=node.name)
            ir.convenience.replace_nodes_and_values(model.graph, node, [node], [rows], [output], rows.outputs)
        return model

    def ensures(self, model: ir.Model) -> None:
        """Promise nothing of the graph's form: what cannot be told stays as it was."""


def _rows_of(node: ir.Node) -> ir.Value | None:
    """Return the rows' numbers, (batch, k, 1), if a GatherElements repeats them for each column of rows."""
    axis, indices = node.attributes.get("axis"), node.inputs[1]
    expand = None if indices is None else indices.producer()
    if axis is None or axis.as_int() not in (1, -2) or expand is None or expand.op_type != "Expand":
        return None
    index = expand.inputs[0]
    unsqueeze = None if index is None else index.producer()
    if unsqueeze is None or unsqueeze.op_type != "Unsqueeze" or len(unsqueeze.inputs) < 2:
        return None
    axes = unsqueeze.inputs[1]
    constant = None if axes is None else axes.const_value
    return index if constant is not None and constant.numpy().tolist() in ([2], [-1]) else None


def _shapes(model: ir.Model) -> dict[str, tuple[int | str | None, ...]]:
    inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model), data_prop=True)
    graph = inferred.graph
    return {
        value.name: tuple(
            axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None
            for axis in value.type.tensor_type.shape.dim
        )
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
