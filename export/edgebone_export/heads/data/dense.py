"""Read data for heads on maps: pictures with masks, with boxes, or normal pictures only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.foreign import foreign
from edgebone.core.geometry import Geometry
from edgebone.core.reading import is_regular, read_regular
from edgebone.evaluate.annotated_sizes import stated_wh
from edgebone.evaluate.pictures import find_pictures
from edgebone.evaluate.segmentation import read_mask, read_masks
from edgebone_export.errors import ExportError
from edgebone_export.heads.data.labelled import check_spelling
from edgebone_export.heads.data.masks import mask_to_network
from edgebone_export.heads.maps.detection_metrics import Boxes
from edgebone_export.models.labels import read_labels


@dataclass(frozen=True)
class Dense:
    """Pictures, and each one's target in the network's input.

    Attributes:
        pictures: Picture files.
        labels: Class names by class id; none for normal pictures.
        target: Maps a picture's index, its geometry, and whether it is mirrored, to a mask or boxes in pixels of the
            network's input.
        sizes_wh: Widths and heights of the pictures from the annotations; empty if these have none.
    """

    pictures: tuple[Path, ...]
    labels: tuple[str, ...]
    target: Callable[[int, Geometry, bool], NDArray[np.uint8] | Boxes | None]
    sizes_wh: tuple[tuple[int, int] | None, ...] = ()


def read_segmentation(data: Path, images: Path | None, labels: Path | None) -> Dense:
    """Read a folder of masks, or one with ``images`` and ``masks``; class names from ``labels`` or ``labels.txt``.

    Raises:
        SourceError: A folder, a picture or the names are missing, or a mask cannot be read.
        ExportError: The names cannot be read, one is empty, there are fewer than two, or two are the same or differ
            only in case.
    """
    pairs = read_masks(data, images)
    file = labels or next((path for path in (data / "labels.txt", data.parent / "labels.txt") if path.is_file()), None)
    if file is None:
        raise SourceError(f"{data}: expected a labels.txt with one class name per line; or pass --labels FILE")
    names = read_labels(file)
    if "" in names:
        raise ExportError(
            f"{file}: line {names.index('') + 1} is empty; line n names the masks' value n - 1: write a name"
        )
    if len(names) < 2 or len(set(names)) != len(names):
        raise ExportError(f"{file}: expected two or more different class names, the background's first")
    check_spelling(file, names)

    def target(row: int, geometry: Geometry, mirrored: bool) -> NDArray[np.uint8]:
        mask = read_mask(pairs[row].mask, len(names))
        return mask_to_network(np.ascontiguousarray(mask[:, ::-1]) if mirrored else mask, geometry)

    return Dense(tuple(pair.picture for pair in pairs), names, target)


class _Picture(msgspec.Struct, frozen=True):
    id: int
    file_name: str
    width: Any = None
    height: Any = None


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Annotation(msgspec.Struct, frozen=True):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0


class _Instances(msgspec.Struct, frozen=True):
    images: list[_Picture]
    categories: list[_Category]
    annotations: list[_Annotation]


def read_detection(data: Path, images: Path | None) -> Dense:
    """Read COCO annotations: the file, or a folder with ``instances.json``. Crowds are skipped.

    Raises:
        SourceError: It is not an annotation file, or it refers to a missing picture or category.
        ExportError: Names of categories differ only in case.
    """
    file = data / "instances.json" if data.is_dir() else data
    with foreign(lambda reason: SourceError(f"{file}: not COCO annotations ({reason}); pass an instances.json")):
        found = msgspec.json.decode(read_regular(file, limits.ANNOTATIONS_BYTES), type=_Instances)
    folder = images or file.parent / "images"
    paths = {picture.id: folder / picture.file_name for picture in found.images}
    lost = [path for path in paths.values() if not is_regular(path)]
    if lost or not paths:
        what = f"{len(lost)} of its pictures are missing, such as {lost[0]}" if lost else "it lists no pictures"
        raise SourceError(f"{file}: {what}; pass their folder with --images DIR")
    categories = sorted(found.categories, key=lambda category: category.id)
    check_spelling(file, (category.name for category in categories))
    place = {category.id: index for index, category in enumerate(categories)}
    boxes: dict[int, list[tuple[int, tuple[float, float, float, float]]]] = {number: [] for number in paths}
    for item in found.annotations:
        if item.category_id not in place or item.image_id not in boxes:
            raise SourceError(
                f"{file}: a box has category {item.category_id} and picture {item.image_id}, one of which is missing"
            )
        if not item.iscrowd:
            boxes[item.image_id].append((place[item.category_id], item.bbox))
    numbers = list(paths)

    def target(row: int, geometry: Geometry, mirrored: bool) -> Boxes:
        own = boxes[numbers[row]]
        xywh = np.asarray([box for _, box in own], np.float64).reshape(-1, 4)
        if mirrored:
            xywh[:, 0] = geometry.source_hw[1] - xywh[:, 0] - xywh[:, 2]
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).reshape(-1, 2, 2)
        height, width = geometry.network_hw
        xyxy = geometry.to_network(corners).reshape(-1, 4).clip(0, (width, height, width, height))
        # Boxes that the crop removes, or reduces to less than a pixel, cannot be found.
        seen = ((xyxy[:, 2:] - xyxy[:, :2]) >= 1).all(axis=1)
        return xyxy[seen].astype(np.float32), np.asarray([index for index, _ in own], np.int64)[seen]

    sizes_wh = {picture.id: stated_wh(picture.width, picture.height) for picture in found.images}
    names = tuple(category.name for category in categories)
    return Dense(tuple(paths.values()), names, target, tuple(sizes_wh[number] for number in numbers))


def read_normal(data: Path) -> Dense:
    """Read every picture under a folder.

    Raises:
        SourceError: The folder has none.
    """
    pictures = find_pictures(data) or []
    if not pictures:
        raise SourceError(f"{data}: expected a folder of pictures, found a video")
    return Dense(tuple(pictures), (), lambda _row, _geometry, _mirrored: None)
