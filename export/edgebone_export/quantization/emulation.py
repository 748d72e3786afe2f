"""Measure the rounding error of each layer with one FP32 graph, in which each layer's rounding has its own switch.

Hundreds of layers are tried one by one; building a session for each would take minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone.engines.batches import in_batches
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.engines.protocol import Outputs
from edgebone_export.graphs.edit import by_name, new_constant, users
from edgebone_export.quantization.dialects import Dialect
from edgebone_export.quantization.insert import Ranges, activation_grid, find_places, rounded_weight
from edgebone_export.quantization.layers import Layer, last_layers

_SWITCHES = "edgebone_switches"
# Approximate time limit for trying all layers one by one.
_EACH_S = 120.0

# Returns the nodes that round a value; the last one's first output is the result.
Rounding = Callable[[ir.Model, ir.Value], list[ir.Node]]


@dataclass(frozen=True)
class Points:
    """The places where one layer rounds.

    Attributes:
        layer: Name of the layer.
        reads: Node name and index of each input that only this node reads rounded.
        values: Names of the values that all nodes read rounded.
        weights: Node name, input index, and the rounded constant for that input.
    """

    layer: str
    reads: tuple[tuple[str, int], ...] = ()
    values: tuple[str, ...] = ()
    weights: tuple[tuple[str, int, NDArray[np.float32]], ...] = ()


def emulate_dialect(
    proto: onnx.ModelProto,
    layers: Sequence[Layer],
    dialect: Dialect,
    ranges: Ranges,
    inputs: NDArray[np.uint8],
    batch: int = 1,
) -> Emulation:
    """Emulate a dialect's rounding of an FP32 graph, layer by layer.

    Args:
        proto: The graph.
        layers: The layers to lower.
        dialect: The dialect.
        ranges: Low and high of each activation.
        inputs: uint8 pictures (n, height, width, 3).
        batch: Pictures per run.
    """
    model = ir.from_proto(proto)
    nodes = by_name(model.graph)
    places = find_places(model, layers, dialect)
    points = []
    for layer in layers:
        node = nodes[layer.name]
        weights: tuple[tuple[str, int, NDArray[np.float32]], ...] = ()
        if layer.weight is not None:
            weights = ((layer.name, layer.weight, rounded_weight(node, layer, dialect)),)
        reads = tuple((layer.name, place) for own, place in places.inputs if own is node)
        values = tuple(str(item.name) for item in node.outputs if item.name in places.outputs)
        points.append(Points(layer.name, reads, values, weights))
    return Emulation(proto, points, _quantized_rounding(dialect, ranges, places.shared), inputs, batch)


def _quantized_rounding(dialect: Dialect, ranges: Ranges, shared: Mapping[str, str]) -> Rounding:
    """Return a rounding to the dialect's grid."""

    def nodes(model: ir.Model, value: ir.Value) -> list[ir.Node]:
        name = str(value.name)
        owner = shared.get(name, name)
        grid = activation_grid(*ranges[owner], dialect)
        constants = []
        for what, array in (("scale", grid.scale), ("zero_point", grid.zero_point)):
            key = f"{owner}_emulated_{what}"
            constants.append(model.graph.initializers.get(key) or new_constant(model, key, array))
        quantize = ir.node("QuantizeLinear", [value, *constants])
        return [quantize, ir.node("DequantizeLinear", [quantize.outputs[0], *constants])]

    return nodes


def cast_rounding(dtype: ir.DataType) -> Rounding:
    """Return a rounding to FP16 or BF16."""

    def nodes(model: ir.Model, value: ir.Value) -> list[ir.Node]:
        there = ir.node("Cast", [value], {"to": int(dtype)})
        return [there, ir.node("Cast", [there.outputs[0]], {"to": int(ir.DataType.FLOAT)})]

    return nodes


