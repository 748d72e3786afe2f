"""Rearrange outputs into the form that the decoders read, both in NumPy and in the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone_export.errors import ExportError
from edgebone_export.importers.graph_decode import Build, check_outputs, with_outputs

Outputs = dict[str, NDArray[Any]]
CORNERS = ("left", "top", "right", "bottom")
CENTERED = ("cx", "cy", "width", "height")
_CORNER_AND_SIZE = ("left", "top", "width", "height")
COLUMNS = (*CORNERS, "score", "class")
Unit = Literal["pixels", "relative"]


class Step(Protocol):
    """One change to the outputs."""

    def numbers(self, outputs: Outputs) -> Outputs:
        """Return the changed outputs; each (n, …)."""

    def graph(self, build: Build, values: dict[str, ir.Value]) -> dict[str, ir.Value]:
        """Make the same change to values of the graph."""


@dataclass(frozen=True)
class Flatten:
    """Reshape (n, classes, 1, 1) to (n, classes), and (n,) to (n, 1).

    Attributes:
        output: The output's name.
    """

    output: str

    def numbers(self, outputs: Outputs) -> Outputs:
        """See :class:`Step`."""
        values = outputs[self.output]
        return {**outputs, self.output: values.reshape(len(values), -1)}

    def graph(self, build: Build, values: dict[str, ir.Value]) -> dict[str, ir.Value]:
        """See :class:`Step`."""
        flat = build.op("Reshape", values[self.output], build.constant(np.array([0, -1], np.int64)))
        return {**values, self.output: flat}


@dataclass(frozen=True)
class BatchFirst:
    """Move the batch axis to the front.

    Attributes:
        output: The output's name.
        axis: The batch axis in the file; None if it has none because it takes one picture at a time.
        shape: The output's shape in the file, for one run.
    """

    output: str
    axis: int | None
    shape: tuple[int, ...]

    def numbers(self, outputs: Outputs) -> Outputs:
        """See :class:`Step`; the reference has already done it run by run."""
        return outputs

    def graph(self, build: Build, values: dict[str, ir.Value]) -> dict[str, ir.Value]:
        """See :class:`Step`."""
        value = values[self.output]
        if self.axis is None:
            moved = build.op("Reshape", value, build.constant(np.array([1, *self.shape], np.int64)))
        else:
            others = [axis for axis in range(len(self.shape)) if axis != self.axis]
            moved = build.op("Transpose", value, perm=[self.axis, *others])
        return {**values, self.output: moved}


@dataclass(frozen=True)
class Scale:
    """Scale boxes from fractions of the input's sides to pixels; the first four values along the axis are a box.

    Attributes:
        output: The output's name: (n, boxes, 4 + …) or (n, 4 + …, boxes).
        axis: The axis that holds a box's values, 1 or 2.
        count: Length of that axis.
        size_hw: Height and width of the network's input, in pixels.
    """

    output: str
    axis: int
    count: int
    size_hw: tuple[int, int]

    @property
    def _factors(self) -> NDArray[np.float32]:
        height, width = self.size_hw
        factors = np.array([width, height, width, height, *[1] * (self.count - 4)], np.float32)
        return factors[:, None] if self.axis == 1 else factors

    def numbers(self, outputs: Outputs) -> Outputs:
        """See :class:`Step`."""
        return {**outputs, self.output: outputs[self.output].astype(np.float32) * self._factors}

    def graph(self, build: Build, values: dict[str, ir.Value]) -> dict[str, ir.Value]:
        """See :class:`Step`."""
        scaled = build.op("Mul", build.floats(values[self.output]), build.constant(self._factors))
        return {**values, self.output: scaled}


@dataclass(frozen=True)
class Rows:
    """Convert reordered rows, or three outputs, to rows of left, top, right, bottom in pixels, score, class.

    Attributes:
        outputs: One output of rows (n, k, 6), or classes (n, k), boxes (n, k, 4) and scores (n, k).
        columns: Names of the columns of the rows, or of the boxes.
        unit: Whether boxes are in pixels of the network's input or fractions of its sides.
        size_hw: Height and width of the network's input, in pixels.
        result: Name of the new output.
    """

    outputs: tuple[str, ...]
    columns: tuple[str, ...]
    unit: Unit
    size_hw: tuple[int, int]
    result: str

    @property
    def changes(self) -> bool:
        """Whether the rows differ from the runtime's form."""
        return len(self.outputs) != 1 or self.columns != COLUMNS or self.unit != "pixels"

    @property
    def _scale(self) -> NDArray[np.float32]:
        height, width = self.size_hw
        return np.array([width, height] * 2 if self.unit == "relative" else [1] * 4, np.float32)

    def numbers(self, outputs: Outputs) -> Outputs:
        """See :class:`Step`."""
        taken = [outputs[name].astype(np.float32) for name in self.outputs]
        if len(taken) == 3:
            classes, boxes, scores = taken
        else:
            boxes = taken[0]
            scores, classes = (boxes[..., self.columns.index(name)] for name in ("score", "class"))
        form = _form(self.columns)
        a, b = (boxes[..., [self.columns.index(name) for name in pair]] for pair in (form[:2], form[2:]))
        if form == CENTERED:
            half = b * np.float32(0.5)
            a, b = a - half, a + half
        elif form == _CORNER_AND_SIZE:
            b = a + b
        corners = np.concatenate([a, b], axis=-1) * self._scale
        rows = np.concatenate([corners, scores[..., None], classes[..., None]], axis=-1, dtype=np.float32)
        return {**outputs, self.result: rows}

    def graph(self, build: Build, values: dict[str, ir.Value]) -> dict[str, ir.Value]:
        """See :class:`Step`."""
        taken = [build.floats(values[name]) for name in self.outputs]
        if len(taken) == 3:
            classes, boxes, scores = taken
            column = build.constant(np.array([0, -1, 1], np.int64))
            classes, scores = build.op("Reshape", classes, column), build.op("Reshape", scores, column)
        else:
            boxes = taken[0]
            scores, classes = (build.pick(boxes, [self.columns.index(name)]) for name in ("score", "class"))
        form = _form(self.columns)
        a, b = (build.pick(boxes, [self.columns.index(name) for name in pair]) for pair in (form[:2], form[2:]))
        if form == CENTERED:
            half = build.op("Mul", b, build.constant(np.float32(0.5)))
            a, b = build.op("Sub", a, half), build.op("Add", a, half)
        elif form == _CORNER_AND_SIZE:
            b = build.op("Add", a, b)
        corners = build.op("Concat", a, b, axis=2)
        if self.unit == "relative":
            corners = build.op("Mul", corners, build.constant(self._scale))
        rows = build.op("Concat", corners, scores, classes, axis=2)
        return {**values, self.result: rows}


