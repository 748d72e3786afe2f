"""Inputs of a fit, and its result: a small graph, its decoder, and the measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.tensors import TensorSpec

Features = NDArray[np.float32]
VECTOR = "vector"
"""The single input of a head on vectors."""
OPSET = 18
"""The opset of heads."""


@dataclass(frozen=True)
class Samples:
    """Feature vectors with their targets.

    Attributes:
        x: float32 (n, d), one row per view of a picture.
        y: Shape (n,) int64 class ids; (n, labels) bool for independent labels; (n, values) float64 for regression.
        picture: int64 (n,): the number of the picture that each row is a view of. Rows of one picture must
            never be on both sides of a split.
        alike: int64 (n,): equal for pictures that look alike, such as shots of one shelf; they must not be on both
            sides of a split either. None if unknown.
    """

    x: Features
    y: NDArray[Any]
    picture: NDArray[np.int64]
    alike: NDArray[np.int64] | None = None

    @property
    def group(self) -> NDArray[np.int64]:
        """int64 (n,): equal for rows that must be on one side of a split."""
        return self.picture if self.alike is None else self.alike

    def take(self, rows: NDArray[Any]) -> Samples:
        """Return the samples of some rows, by index or mask."""
        alike = None if self.alike is None else self.alike[rows]
        return Samples(self.x[rows], self.y[rows], self.picture[rows], alike)


@dataclass(frozen=True)
class OnVectors:
    """The input of a fit on vectors.

    Attributes:
        kind: Name of the kind of head.
        train: Training samples.
        held_out: Samples to measure on; None if there are none.
        names: Class names, labels or names of values; empty without targets.
        seed: Random seed.
        progress: Called with one line per step.
    """

    kind: str
    train: Samples
    held_out: Samples | None
    names: tuple[str, ...]
    seed: int
    progress: Callable[[str], None]


@dataclass(frozen=True)
class MapsOfPictures:
    """Maps of pictures with their targets, one row per view.

    Attributes:
        maps: float16 (n, channels, height, width), by tap.
        targets: One mask or set of boxes per row, in pixels of the network's input; None if there are none.
        picture: int64 (n,): the number of the picture that each row is a view of.
    """

    maps: dict[str, NDArray[np.float16]]
    targets: list[Any]
    picture: NDArray[np.int64]


@dataclass(frozen=True)
class OnMaps:
    """The input of a fit on maps.

    Attributes:
        train: Training pictures.
        held_out: Pictures to measure on.
        odd: Maps of anomalous pictures to measure on; None if there are none.
        labels: Class names by class id; none for normal pictures.
        size_hw: Height and width of the network's input, in pixels.
        seed: Random seed.
        progress: Called with one line per step.
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
    """A fitted head that is not yet tied to a backbone.

    Attributes:
        graph: ONNX file, opset 18, float32 inputs with the dynamic batch axis ``batch`` first. A head on vectors has
            the input ``vector`` (batch, d); one on maps has one input per tap, with the tap's name (``features_s8``:
            batch, channels, height, width).
        outputs: Outputs of the graph, in the decoder's order; their first axis is ``batch``.
        decoder: The decoder's ``name@version``.
        labels: Class names by class id; empty without classes.
        params: The decoder's settings.
        report: Measurements as JSON values.
    """

    graph: bytes
    outputs: tuple[TensorSpec, ...]
    decoder: str
    labels: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
