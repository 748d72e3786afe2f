"""Decode only the chosen boxes of a detector's file instead of all of them.

A detector computes the corners and class scores of thousands of boxes, of which a few hundred leave the graph. A node
that treats each box separately (a softmax over a box's distances, a product with its stride) returns the same after the
choice as before it. The choice is therefore made as early as possible, and those nodes follow it: columns are taken
where they were concatenated, the best class is found before a sigmoid, and boxes are picked before their corners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

# Elementwise operators of one input; the first group is monotonically increasing. Cast is too, but onnxruntime's
# ReduceMax takes no half precision: a cast to float32 stays before it.
_GROWING = frozenset({"Exp", "Identity", "Relu", "Sigmoid", "Softplus", "Sqrt", "Tanh"})
_ONE_BY_ONE = _GROWING | {"Abs", "Cast", "HardSigmoid", "LeakyRelu", "Log", "Neg", "Reciprocal"}
_OF_TWO = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"})
_REARRANGED = frozenset({"Concat", "Identity", "Reshape", "Slice", "Split", "Transpose"})
# From this opset on a softmax is over one axis, no longer over that axis and all after it.
_SOFTMAX_OPSET = 13
_REDUCE_OPSET = 18


class Builder(Protocol):
    """Adds nodes to a graph."""

    def op(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """Add a node and return its first output."""

    def constant(self, array: Any) -> ir.Value:
        """Add a constant and return its value."""


@dataclass(frozen=True)
class _Maker:
    """The operator that computes a value of static sizes after the batch axis.

    Attributes:
        op: The operator; empty if it is not a standard ONNX one, or the value is a constant or an input.
        inputs: The inputs that are present.
        attributes: Attributes by name.
        sizes: Sizes of the value, from axis 1 on.
    """

    op: str
    inputs: list[ir.Value]
    attributes: dict[str, Any]
    sizes: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.sizes) + 1

    def along(self, usual: int = 0) -> int:
        """Return the axis that the operator works along."""
        return int(self.attributes.get("axis", usual)) % self.rank

    @property
    def perm(self) -> list[int] | None:
        """Return the permutation of a transposed value; None if the batch moves too."""
        perm = self.attributes.get("perm")
        return list(perm) if perm and perm[0] == 0 else None


def _sizes(value: ir.Value) -> tuple[int, ...] | None:
    """Return a value's sizes after the batch axis; None if one is dynamic."""
    if value.shape is None or not len(value.shape):
        return None
    sizes = [size for size in value.shape[1:] if isinstance(size, int)]
    return tuple(sizes) if len(sizes) == len(value.shape) - 1 else None


def _maker(value: ir.Value) -> _Maker:
    sizes, node = _sizes(value), value.producer()
    assert sizes is not None, f"{value.name} has no static shape"
    nothing = _Maker("", [], {}, sizes)
    if node is None or node.domain not in ("", "ai.onnx"):
        return nothing
    given = list(node.inputs)
    while given and given[-1] is None:
        given.pop()
    inputs = [item for item in given if item is not None]
    if len(inputs) < len(given):
        # An omitted input before others: its position gives an input its meaning.
        return nothing
    attributes = {name: item.value for name, item in node.attributes.items()}
    if node.op_type == "Split":
        return _as_slice(node, value, attributes, inputs, sizes) or nothing
    if node.op_type not in ("Conv", "Slice", "Clip") and not all(map(_is_static, inputs)):
        return nothing
    return _Maker(node.op_type, inputs, attributes, sizes)


def _is_static(value: ir.Value) -> bool:
    return _sizes(value) is not None or _constant(value) is not None


def _as_slice(
    node: ir.Node, value: ir.Value, attributes: dict[str, Any], inputs: Sequence[ir.Value], sizes: tuple[int, ...]
) -> _Maker | None:
    """Return one output of a Split as a slice of its input, which begins at ``start`` along its axis."""
    along = int(attributes.get("axis", 0)) % (len(sizes) + 1)
    before = [_sizes(item) for item in node.outputs[: list(node.outputs).index(value)]]
    if along == 0 or not _is_static(inputs[0]) or any(item is None for item in before):
        return None
    start = sum(item[along - 1] for item in before if item is not None)
    return _Maker("Split", list(inputs[:1]), {"axis": along, "start": start}, sizes)


def _constant(value: ir.Value) -> NDArray[Any] | None:
    """Return a constant value; None if it depends on the picture."""
    found = ir.convenience.get_const_tensor(value)
    return None if found is None else found.numpy()


def like(made: ir.Value, value: ir.Value, sizes: Mapping[int, int | None] | None = None) -> ir.Value:
    """Set a new value's type and shape to another's except for some axes; None removes an axis."""
    if made.shape is None and value.shape is not None:
        changed = [(sizes or {}).get(axis, size) for axis, size in enumerate(value.shape)]
        made.shape = ir.Shape([size for size in changed if size is not None])
    if made.dtype is None and value.dtype is not None:
        made.dtype = value.dtype
    return made