def _form(columns: Sequence[str]) -> tuple[str, ...]:
    """Return which of the three box forms the columns have."""
    return next(form for form in (CORNERS, CENTERED, _CORNER_AND_SIZE) if set(form) <= set(columns))


def parse_columns(said: Any, count: int, name: str) -> tuple[str, ...]:
    """Check the user's column names of rows or boxes.

    Args:
        said: A list, or comma-separated names.
        count: 6 for rows, 4 for boxes.
        name: The head's name, for messages.

    Raises:
        ExportError: They do not form a box, or their number is wrong.
    """
    columns = tuple(said.split(",")) if isinstance(said, str) else tuple(said) if isinstance(said, list) else ()
    more = ("score", "class") if count == 6 else ()
    if sorted(map(str, columns)) not in [sorted((*form, *more)) for form in (CORNERS, CENTERED, _CORNER_AND_SIZE)]:
        raise ExportError(
            f"head {name}: columns must be {','.join((*CORNERS, *more))}, {','.join((*CENTERED, *more))} or "
            f"{','.join((*_CORNER_AND_SIZE, *more))}, in any order; found {said}"
        )
    return tuple(map(str, columns))


@dataclass(frozen=True)
class ArrangeOutputs:
    """The pass that applies the steps to the graph.

    Attributes:
        steps: Steps in order.
        outputs: The graph's outputs after the steps.
    """

    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    name: str = "arrange outputs"

    def requires(self, model: ir.Model) -> None:
        """Accept any graph."""

    def apply(self, model: ir.Model) -> ir.Model:
        """Change the graph in place."""
        graph = model.graph
        before = {str(value.name): value for value in graph.outputs}
        values: dict[str, ir.Value] = dict(before)
        build = Build("imported/arrange")
        for step in self.steps:
            values = step.graph(build, values)
        build.add_to(graph)
        for name in self.outputs:
            if name in before and values[name] is not before[name]:
                before[name].name = f"imported/{name}/as_in_the_file"
            values[name].name = name
        return with_outputs(model, [values[name] for name in self.outputs])

    def ensures(self, model: ir.Model) -> None:
        """Check that the graph has the expected outputs."""
        check_outputs(model, self.outputs)


def in_numbers(steps: Sequence[Step], outputs: Mapping[str, NDArray[Any]]) -> Outputs:
    """Apply the steps to the file's own outputs."""
    found = dict(outputs)
    for step in steps:
        found = step.numbers(found)
    return found
