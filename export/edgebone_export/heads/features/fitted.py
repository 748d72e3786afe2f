"""What a head is fitted on, and what fitting gives: a small graph, how it is read, and what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
class OnVectors:
    """What a kind on vectors is fitted on.

    Attributes:
        kind: The kind's name.
        train: The samples to fit on.
        held_out: Those to measure on; None where there are none.
        names: Class names, labels or names of values; none where there are no targets.
        seed: Of all that is random.
        progress: Called with a line a step.
    """

    kind: str
    train: Samples
    held_out: Samples | None
    names: tuple[str, ...]
    seed: int
    progress: Callable[[str], None]


@dataclass(frozen=True)
class MapsOfPictures:
    """Maps of pictures with their targets, a row a view.

    Attributes:
        maps: float16, (n, channels, height, width), by tap.
        targets: A mask or boxes a row, in pixels of the network's input; None where there are none.
        picture: int64, (n,): the number of the picture that each row is a view of.
    """

    maps: dict[str, NDArray[np.float16]]
    targets: list[Any]
    picture: NDArray[np.int64]


@dataclass(frozen=True)
class OnMaps:
    """What a kind on maps is fitted on.

    Attributes:
        train: The pictures to fit on.
        held_out: Those to measure on.
        odd: Maps of further pictures to measure on, unlike all others; None where there are none.
        labels: Class names by class id; none for normal pictures.
        size_hw: Height and width of the network's input, in pixels.
        seed: Of all that is random.
        progress: Called with a line a step.
    """

    train: MapsOfPictures
    held_out: MapsOfPictures
    odd: dict[str, NDArray[np.float16]] | None
    labels: tuple[str, ...]
    size_hw: tuple[int, int]
    seed: int
    progress: Callable[[str], None]


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