def columns(build: Builder, value: ir.Value, axis: int, start: int, end: int) -> ir.Value:
    """Return ``value[:, …, start:end, …]``, taken before the value was concatenated.

    Args:
        build: Builder that adds the nodes.
        value: A value of static sizes after its batch axis.
        axis: The axis to slice; not the batch's.
        start: First index.
        end: Index after the last.
    """
    return like(_columns(build, value, axis, start, end), value, {axis: end - start})


def _columns(build: Builder, value: ir.Value, axis: int, start: int, end: int) -> ir.Value:
    maker = _maker(value)
    if (start, end) == (0, maker.sizes[axis - 1]):
        return value
    if maker.op in _ONE_BY_ONE:
        return build.op(maker.op, columns(build, maker.inputs[0], axis, start, end), **maker.attributes)
    if maker.op == "Transpose" and maker.perm:
        return build.op("Transpose", columns(build, maker.inputs[0], maker.perm[axis], start, end), perm=maker.perm)
    if maker.op == "Reshape" and (kept := _axis_before(maker, axis)):
        return _reshaped(build, columns(build, maker.inputs[0], kept, start, end), maker, axis, end - start)
    if maker.op == "Split" and maker.along() == axis:
        first = maker.attributes["start"]
        return columns(build, maker.inputs[0], axis, first + start, first + end)
    if maker.op == "Concat" and maker.along() != axis:
        return build.op(
            "Concat", *(columns(build, item, axis, start, end) for item in maker.inputs), axis=maker.along()
        )
    if maker.op == "Concat":
        parts, at = [], 0
        for item in maker.inputs:
            size = _maker(item).sizes[axis - 1]
            low, high = max(start - at, 0), min(end - at, size)
            if low < high:
                parts.append(columns(build, item, axis, low, high))
            at += size
        return parts[0] if len(parts) == 1 else build.op("Concat", *parts, axis=axis)
    return _slice(build, value, axis, start, end)


def _slice(build: Builder, value: ir.Value, axis: int, start: int, end: int) -> ir.Value:
    return build.op("Slice", value, *(build.constant(np.array([item], np.int64)) for item in (start, end, axis)))


def _reshaped(build: Builder, value: ir.Value, maker: _Maker, axis: int, size: int) -> ir.Value:
    """Repeat a reshape for a value of another size along an axis."""
    shape = [0, *maker.sizes]
    shape[axis] = size
    return build.op("Reshape", value, build.constant(np.array(shape, np.int64)))


def _axis_before(maker: _Maker, axis: int) -> int | None:
    """Return the axis that a reshape maps to ``axis``; None if it was split or merged."""
    have, want = _sizes(maker.inputs[0]), maker.sizes
    if have is None or np.prod(have) != np.prod(want):
        return None
    before = np.prod(want[: axis - 1])
    places = [place for place, size in enumerate(have, 1) if size == want[axis - 1]]
    return next((place for place in places if np.prod(have[: place - 1]) == before), None)


def largest(build: Builder, value: ir.Value, axis: int, opset: int) -> ir.Value:
    """Return the maximum along an axis, which is removed; found before monotonically increasing operators.

    Args:
        build: Builder that adds the nodes.
        value: (n, a, b) of static sizes.
        axis: 1 or 2.
        opset: The graph's opset.
    """
    return like(_largest(build, value, axis, opset), value, {axis: None})


def _largest(build: Builder, value: ir.Value, axis: int, opset: int) -> ir.Value:
    maker = _maker(value)
    if maker.op in _GROWING:
        return build.op(maker.op, largest(build, maker.inputs[0], axis, opset), **maker.attributes)
    if maker.op == "Transpose" and maker.perm == [0, 2, 1]:
        return largest(build, maker.inputs[0], 3 - axis, opset)
    if maker.op == "Concat" and maker.along() not in (0, axis):
        return build.op("Concat", *(largest(build, item, axis, opset) for item in maker.inputs), axis=1)
    if opset >= _REDUCE_OPSET:
        return build.op("ReduceMax", value, build.constant(np.array([axis], np.int64)), keepdims=0)
    return build.op("ReduceMax", value, axes=[axis], keepdims=0)


def is_share(value: ir.Value) -> bool:
    """Return whether a value's operator limits it to 0 to 1."""
    maker = _maker(value)
    if maker.op in _REARRANGED:
        return all(is_share(item) for item in (maker.inputs if maker.op == "Concat" else maker.inputs[:1]))
    return maker.op in ("HardSigmoid", "Sigmoid", "Softmax")


