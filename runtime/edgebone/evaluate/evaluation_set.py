"""What an engine's answers are judged on: labelled pictures, or pictures alone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebone.core.ahead import ahead
from edgebone.core.errors import BundleError, SourceError, TensorError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head, Manifest, Preprocess
from edgebone.evaluate.classification import evaluate_classifier, read_labels
from edgebone.evaluate.detection import evaluate_detector, read_instances
from edgebone.evaluate.heads import choose_head, evaluable_heads
from edgebone.evaluate.pictures import find_pictures, spread, video_frames
from edgebone.evaluate.predictor import Predictor
from edgebone.evaluate.segmentation import evaluate_segmentation, read_masks
from edgebone.preprocess import Pixels, preprocess
from edgebone.sources.images import read_image

# Enough for agreement; more pictures of an unlabelled folder are not looked at.
UNLABELLED = 500

# Counts one metric, 0 to 100, by looking at pictures.
Count = Callable[[Predictor], float]


@dataclass(frozen=True)
class EvaluationSet:
    """Pictures, and how answers are counted.

    Attributes:
        name: Name of the file or folder.
        pictures: The picture files, or frames of a video (uint8, BGR).
        metric: ``top-1``, ``AP``, ``mIoU``, or ``agreement`` where there are no labels.
        count: Counts the metric over the pictures that can be read; None without labels.
        check: Holds what the labels say of the pictures against them; to be called before they are looked at.
    """

    name: str
    pictures: tuple[Path | NDArray[np.uint8], ...]
    metric: str
    count: Count | None = None
    check: Callable[[], None] = lambda: None


def read_evaluation(
    data: Path, manifest: Manifest, head: str | None = None, images: Path | None = None
) -> EvaluationSet:
    """Find out what there is to evaluate on.

    Args:
        data: Labels as ``edgebone eval`` takes them; a folder that has them in it (``labels.csv``,
            ``instances.json``, ``masks``); or a folder of pictures or a video without any.
        manifest: The bundle's.
        head: The head that the labels are for; None takes the only one that can be evaluated.
        images: The pictures of boxes and areas, where they do not lie beside the labels.

    Raises:
        SourceError: Nothing is there, or the labels do not fit the pictures.
        BundleError: There is no such head.
    """
    kinds = evaluable_heads(manifest.graph_heads)
    if head is not None or len(kinds) == 1:
        kind, name, chosen = choose_head(manifest.graph_heads, head)
        labels = _labels(data, kind, images)
        if labels is not None:
            return _READERS[kind](data.name, labels, name, chosen, images)
    elif kinds and (images is not None or data.suffix.lower() in (".csv", ".json")):
        raise BundleError(f"{data} has labels, but the bundle has {len(kinds)} heads: say which with --head")
    paths = find_pictures(data)
    pictures = video_frames(data, UNLABELLED) if paths is None else spread(paths, UNLABELLED)
    if not pictures:
        raise SourceError(f"{data}: no frames in it")
    return EvaluationSet(data.name, tuple(pictures), "agreement")


def _labels(data: Path, kind: str, images: Path | None) -> Path | None:
    """The labels that a path is or holds, for a head of this kind; None where it holds pictures alone."""
    if kind == "classification":
        if data.suffix.lower() == ".csv":
            return data
        if (data / "labels.csv").is_file():
            return data / "labels.csv"
        return data if data.is_dir() and any(child.is_dir() for child in data.iterdir()) else None
    if kind == "detection":
        if data.suffix.lower() == ".json":
            return data
        return data / "instances.json" if (data / "instances.json").is_file() else None
    return data if images is not None or (data / "masks").is_dir() else None


def _pass(_: SourceError) -> None:
    """Said already, where the set's pictures were read."""


def _classification(name: str, labels: Path, head_name: str, head: Head, images: Path | None) -> EvaluationSet:
    pictures = read_labels(labels, head.labels)
    return EvaluationSet(
        name,
        tuple(picture.path for picture in pictures),
        "top-1",
        lambda model: evaluate_classifier(model, head_name, pictures, left_out=_pass).top1,
    )


def _detection(name: str, labels: Path, head_name: str, head: Head, images: Path | None) -> EvaluationSet:
    instances = read_instances(labels, images, head)
    return EvaluationSet(
        name,
        tuple(instances.paths.values()),
        "AP",
        lambda model: 100 * evaluate_detector(model, head_name, instances, left_out=_pass)["AP"],
        instances.check_sizes,
    )


def _segmentation(name: str, labels: Path, head_name: str, head: Head, images: Path | None) -> EvaluationSet:
    pictures = read_masks(labels, images)
    return EvaluationSet(
        name,
        tuple(item.picture for item in pictures),
        "mIoU",
        lambda model: 100 * evaluate_segmentation(model, head_name, head.labels, pictures, left_out=_pass).miou,
    )


_READERS = {"classification": _classification, "detection": _detection, "segmentation": _segmentation}


def read_picture(picture: Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture's pixels, uint8 BGR."""
    return picture if isinstance(picture, np.ndarray) else read_image(picture)


def prepared(
    spec: Preprocess, pictures: Sequence[Path | NDArray[np.uint8]], where: str
) -> Generator[tuple[Pixels, Geometry] | str, None, None]:
    """Pictures as a network takes them, read and prepared ahead of whoever takes them.

    Args:
        spec: The bundle's preprocessing.
        pictures: Files, or pictures (uint8, BGR).
        where: What a picture that is no file is from, for messages.

    Returns:
        Of each the network's input, uint8 (height, width, 3), and where the picture lies in it; or why there is none.
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
