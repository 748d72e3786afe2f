"""Top-1 and top-5 of a classifier."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.manifest import Head
from edgebone.evaluate.answers import LeftOut, answers, refuse
from edgebone.evaluate.contract import Evaluation, Figures, Truth
from edgebone.evaluate.pictures import read_rows
from edgebone.evaluate.predictor import Predictor
from edgebone.sources.folders import in_order, pictures_in
from edgebone.tasks.classification import CLASSIFICATION


@dataclass(frozen=True)
class LabelledPicture:
    """A picture file and the class that it shows."""

    path: Path
    class_index: int


@dataclass(frozen=True)
class TopAccuracy:
    """Share of pictures, in percent, whose class is the best one (top1) or among the best five (top5).

    ``n`` is the number of pictures counted.
    """

    top1: float
    top5: float
    n: int


def read_labels(data: Path, labels: Sequence[str]) -> list[LabelledPicture]:
    """Read the pictures' classes.

    Args:
        data: A CSV with the columns ``file`` (relative to the CSV) and ``class_index``; or a folder with one subfolder
            per class, named by the class's label or its index.
        labels: The bundle's labels.

    Raises:
        SourceError: The file does not exist, a column or class is missing or unknown, or it is empty.
    """
    if data.is_dir():
        found = _from_folder(data, labels)
    elif data.is_file():
        found = _from_csv(data, len(labels))
    else:
        raise SourceError(f"{data}: no such file; give a CSV (file,class_index), or a folder of class folders")
    if not found:
        raise SourceError(f"{data}: no labelled pictures in it")
    return found


def _from_csv(path: Path, classes: int) -> list[LabelledPicture]:
    rows = read_rows(path)
    if rows and not {"file", "class_index"} <= rows[0].keys():
        raise SourceError(f"{path}: needs the columns file and class_index, has {', '.join(map(str, rows[0]))}")
    found = []
    for number, row in enumerate(rows, start=2):
        text = (row["class_index"] or "").strip()
        # Python rejects numbers of thousands of digits.
        if not text.isdecimal() or len(text) > len(str(limits.LABELS)) or int(text) >= classes:
            raise SourceError(f"{path}, line {number}: class_index {text!r} is not 0 to {classes - 1}")
        picture = path.parent / (row["file"] or "").strip()
        if not os.path.isfile(picture):  # noqa: PTH113  (Path.is_file raises on a name that is too long)
            raise SourceError(f"{path}, line {number}: no such picture: {picture}")
        found.append(LabelledPicture(picture, int(text)))
    return found


def _from_folder(root: Path, labels: Sequence[str]) -> list[LabelledPicture]:
    by_label = {label: index for index, label in enumerate(labels)}
    if len(by_label) < len(labels):
        # ImageNet has two classes named "crane": a folder of that name would be counted as the wrong one.
        for label in {label for label in labels if list(labels).count(label) > 1}:
            del by_label[label]
    found = []
    for folder in in_order(child for child in root.iterdir() if child.is_dir() and not child.name.startswith(".")):
        index = by_label.get(folder.name)
        if index is None and folder.name.isdecimal() and int(folder.name) < len(labels):
            index = int(folder.name)
        if index is None:
            raise SourceError(
                f"{folder}: {folder.name!r} is neither a label of exactly one class of the bundle "
                f"nor a class index 0 to {len(labels) - 1}"
            )
        found += [LabelledPicture(path, index) for path in pictures_in(folder, deep=True)]
    return found


def _rank(probabilities: NDArray[np.float32], class_index: int) -> int:
    """Return the number of classes ranked before this one; ties by index."""
    own = probabilities[class_index]
    return int(np.sum(probabilities > own) + np.sum(probabilities[:class_index] == own))


def evaluate_classifier(
    model: Predictor,
    name: str,
    pictures: Sequence[LabelledPicture],
    progress: Callable[[int], None] = lambda _: None,
    left_out: LeftOut = refuse,
) -> TopAccuracy:
    """Run the labelled pictures through a model and count.

    Args:
        model: The model.
        name: The classification head.
        pictures: The pictures.
        progress: Called with the number of pictures done.
        left_out: Called with the reason for each picture that is not counted; raises by default.

    Raises:
        SourceError: A picture cannot be read, or none can.
    """
    hits1 = hits5 = n = 0
    for place, results in answers(model, [item.path for item in pictures], left_out, progress):
        rank = _rank(CLASSIFICATION.pick(results, name).probabilities, pictures[place].class_index)
        hits1 += rank < 1
        hits5 += rank < 5
        n += 1
    return TopAccuracy(round(100 * hits1 / n, 3), round(100 * hits5 / n, 3), n)


def _find(data: Path, _: Path | None) -> Path | None:
    if data.suffix.lower() == ".csv":
        return data
    if (data / "labels.csv").is_file():
        return data / "labels.csv"
    return data if data.is_dir() and any(child.is_dir() for child in data.iterdir()) else None


def _read(name: str, head: Head, labels: Path, _: Path | None) -> Truth:
    pictures = read_labels(labels, head.labels)

    def count(model: Predictor, progress: Callable[[int], None], left_out: LeftOut) -> Figures:
        found = evaluate_classifier(model, name, pictures, progress, left_out)
        text = f"top-1 {found.top1:.2f} %, top-5 {found.top5:.2f} % of {found.n} pictures"
        return Figures(found.top1, {"top1": found.top1, "top5": found.top5, "n": found.n}, text)

    return Truth(tuple(picture.path for picture in pictures), count)


EVALUATION = Evaluation(_find, _read, has_folder=False)