class Chosen:
    """Values of the chosen boxes only.

    Args:
        build: Builder that adds the nodes.
        place: Indices of the boxes that each picture keeps, (n, k).
        k: Number of boxes.
        opset: The graph's opset.
    """

    def __init__(self, build: Builder, place: ir.Value, k: int, opset: int) -> None:
        self._build, self._place, self._k, self._opset = build, place, k, opset
        self._done: dict[tuple[ir.Value, int], ir.Value] = {}

    def at(self, value: ir.Value, axis: int) -> ir.Value:
        """Return a value for the chosen boxes only; ``axis`` is the box axis, not the batch's."""
        if (value, axis) not in self._done:
            self._done[value, axis] = like(self._at(value, axis), value, {axis: self._k})
        return self._done[value, axis]

    def _at(self, value: ir.Value, axis: int) -> ir.Value:
        build, maker = self._build, _maker(value)
        op, inputs, attributes = maker.op, maker.inputs, maker.attributes
        if op in _ONE_BY_ONE or self._is_independent(maker, axis):
            return build.op(op, self.at(inputs[0], axis), *inputs[1:], **attributes)
        if op in _OF_TWO:
            sides = [self._side(item, maker, axis) for item in inputs]
            if all(sides):
                return build.op(op, *(side for side in sides if side), **attributes)
        if op == "Concat" and maker.along() not in (0, axis):
            return build.op(op, *(self.at(item, axis) for item in inputs), **attributes)
        if op == "Transpose" and maker.perm:
            return build.op(op, self.at(inputs[0], maker.perm[axis]), **attributes)
        if op == "Split" and maker.along() != axis:
            start = attributes["start"]
            return _slice(build, self.at(inputs[0], axis), maker.along(), start, start + maker.sizes[maker.along() - 1])
        if op == "Reshape" and (kept := _axis_before(maker, axis)):
            return _reshaped(build, self.at(inputs[0], kept), maker, axis, self._k)
        return self._gather(value, maker, axis)

    def _is_independent(self, maker: _Maker, axis: int) -> bool:
        """Return whether an operator with constants treats each index along an axis independently."""
        if maker.op == "Softmax":
            return self._opset >= _SOFTMAX_OPSET and maker.along(-1) not in (0, axis)
        settings = [found for item in maker.inputs[1:] if (found := _constant(item)) is not None]
        if not maker.inputs or not _is_static(maker.inputs[0]) or len(settings) < len(maker.inputs) - 1:
            return False
        if maker.op == "Clip":
            return True
        if maker.op == "Slice" and len(settings) >= 3:
            return not {0, axis} & {int(item) % maker.rank for item in np.ravel(settings[2])}
        return maker.op == "Conv" and axis >= 2 and _is_pointwise(maker)

    def _side(self, value: ir.Value, maker: _Maker, axis: int) -> ir.Value | None:
        """Return one operand of a broadcasting operator for the chosen boxes; None if that is not possible."""
        constant = _constant(value)
        if constant is None:
            sizes = _sizes(value)
            if sizes is None or len(sizes) != len(maker.sizes):
                return None
            return value if sizes[axis - 1] == 1 else self.at(value, axis)
        own = constant.ndim - maker.rank + axis
        if own < 0 or constant.shape[own] == 1:
            return value
        constant = constant.reshape((1,) * (maker.rank - constant.ndim) + constant.shape)
        if constant.shape[0] != 1:
            return None
        table = np.ascontiguousarray(np.moveaxis(constant[0], axis - 1, 0))
        rows = self._build.op("Gather", self._build.constant(table), self._place, axis=0)
        perm = [0, *range(2, axis + 1), 1, *range(axis + 1, maker.rank)]
        return rows if axis == 1 else self._build.op("Transpose", rows, perm=perm)

    def _gather(self, value: ir.Value, maker: _Maker, axis: int) -> ir.Value:
        build = self._build
        if value.shape is not None and value.shape[0] == 1:
            # A batch of one needs no GatherElements, which is several times slower.
            return build.op(
                "Gather", value, build.op("Reshape", self._place, build.constant(np.array([-1]))), axis=axis
            )
        shape, wide = [0] + [1] * len(maker.sizes), [1, *maker.sizes]
        shape[axis], wide[axis] = self._k, 1
        place = build.op("Reshape", self._place, build.constant(np.array(shape, np.int64)))
        return build.op(
            "GatherElements", value, build.op("Expand", place, build.constant(np.array(wide, np.int64))), axis=axis
        )


def _is_pointwise(maker: _Maker) -> bool:
    """Return whether a convolution computes each position from that position alone."""
    weights = _constant(maker.inputs[1])
    plain = {"strides": 1, "pads": 0}
    return (
        maker.rank == 4
        and weights is not None
        and weights.shape[2:] == (1, 1)
        and "auto_pad" not in maker.attributes
        and all(set(maker.attributes.get(name, [usual])) <= {usual} for name, usual in plain.items())
    )
