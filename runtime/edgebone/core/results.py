"""A network's results in the field's terms. Nothing found is an empty typed array, never None."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgebone.core.shown import Shown

if TYPE_CHECKING:
    from edgebone.core.head_file import HeadManifest


class Result(Protocol):
    """What every head's decoder returns for one picture."""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON values (no NumPy scalars)."""

    def __str__(self) -> str:
        """The result in one line, for people."""


ABSTAIN = "abstain"
"""The decision when the probabilities are too close."""


@dataclass(frozen=True, repr=False)
class Classification(Shown):
    """The most likely classes of one picture, best first.

    Attributes:
        class_id: int64, shape (k,).
        confidence: float32, shape (k,), 0 to 1, descending.
        labels: The k classes' names.
        probabilities: float32, shape (number of classes,): every class's probability, by class id.
        decision: The class that the head's operating point chooses, or ``abstain``; None without an operating point.
    """

    class_id: NDArray[np.int64]
    confidence: NDArray[np.float32]
    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    decision: str | None = None

    @property
    def label(self) -> str:
        """The most likely class's name."""
        return self.labels[0]

    def to_dict(self) -> dict[str, Any]:
        """``{"classes": [{"class_id": …, "label": …, "confidence": …}, …]}``, best first.

        With an operating point, its choice is under ``decision``.
        """
        found: dict[str, Any] = {"classes": _classes(self.class_id, self.labels, self.confidence)}
        return found if self.decision is None else {**found, "decision": self.decision}

    def __str__(self) -> str:
        """``tabby 61.2 %, Egyptian cat 20.0 %``; with an operating point ``abstain (benign 55.0 %, …)``."""
        classes = _percentages(self.labels, self.confidence)
        return classes if self.decision is None else f"{self.decision} ({classes})"


@dataclass(frozen=True, repr=False)
class MultiLabel(Shown):
    """The labels that hold for one picture, most certain first; they are independent of each other.

    Attributes:
        class_id: int64, shape (n,).
        confidence: float32, shape (n,), 0 to 1, descending.
        labels: The n labels' names; empty if no label holds.
        probabilities: float32, shape (number of labels,): every label's probability, by class id.
    """

    class_id: NDArray[np.int64]
    confidence: NDArray[np.float32]
    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """``{"labels": [{"class_id": …, "label": …, "confidence": …}, …], "probabilities": […]}``."""
        return {
            "labels": _classes(self.class_id, self.labels, self.confidence),
            "probabilities": [round(float(value), 6) for value in self.probabilities],
        }

    def __str__(self) -> str:
        """``dog 91.2 %, sofa 55.0 %``, or ``no label``."""
        return _percentages(self.labels, self.confidence) or "no label"


@dataclass(frozen=True, repr=False)
class Regression(Shown):
    """Numbers predicted from one picture.

    Attributes:
        names: The name of each number.
        values: float32, shape (n,).
        half_width: float32, shape (n,): nine of ten true values are within this distance, for pictures like those that
            the head was fitted on; None if unknown.
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]
    half_width: NDArray[np.float32] | None = None

    def to_dict(self) -> dict[str, Any]:
        """``{"values": {name: {"value": …, "half_width": …}, …}}``; without ``half_width`` if unknown."""
        rows: dict[str, dict[str, float]] = {
            name: {"value": float(value)} for name, value in zip(self.names, self.values, strict=True)
        }
        if self.half_width is not None:
            for name, half_width in zip(self.names, self.half_width, strict=True):
                rows[name]["half_width"] = float(half_width)
        return {"values": rows}

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per number."""
        return [{"name": name, **row} for name, row in self.to_dict()["values"].items()]

    def __str__(self) -> str:
        """``weight 182 ± 20.4, age 31 ± 6``."""
        texts = [f"{name} {value:.4g}" for name, value in zip(self.names, self.values, strict=True)]
        if self.half_width is not None:
            texts = [f"{text} ± {width:.3g}" for text, width in zip(texts, self.half_width, strict=True)]
        return ", ".join(texts)


def _classes(
    class_id: NDArray[np.int64], labels: tuple[str, ...], confidence: NDArray[np.float32]
) -> list[dict[str, Any]]:
    return [
        {"class_id": int(index), "label": label, "confidence": round(float(share), 6)}
        for index, label, share in zip(class_id, labels, confidence, strict=True)
    ]