class Emulation:
    """A network on some pictures, with a switch for each layer's rounding.

    Args:
        proto: The FP32 graph.
        points: The places where each layer rounds.
        rounding: How to round.
        inputs: uint8 pictures (n, height, width, 3).
        batch: Pictures per run.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        points: Sequence[Points],
        rounding: Rounding,
        inputs: NDArray[np.uint8],
        batch: int = 1,
    ) -> None:
        self._names = [point.layer for point in points]
        self._inputs = in_batches(inputs, batch)
        self._engine = OnnxRuntimeEngine(_switchable(proto, points, rounding), as_written=True)
        self._input = proto.graph.input[0].name
        self._outputs = [spec.name for spec in self._engine.outputs]
        self._exact = self._run(())

    def error(self, active: Collection[str], pictures: int | None = None) -> float:
        """Return the noise that rounding these layers adds to the last layers' outputs, over the signal's power.

        Args:
            active: Names of the layers.
            pictures: Number of runs to use; None for all.

        Returns:
            The worst last layer's mean over the pictures: 0 for no layers; infinite on overflow.
        """
        found = self._run(active, pictures)
        shares = []
        for name in self._outputs:
            noise = signal = 0.0
            for have, want in zip(found, self._exact, strict=False):
                with np.errstate(all="ignore"):
                    noise += float(np.square(have[name].astype(np.float64) - want[name]).sum())
                signal += float(np.square(want[name].astype(np.float64)).sum())
            shares.append(noise / max(signal, 1e-30) if np.isfinite(noise) else np.inf)
        return max(shares)

    def each(self) -> dict[str, float]:
        """Return the error of rounding each layer alone, worst first.

        Large networks have hundreds of slow layers: they are tried on fewer pictures, at least one.
        """
        started = time.monotonic()
        self._run((), 1)
        allowed_s = _EACH_S / max(len(self._names), 1)
        pictures = max(1, min(len(self._inputs), int(allowed_s / (time.monotonic() - started))))
        found = {name: self.error({name}, pictures) for name in self._names}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _run(self, active: Collection[str], pictures: int | None = None) -> list[Outputs]:
        switches = np.array([name in active for name in self._names], bool)
        return [self._engine.run({self._input: one, _SWITCHES: switches}) for one in self._inputs[:pictures]]

    def close(self) -> None:
        """Free the network."""
        self._engine.close()


def _switchable(proto: onnx.ModelProto, points: Sequence[Points], rounding: Rounding) -> bytes:
    model = ir.from_proto(proto)
    nodes = by_name(model.graph)
    ends = last_layers(model) or list(model.graph.outputs)
    switches = ir.Value(name=_SWITCHES, shape=ir.Shape([len(points)]), type=ir.TensorType(ir.DataType.BOOL))
    model.graph.inputs.append(switches)
    opset = model.opset_imports.get("", 18)
    # Before opset 18 the number of parts is implicit.
    count = [ir.AttrInt64("num_outputs", len(points))] if opset >= 18 else []
    split = ir.Node("", "Split", [switches], count, num_outputs=len(points), name="switches_split")
    for index, output in enumerate(split.outputs):
        output.name = f"switch_{index}"
    model.graph.insert_before(model.graph[0], split)
    results = {str(end.name): end for end in ends}
    for point, switch in zip(points, split.outputs, strict=True):
        for name, place, array in point.weights:
            node = nodes[name]
            original = node.inputs[place]
            assert original is not None
            other = new_constant(model, f"{name}_{place}_rounded", array)
            choice = _if(switch, [], other, original, f"{name}_{place}_switch")
            model.graph.insert_before(node, choice)
            node.replace_input_with(place, choice.outputs[0])
        for name, place in point.reads:
            node = nodes[name]
            value = node.inputs[place]
            assert value is not None
            choice = _rounding_if(model, switch, value, rounding, f"{name}_{place}_read")
            model.graph.insert_before(node, choice)
            node.replace_input_with(place, choice.outputs[0])
    # Last, so that a read above may round a rounded value again: on one grid, that changes nothing.
    for point, switch in zip(points, split.outputs, strict=True):
        for output in nodes[point.layer].outputs:
            if output.name not in point.values:
                continue
            readers = users(output)
            choice = _rounding_if(model, switch, output, rounding, f"{output.name}_value")
            model.graph.insert_after(nodes[point.layer], choice)
            for reader, place in readers:
                reader.replace_input_with(place, choice.outputs[0])
            if output.name in results:
                results[str(output.name)] = choice.outputs[0]
    model.graph.outputs.clear()
    for value in results.values():
        value.dtype = ir.DataType.FLOAT
        model.graph.outputs.append(value)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def _rounding_if(model: ir.Model, switch: ir.Value, value: ir.Value, rounding: Rounding, name: str) -> ir.Node:
    inside = rounding(model, value)
    for index, node in enumerate(inside):
        node.outputs[0].name = f"{name}_{index}"
    return _if(switch, inside, inside[-1].outputs[0], value, name)


def _if(switch: ir.Value, inside: Iterable[ir.Node], rounded: ir.Value, exact: ir.Value, name: str) -> ir.Node:
    then_nodes = list(inside)
    if not then_nodes:
        then_nodes = [ir.node("Identity", [rounded])]
        then_nodes[0].outputs[0].name = f"{name}_rounded"
    keep = ir.node("Identity", [exact])
    keep.outputs[0].name = f"{name}_exact"
    branches = {
        "then_branch": ir.Graph([], [then_nodes[-1].outputs[0]], nodes=then_nodes, name=f"{name}_then"),
        "else_branch": ir.Graph([], [keep.outputs[0]], nodes=[keep], name=f"{name}_else"),
    }
    attributes = [ir.Attr(key, ir.AttributeType.GRAPH, graph) for key, graph in branches.items()]
    choice = ir.Node("", "If", [switch], attributes, num_outputs=1, name=name)
    choice.outputs[0].name = f"{name}_out"
    return choice
