"""Sets for judging an engine's answers: labelled pictures, or pictures alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebone.core.ahead import ahead
from edgebone.core.errors import BundleError, SourceError, TensorError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Manifest, Preprocess
from edgebone.decode.heads import heads_of
from edgebone.evaluate.contract import Truth
from edgebone.evaluate.heads import EVALUABLE, choose_head
from edgebone.evaluate.pictures import find_pictures, spread, video_frames
from edgebone.evaluate.predictor import Predictor
from edgebone.preprocess import Pixels, preprocess
from edgebone.sources.images import read_image

# Enough for agreement; further pictures of an unlabelled folder are ignored.
UNLABELLED = 500

# Counts one metric, 0 to 100, over pictures.
Count = Callable[[Predictor], float]


@dataclass(frozen=True)
class EvaluationSet:
    """Pictures, and how answers are scored.

    Attributes:
        name: Name of the file or folder.
        pictures: The picture files, or frames of a video (uint8, BGR).
        metric: ``top-1``, ``AP``, ``mIoU``, or ``agreement`` without labels.
        count: Counts the metric over the pictures that can be read; None without labels.
        check: Checks the labels against the pictures' sizes; call it before ``count``.
    """

    name: str
    pictures: tuple[Path | NDArray[np.uint8], ...]
    metric: str
    count: Count | None = None
    check: Callable[[], None] = lambda: None


def read_evaluation(
    data: Path, manifest: Manifest, head: str | None = None, images: Path | None = None
) -> EvaluationSet:
    """Read an evaluation set.

    Args:
        data: Labels as ``edgebone eval`` takes them; a folder that has them in it (``labels.csv``,
            ``instances.json``, ``masks``); or a folder of pictures or a video without any.
        manifest: The bundle's manifest.
        head: The head that the labels are for; None takes the only one that can be evaluated.
        images: The pictures of boxes and areas, if they are not beside the labels.

    Raises:
        SourceError: The data does not exist, or the labels do not fit the pictures.
        BundleError: No such head.
    """
    heads = manifest.graph_heads
    able = heads_of(heads, *EVALUABLE)
    if head is not None or len(able) == 1:
        name, evaluation = choose_head(heads, head)
        labels = evaluation.find(data, images)
        if labels is not None:
            truth = evaluation.read(name, heads[name], labels, images)
            metric = able[name].metric or "agreement"
            count = functools.partial(_value, truth)
            return EvaluationSet(data.name, truth.pictures, metric, count, truth.check)
    elif able and (images is not None or data.suffix.lower() in (".csv", ".json")):
        raise BundleError(f"{data} has labels, but the bundle has {len(able)} heads: say which with --head")
    paths = find_pictures(data)
    pictures = video_frames(data, UNLABELLED) if paths is None else spread(paths, UNLABELLED)
    if not pictures:
        raise SourceError(f"{data}: no frames in it")
    return EvaluationSet(data.name, tuple(pictures), "agreement")


def _value(truth: Truth, model: Predictor) -> float:
    return truth.count(model, lambda _: None, _pass).value


def _pass(_: SourceError) -> None:
    """Ignore the error, which was reported when the set's pictures were read."""


def read_picture(picture: Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture's pixels, uint8 BGR."""
    return picture if isinstance(picture, np.ndarray) else read_image(picture)


def prepared(
    spec: Preprocess, pictures: Sequence[Path | NDArray[np.uint8]], where: str
) -> Generator[tuple[Pixels, Geometry] | str, None, None]:
    """Yield network inputs, read and prepared ahead of the consumer.

    Args:
        spec: The bundle's preprocessing.
        pictures: Files, or pictures (uint8, BGR).
        where: The origin of pictures that are not files, for messages.

    Returns:
        For each picture the network's input, uint8 (height, width, 3), and its geometry; or the reason for a failure.
    """

    def prepare(picture: Path | NDArray[np.uint8]) -> tuple[Pixels, Geometry] | str:
        out: Pixels = np.zeros((*spec.size_hw, 3), np.uint8)
        try:
            return out, preprocess(spec, read_picture(picture), out)
        except SourceError as error:
            return str(error)
        except TensorError as error:
            return f"{picture if isinstance(picture, Path) else where}: {error}"

    return ahead(prepare, pictures)
