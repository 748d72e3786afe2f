"""Errors of a depth head against measured distances."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.depth import DepthMap
from edgebone.core.errors import SourceError
from edgebone.core.foreign import foreign
from edgebone.core.manifest import Head
from edgebone.core.reading import read_regular
from edgebone.evaluate.answers import LeftOut, answers, refuse
from edgebone.evaluate.contract import Evaluation, Figures, Truth
from edgebone.evaluate.pairs import pair_files
from edgebone.evaluate.predictor import Predictor
from edgebone.sources.images import open_picture
from edgebone.tasks.depth import DEPTH

_WHAT, _SUFFIXES = "depths", (".npy", ".png")
# The unit of 16-bit pictures of depth, as cameras and ROS (REP 118) write them.
_STEPS_A_METRE = 1000
# The largest ratio of an estimate to the truth, or the reverse, that counts as right: Eigen et al. 2014.
_RATIO = 1.25


@dataclass(frozen=True)
class DepthAccuracy:
    """Errors, over all measured pixels that the network saw.

    Attributes:
        abs_rel: The mean over pictures of the mean absolute error as a share of the true distance.
        delta1: The mean over pictures of the share of pixels whose ratio to the true distance is below 1.25, 0 to 1.
        n: The number of pictures counted.
    """

    abs_rel: float
    delta1: float
    n: int


def read_depth(path: Path) -> NDArray[np.float64]:
    """Read measured distances in metres, (height, width); where nothing was measured they are not positive, or NaN.

    A ``.npy`` file holds metres; a PNG with 16 bits holds millimetres.

    Raises:
        SourceError: It cannot be read, or is of another form.
    """
    if path.suffix.lower() == ".npy":
        with foreign(lambda reason: SourceError(f"{path}: not an array of distances in metres ({reason})")):
            content = io.BytesIO(read_regular(path, limits.GOLDEN_BYTES))
            found: NDArray[Any] = np.lib.format.read_array(content, allow_pickle=False)
        if found.ndim != 2 or found.dtype.kind not in "fiu":
            raise SourceError(f"{path}: expected numbers of shape (height, width), found {found.dtype} {found.shape}")
        return found.astype(np.float64)
    with open_picture(path) as image:
        if not image.mode.startswith("I"):
            raise SourceError(f"{path}: distances are a PNG with one channel of 16 bits, this is {image.mode}")
        return np.asarray(image).astype(np.float64) / _STEPS_A_METRE


def compare_depth(result: DepthMap, truth: NDArray[np.float64]) -> tuple[float, float] | None:
    """Compare one picture's depth with the truth, of the picture's size.

    Relative depth has neither scale nor offset: those that fit the picture's inverse distances best are taken first, as
    MiDaS does (Ranftl et al. 2020).

    Returns:
        The mean absolute error as a share of the truth, and the share of pixels within a ratio of 1.25; None if no
        pixel was measured.
    """
    found = result.full_size().astype(np.float64)
    counted = np.isfinite(found) & np.isfinite(truth) & (truth > 0)
    if not counted.any():
        return None
    found, truth = found[counted], truth[counted]
    if result.unit == "relative":
        (scale, offset), *_ = np.linalg.lstsq(np.stack([found, np.ones_like(found)], axis=1), 1 / truth, rcond=None)
        # Not farther than twice the farthest measurement: an inverse distance of 0 is infinitely far.
        found = 1 / (scale * found + offset).clip(min=0.5 / truth.max())
    ratio = np.divide(found, truth)
    within = (ratio < _RATIO) & (ratio * _RATIO > 1)
    return float(np.abs(ratio - 1).mean()), float(within.mean())


def evaluate_depth(
    model: Predictor,
    name: str,
    pairs: Sequence[tuple[Path, Path]],
    progress: Callable[[int], None] = lambda _: None,
    left_out: LeftOut = refuse,
) -> DepthAccuracy:
    """Run a model over pictures with measured distances and count.

    Args:
        model: The model.
        name: The head.
        pairs: Each picture's file and its file of distances, see :func:`read_depth`.
        progress: Called with the number of pictures done.
        left_out: Called with the reason for each picture that is not counted; raises by default.

    Raises:
        SourceError: A file cannot be read, no picture can, distances are of another size than their picture, or none of
            them is measured.
    """
    figures: list[tuple[float, float]] = []
    for place, results in answers(model, [picture for picture, _ in pairs], left_out, progress):
        result = DEPTH.pick(results, name)
        path = pairs[place][1]
        truth = read_depth(path)
        if truth.shape != result.geometry.source_hw:
            height, width = result.geometry.source_hw
            raise SourceError(
                f"{path}: the distances are {truth.shape[1]}x{truth.shape[0]}, their picture, upright, {width}x{height}"
            )
        found = compare_depth(result, truth)
        if found is not None:
            figures.append(found)
    if not figures:
        raise SourceError(f"{pairs[0][1].parent}: no pixel of any picture was measured")
    abs_rel, delta1 = np.mean(figures, axis=0).tolist()
    return DepthAccuracy(round(abs_rel, 6), round(delta1, 6), len(figures))


def _find(data: Path, images: Path | None) -> Path | None:
    return data if images is not None or (data / _WHAT).is_dir() else None


def _read(name: str, _head: Head, labels: Path, images: Path | None) -> Truth:
    _, pairs = pair_files(labels, images, _WHAT, _SUFFIXES)

    def count(model: Predictor, progress: Callable[[int], None], left_out: LeftOut) -> Figures:
        found = evaluate_depth(model, name, pairs, progress, left_out)
        record: dict[str, Any] = {"AbsRel": found.abs_rel, "delta1": found.delta1, "n": found.n}
        text = f"absolute relative error {found.abs_rel:.3f}, delta1 {found.delta1:.3f} on {found.n} pictures"
        return Figures(100 * found.delta1, record, text)

    return Truth(tuple(picture for picture, _ in pairs), count)


EVALUATION = Evaluation(_find, _read)
