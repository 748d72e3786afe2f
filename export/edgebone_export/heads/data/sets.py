"""Read the training and validation data of each kind of head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from edgebone.evaluate.annotated_sizes import check_sizes
from edgebone_export.heads.data.dense import Dense, read_detection, read_normal, read_segmentation
from edgebone_export.heads.data.labelled import Labelled, Task, has_classes, read_labelled
from edgebone_export.heads.kinds import (
    AnomalySettings,
    DetectionSettings,
    HeadSettings,
    RegressionSettings,
    SegmentationSettings,
)

Pictures = TypeVar("Pictures", Labelled, Dense)


@dataclass(frozen=True)
class Sets(Generic[Pictures]):
    """Pictures with their targets.

    Attributes:
        train: Training data; a share is held out if there is no ``val``.
        val: Data to measure on; None if a share of ``train`` is held out.
        odd: Anomalous pictures to measure on; None if there are none.
    """

    train: Pictures
    val: Pictures | None
    odd: Pictures | None = None


def classes(data: Path, val: Path | None, _: HeadSettings) -> Sets[Labelled]:
    """Read pictures of one class each; see :func:`edgebone_export.heads.data.labelled.read_labelled`."""
    return _labelled(data, val, "classes")


def classes_or_none(data: Path, val: Path | None, _: HeadSettings) -> Sets[Labelled]:
    """Read pictures of one class each, or pictures without classes."""
    return _labelled(data, val, "classes" if has_classes(data) else "none")


def several_labels(data: Path, val: Path | None, _: HeadSettings) -> Sets[Labelled]:
    """Read pictures of several labels each."""
    return _labelled(data, val, "labels")


def values(data: Path, val: Path | None, settings: RegressionSettings) -> Sets[Labelled]:
    """Read pictures with numbers."""
    return _labelled(data, val, "values", settings.columns or ())


def _labelled(data: Path, val: Path | None, task: Task, columns: tuple[str, ...] = ()) -> Sets[Labelled]:
    train = read_labelled(data, task, columns=columns)
    return Sets(train, None if val is None else read_labelled(val, task, train.names))


def masks(data: Path, val: Path | None, settings: SegmentationSettings) -> Sets[Dense]:
    """Read pictures with masks; see :func:`edgebone_export.heads.data.dense.read_segmentation`."""
    return Sets(
        read_segmentation(data, settings.images, settings.labels),
        None if val is None else read_segmentation(val, settings.val_images, settings.labels),
    )


def boxes(data: Path, val: Path | None, settings: DetectionSettings) -> Sets[Dense]:
    """Read pictures with boxes, and check the sizes in the annotations.

    See :func:`edgebone_export.heads.data.dense.read_detection`.
    """
    return Sets(_boxes(data, settings.images), None if val is None else _boxes(val, settings.val_images))


def _boxes(data: Path, images: Path | None) -> Dense:
    found = read_detection(data, images)
    # Sizes are checked here, where the pictures will be opened anyway; reading annotations opens none.
    check_sizes(data, zip(found.pictures, found.sizes_wh, strict=True))
    return found


def normal(data: Path, val: Path | None, settings: AnomalySettings) -> Sets[Dense]:
    """Read normal pictures, and anomalous ones to measure on."""
    odd = settings.anomalous
    return Sets(read_normal(data), None if val is None else read_normal(val), None if odd is None else read_normal(odd))
