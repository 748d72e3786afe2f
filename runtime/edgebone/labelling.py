"""Writes a bundle's results on footage as training data: a large network teaches a small head."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.detections import Detections
from edgebone.core.errors import OutputError, SourceError
from edgebone.core.frame import Frame
from edgebone.core.keypoints import KeyPoints
from edgebone.core.oriented import CORNERS, areas_of
from edgebone.core.place import load_place
from edgebone.core.results import ABSTAIN, Classification
from edgebone.core.segmentation import SegmentationMap
from edgebone.core.staging import put_in_place, staging
from edgebone.core.writing import as_utf8, writing
from edgebone.decode.heads import find_head
from edgebone.evaluate.pictures import find_pictures
from edgebone.model.model import Model
from edgebone.sources import open_source
from edgebone.sources.folders import pictures_among
from edgebone.sources.globs import files_matching
from edgebone.sources.images import describe_pages, is_picture, read_pages
from edgebone.sources.undamaged import undamaged
from edgebone.tasks.table import TASKS

# From this confidence on a keypoint is more likely visible than not.
_LEAST_VISIBLE = 0.5

WRITTEN = tuple(task for task in TASKS if task.writer)


@dataclass
class Labelled:
    """The written data set.

    Attributes:
        head: The head that labelled it.
        kind: Its task, such as ``detection``.
        pictures: The number of labelled pictures.
        undecided: The number of pictures left out because the head abstains.
        unreadable: Pictures that could not be read, with the reason, including files with unreadable further pages.
        damaged: Damaged frames of a camera; the next ones were used instead.
        found: The number of pictures per class, including the background for areas.
    """

    head: str
    kind: str
    pictures: int = 0
    undecided: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    damaged: int = 0
    found: dict[str, int] = field(default_factory=dict)


def label(
    model: Model,
    source: str,
    target: str | os.PathLike[str],
    *,
    head: str | None = None,
    every: int = 1,
    skip: int = 0,
    most: int | None = None,
    progress: Callable[[int, int | None], None] = lambda _done, _of: None,
) -> Labelled:
    """Write a folder of pictures with a head's results, in the form that fitting and evaluating read.

    It holds ``images/`` with a PNG per picture, ``labels.txt`` with a class name per line, and by the head's kind:
    ``masks/`` with a PNG of class ids per picture; ``labels.csv`` with ``file,label,class_index``; or
    ``instances.json`` in COCO's format, with the class's line number in ``labels.txt``, from 1, as ``category_id``;
    keypoints as COCO has them, the corners of oriented boxes as their ``segmentation``.

    Args:
        model: The teacher.
        source: A picture, folder, video or camera.
        target: The folder to write, atomically.
        head: The head that labels; None for the only one that can.
        every: Use every N-th frame; in a folder every N-th file, with all its pages.
        skip: The number of frames or files to skip at the start: training and test data should be separated in time.
        most: The largest number of pictures; None for all, not allowed for a camera.
        progress: Called with the number of pictures written and, if known, the largest possible total.

    Raises:
        BundleError: No such head, none that can label, or several.
        SourceError: The source cannot be read or has no picture; a camera without ``most``.
        OutputError: The target exists or cannot be written.
    """
    name, task = find_head(model.manifest.heads, WRITTEN, head, "labelling")
    place = Path(target)
    if place.exists():
        raise OutputError(f"{place} exists; choose another folder, or remove it")
    labels = model.manifest.heads[name].labels
    report = Labelled(name, task.name)
    with _Footage(source) as footage:
        if footage.live and most is None:
            raise SourceError(f"{source}: a camera has no end; set the number of pictures with --pictures")
        total = None if footage.count is None else -(-max(footage.count - skip, 0) // every)
        total = most if total is None else min(total, total if most is None else most)
        with _folder(place) as folder:
            answers: Answers = load_place(task.writer)(folder, labels)
            pictures = footage.pictures(every, skip, report)
            with writing(place):
                (folder / "images").mkdir()
                while report.pictures != most and (given := next(pictures, None)) is not None:
                    stem, image = given
                    result = task.pick(model(image, heads=(name,)), name)
                    found = answers.add(stem, image.shape[:2], result)
                    if found is None:
                        report.undecided += 1
                        continue
                    _write_png(folder / "images" / f"{stem}.png", image)
                    report.pictures += 1
                    for index in found:
                        report.found[labels[index]] = report.found.get(labels[index], 0) + 1
                    progress(report.pictures, total)
                answers.close()
                (folder / "labels.txt").write_text("".join(f"{text}\n" for text in labels), encoding="utf-8")
            if not report.pictures:
                why = next(iter(report.unreadable.values()), "the head decides on none of its pictures")
                raise SourceError(f"{source}: nothing to label: {why}")
    return report


@contextmanager
def _folder(target: Path) -> Iterator[Path]:
    """Provide a folder that is renamed to the target when complete, and removed on any error."""
    with ExitStack() as stack:
        with writing(target):
            target.absolute().parent.mkdir(parents=True, exist_ok=True)
            # An inner folder: the outer one is private.
            made = stack.enter_context(staging(target)) / "made"
            made.mkdir()
        yield made
        with writing(target):
            if target.exists():
                raise OutputError(f"{target} exists by now; choose another folder, or remove it")
            put_in_place(made, target)


class _Footage:
    """Pictures with unique names, from files or from a source read frame by frame; a context manager."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._files = _files(text)
        self._source = open_source(text) if self._files is None else None
        self.live = self._source is not None and self._source.live
        self.count = len(self._files) if self._files is not None else None
        if self._source is not None:
            self.count = self._source.frame_count

    def pictures(self, every: int, skip: int, report: Labelled) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Yield every N-th picture, uint8 (height, width, 3) BGR; record unreadable ones."""
        if self._files is not None:
            taken: set[str] = set()
            for path in self._files[skip::every]:
                try:
                    for page in read_pages(path):
                        number = "" if page.number is None else f"_{page.number:06d}"
                        yield _unlike(f"{as_utf8(path.stem)}{number}", taken), page.image
                except SourceError as error:
                    report.unreadable[str(path)] = str(error)
        elif self._source is not None:
            stem = "frame" if self.live else as_utf8(Path(self._text).stem)
            first: int | None = None

            def wanted(frame: Frame) -> bool:
                nonlocal first
                first = frame.index if first is None else first
                number = frame.index - first - skip
                return number >= 0 and number % every == 0

            def damaged(frame: Frame, error: SourceError) -> None:
                if frame.path is None:
                    report.damaged += 1
                else:
                    report.unreadable[frame.path] = str(error)

            try:
                for frame, image in undamaged(self._source, wanted, damaged):
                    yield f"{stem}_{frame.index:06d}", image
            except SourceError as error:
                # A truncated recording: the frames before are good.
                report.unreadable[self._text] = str(error)

    def __enter__(self) -> _Footage:
        return self

    def __exit__(self, *_: object) -> None:
        if self._source is not None:
            self._source.close()


def _files(text: str) -> list[Path] | None:
    """Return the pictures of a folder, a pattern or a file, in order; None for videos, cameras and animations."""
    # For a name that is too long os.path returns False, while Path raises.
    if os.path.isdir(text):  # noqa: PTH112
        return find_pictures(Path(text))
    if os.path.isfile(text):  # noqa: PTH113
        return [Path(text)] if is_picture(Path(text)) and not _is_animated(Path(text)) else None
    return (pictures_among(files_matching(text), text) if glob.has_magic(text) else []) or None


def _is_animated(path: Path) -> bool:
    try:
        return describe_pages(path)[0] != 1
    except SourceError:
        # It is damaged, which reading it will report.
        return False


def _unlike(stem: str, taken: set[str]) -> str:
    """Return the stem, with a number if another folder has a picture of that name."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name


