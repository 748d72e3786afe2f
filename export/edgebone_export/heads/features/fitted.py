"""What fitting gives: a small graph, how it is read, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.tensors import TensorSpec

Features = NDArray[np.float32]
VECTOR = "vector"
"""The one input of a head on vectors."""
OPSET = 18
"""The opset that heads are written in."""


@dataclass(frozen=True)
class Samples:
    """Feature vectors with what they should lead to.

    Attributes:
        x: float32, shape (n, d): one row a view of a picture.
        y: Shape (n,) int64 class ids; (n, labels) bool for independent labels; (n, values) float64 for regression.
        picture: int64, shape (n,): the number of the picture that each row is a view of. Rows of one picture must
            never be on both sides of a split.
        alike: int64, shape (n,): the same number for pictures that look alike, such as shots of one shelf; they must
            not be on both sides of a split, either. None where that is not known.
    """

    x: Features
    y: NDArray[Any]
    picture: NDArray[np.int64]
    alike: NDArray[np.int64] | None = None

    @property
    def group(self) -> NDArray[np.int64]:
        """int64, shape (n,): what must be on one side of a split."""
        return self.picture if self.alike is None else self.alike

    def take(self, rows: NDArray[Any]) -> Samples:
        """The samples of some rows, by index or by mask."""
        alike = None if self.alike is None else self.alike[rows]
        return Samples(self.x[rows], self.y[rows], self.picture[rows], alike)


@dataclass(frozen=True)
class FittedHead:
    """A head that is not tied to a backbone yet.

    Attributes:
        graph: An ONNX file, opset 18, float32 inputs with the free batch axis ``batch`` first. A head on vectors has
            the input ``vector`` (batch, d); one on maps has an input a tap, by the tap's name (``features_s8``: batch,
            channels, height, width).
        outputs: What the graph gives, in the decoder's order; their first axis is ``batch``.
        decoder: The decoder's ``name@version``.
        labels: Class names by class id; empty where there are no classes.
        params: The decoder's settings.
        report: What was measured, as JSON values.
    """

    graph: bytes
    outputs: tuple[TensorSpec, ...]
    decoder: str
    labels: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