def _percentages(labels: tuple[str, ...], confidence: NDArray[np.float32]) -> str:
    return ", ".join(f"{label} {100 * share:.1f} %" for label, share in zip(labels, confidence, strict=True))


@dataclass(frozen=True, repr=False)
class Embedding(Shown):
    """One picture as a vector; pictures that look alike have vectors that point the same way.

    Attributes:
        vector: float32, shape (d,).
        head: The detached head that made it, which may be swapped; None if the network's graph made it.
    """

    vector: NDArray[np.float32]
    head: HeadManifest | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """``{"embedding": [d numbers]}``."""
        return {"embedding": [round(float(value), 6) for value in self.vector]}

    def rows(self) -> list[dict[str, Any]]:
        """Return one row: the vector's size and length."""
        return [{"numbers": self.vector.size, "length": float(np.linalg.norm(self.vector))}]

    def __str__(self) -> str:
        """``embedding of 1280 numbers, length 12.3``."""
        return f"embedding of {self.vector.size} numbers, length {np.linalg.norm(self.vector):.3g}"


@dataclass(frozen=True, repr=False)
class FeatureMaps(Shown):
    """The backbone's feature maps of one picture, finest first.

    Attributes:
        maps: float32 arrays, each of shape (channels, height, width).
        strides: Network input pixels per cell, one per map.
    """

    maps: tuple[NDArray[np.float32], ...]
    strides: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return shapes, strides and means; the maps themselves are too large for JSON."""
        return {
            "features": [
                {"stride": stride, "shape": list(array.shape), "mean": round(float(array.mean()), 6)}
                for stride, array in zip(self.strides, self.maps, strict=True)
            ]
        }

    def __str__(self) -> str:
        """``stride 8: 32×28×28, stride 16: 96×14×14``."""
        pairs = zip(self.strides, self.maps, strict=True)
        return ", ".join(f"stride {stride}: {'×'.join(map(str, array.shape))}" for stride, array in pairs)


@dataclass(frozen=True, repr=False)
class RawTensors(Shown):
    """The network's raw outputs for one picture.

    Attributes:
        tensors: Arrays by output name, without the batch axis.
    """

    tensors: dict[str, NDArray[Any]]

    def to_dict(self) -> dict[str, Any]:
        """``{"tensors": {name: {"shape": …, "dtype": …, "min": …, "max": …}}}``; the values are too many for JSON."""
        return {
            "tensors": {
                name: {"shape": list(array.shape), "dtype": array.dtype.name, **_range(array)}
                for name, array in self.tensors.items()
            }
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per tensor."""
        return [{"name": name, **row} for name, row in self.to_dict()["tensors"].items()]

    def __str__(self) -> str:
        """``output: float32 3549×85``."""
        shapes = {name: "×".join(map(str, array.shape)) or "scalar" for name, array in self.tensors.items()}
        return ", ".join(f"{name}: {self.tensors[name].dtype} {shape}" for name, shape in shapes.items())


def _range(array: NDArray[Any]) -> dict[str, float | None]:
    """Return the smallest and largest value; None for a value that JSON cannot hold."""
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    if not finite.size:
        return {"min": None, "max": None}
    return {"min": round(float(finite.min()), 6), "max": round(float(finite.max()), 6)}


class HeadResults(Shown, dict[str, Result]):
    """Several heads' results of one picture, by the head's name."""

    def to_dict(self) -> dict[str, Any]:
        """``{"heads": {name: …}}``."""
        return results_to_dict(self)

    def rows(self) -> list[dict[str, Any]]:
        """Each head's rows, with the head's name."""
        return [{"head": name, **row} for name, result in self.items() for row in _rows_of(result)]

    def __str__(self) -> str:
        """Return one line with all heads."""
        return results_to_text(self)


def _rows_of(result: Result) -> list[dict[str, Any]]:
    return result.rows() if isinstance(result, Shown) else [result.to_dict()]


Results = Result | dict[str, Result]
"""A model's results for one frame: the head's result, or for several heads the results by head name."""


def results_to_dict(results: Results) -> dict[str, Any]:
    """Return plain JSON values: one head's own keys, or several heads' under ``heads``."""
    if isinstance(results, dict):
        return {"heads": {name: result.to_dict() for name, result in results.items()}}
    return results.to_dict()


def results_to_text(results: Results) -> str:
    """Return one line for people."""
    if isinstance(results, dict):
        return "; ".join(f"{name}: {result}" for name, result in results.items())
    return str(results)