class Answers(Protocol):
    """Writes a head's results as labels; created with the target folder and the head's labels."""

    def add(self, stem: str, size_hw: tuple[int, ...], result: Any) -> list[int] | None:
        """Record a picture's result; return the classes in it, or None if the head abstains."""

    def close(self) -> None:
        """Write the data that is written at the end."""


class Masks:
    """A PNG of class ids per picture."""

    def __init__(self, folder: Path, labels: tuple[str, ...]) -> None:
        self._folder = folder / "masks"

    def add(self, stem: str, size_hw: tuple[int, ...], result: SegmentationMap) -> list[int]:
        """Write a picture's mask; return the classes in it."""
        self._folder.mkdir(exist_ok=True)
        _write_png(self._folder / f"{stem}.png", result.class_id)
        return [int(index) for index in np.flatnonzero(result.area)]

    def close(self) -> None:
        """Nothing is left to write."""


class Classes:
    """``labels.csv``."""

    def __init__(self, folder: Path, labels: tuple[str, ...]) -> None:
        self._path = folder / "labels.csv"
        self._labels = labels
        self._rows: list[tuple[str, str, int]] = []

    def add(self, stem: str, size_hw: tuple[int, ...], result: Classification) -> list[int] | None:
        """Record a picture's class; return None if the head abstains."""
        decided = result.decision or result.label
        if decided == ABSTAIN and ABSTAIN not in self._labels:
            return None
        # Classes may share a name. The decision differs from the best class only between two, whose names differ.
        index = int(result.class_id[0]) if decided == result.label else self._labels.index(decided)
        self._rows.append((f"images/{stem}.png", decided, index))
        return [index]

    def close(self) -> None:
        """Write the file."""
        with self._path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("file", "label", "class_index"), *self._rows])


class Boxes:
    """``instances.json``, in COCO's format; masks as compressed run lengths."""

    def __init__(self, folder: Path, labels: tuple[str, ...]) -> None:
        self._path = folder / "instances.json"
        self._categories: list[dict[str, Any]] = [
            {"id": index, "name": name} for index, name in enumerate(labels, start=1)
        ]
        self._images: list[dict[str, Any]] = []
        self._boxes: list[dict[str, Any]] = []

    def add(self, stem: str, size_hw: tuple[int, ...], result: Detections) -> list[int]:
        """Record a picture's boxes; return their classes."""
        return self._add(stem, size_hw, result, [{}] * len(result))

    def _add(
        self, stem: str, size_hw: tuple[int, ...], result: Detections, more: Sequence[Mapping[str, Any]]
    ) -> list[int]:
        """Record a picture's boxes, with what else each annotation holds."""
        height, width = size_hw
        image = len(self._images) + 1
        self._images.append({"id": image, "file_name": f"{stem}.png", "height": height, "width": width})
        corners = result.xyxy.clip(0, (width, height, width, height)).tolist()
        for (left, top, right, bottom), class_id, score, own in zip(
            corners, result.class_id.tolist(), result.confidence.tolist(), more, strict=True
        ):
            wide, high = right - left, bottom - top
            self._boxes.append(
                {
                    "id": len(self._boxes) + 1,
                    "image_id": image,
                    "category_id": class_id + 1,
                    "bbox": [left, top, wide, high],
                    "area": wide * high,
                    "iscrowd": 0,
                    "score": score,
                    **own,
                }
            )
        if result.mask is not None:
            areas = zip(result.mask.to_rle(), result.mask.area.tolist(), strict=True)
            for entry, (lengths, pixels) in zip(self._boxes[len(self._boxes) - len(result) :], areas, strict=True):
                entry["segmentation"], entry["area"] = lengths, pixels
        return sorted(set(result.class_id.tolist()))

    def close(self) -> None:
        """Write the file."""
        whole = {"images": self._images, "annotations": self._boxes, "categories": self._categories}
        self._path.write_bytes(msgspec.json.encode(whole))


class Keypoints(Boxes):
    """``instances.json``, in COCO's format with keypoints; those more likely visible than not are."""

    def add(self, stem: str, size_hw: tuple[int, ...], result: KeyPoints) -> list[int]:  # type: ignore[override]
        """Record a picture's objects; return their classes."""
        seen = np.ones(result.xy.shape[:2]) if result.keypoint_confidence is None else result.keypoint_confidence
        points = np.concatenate([result.xy, 2.0 * (seen >= _LEAST_VISIBLE)[..., None]], axis=2)
        points *= points[..., 2:] > 0
        names, edges = result.skeleton.names, result.skeleton.edges
        for category in self._categories:
            category |= {"keypoints": list(names), "skeleton": [[a + 1, b + 1] for a, b in edges]}
        more = [
            {"keypoints": row.reshape(-1).round(3).tolist(), "num_keypoints": int((row[:, 2] > 0).sum())}
            for row in points
        ]
        return self._add(stem, size_hw, result.boxes, more)


class Oriented(Boxes):
    """``instances.json``, in COCO's format with the four corners of each box as its segmentation."""

    def add(self, stem: str, size_hw: tuple[int, ...], result: Detections) -> list[int]:
        """Record a picture's boxes; return their classes."""
        corners = result[CORNERS].reshape(len(result), 8).round(3).tolist()
        areas = areas_of(result[CORNERS].astype(np.float64)).round(3).tolist()
        more = [{"segmentation": [row], "area": area} for row, area in zip(corners, areas, strict=True)]
        return self._add(stem, size_hw, result, more)


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    good, coded = cv2.imencode(".png", image)
    if not good:
        raise OutputError(f"{path.name}: a picture of shape {list(image.shape)} cannot be written as PNG")
    path.write_bytes(coded.tobytes())
