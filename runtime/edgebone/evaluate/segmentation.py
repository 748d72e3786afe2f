"""Mean intersection over union of a segmenting head."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.foreign import foreign
from edgebone.core.reading import read_regular
from edgebone.core.segmentation import SegmentationMap
from edgebone.model import Looker
from edgebone.sources.images import SUFFIXES

# What Pascal VOC and Cityscapes mark as "do not count".
_IGNORED = 255


@dataclass(frozen=True)
class MaskedPicture:
    """A picture's file, and the file with the class of each of its pixels."""

    picture: Path
    mask: Path


@dataclass(frozen=True)
class SegmentationAccuracy:
    """Shares, 0 to 1.

    Attributes:
        miou: Mean of ``iou`` over the classes that occur.
        iou: Intersection over union by label; classes that neither occur nor are found are left out.
        pixel_accuracy: Share of the counted pixels with the right class.
        n: How many pictures were counted.
    """

    miou: float
    iou: dict[str, float]
    pixel_accuracy: float
    n: int


def read_masks(data: Path, images: Path | None) -> list[MaskedPicture]:
    """Pair masks with pictures by their names, suffixes aside.

    Args:
        data: A folder of masks: PNGs whose pixels (or palette entries) are class ids, 255 being not counted. Or
            a folder with the folders ``images`` and ``masks`` in it.
        images: The folder of the pictures; None takes ``images`` in or beside ``data``.

    Raises:
        SourceError: A folder is missing, or a mask has no picture.
    """
    masks = data / "masks" if (data / "masks").is_dir() else data
    folder = images or (data / "images" if (data / "images").is_dir() else data.parent / "images")
    for wanted, what in ((masks, "masks"), (folder, "pictures")):
        if not wanted.is_dir():
            raise SourceError(f"{wanted}: no such folder of {what}; give --data MASKS and --images DIR")
    pictures = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
    found = sorted(path for path in masks.iterdir() if path.suffix.lower() == ".png")
    for path in found:
        if path.stem not in pictures:
            raise SourceError(f"{path}: there is no picture of that name in {folder}")
    if not found:
        raise SourceError(f"{masks}: no masks (.png) in it")
    return [MaskedPicture(pictures[path.stem], path) for path in found]


def evaluate_segmentation(
    model: Looker,
    name: str,
    labels: Sequence[str],
    pictures: Sequence[MaskedPicture],
    progress: Callable[[int], None] = lambda _: None,
) -> SegmentationAccuracy:
    """Run a model over pictures with masks and count.

    Args:
        model: The model.
        name: The head.
        labels: Its labels.
        pictures: What to look at.
        progress: Called with the number of pictures done.

    Raises:
        SourceError: A file cannot be read, or a mask is of another size or has a class without a label.
    """
    counts = np.zeros((len(labels), len(labels)), np.int64)
    for done, item in enumerate(pictures, start=1):
        results = model([item.picture])[0]
        result = results[name] if isinstance(results, dict) else results
        assert isinstance(result, SegmentationMap)
        truth = read_mask(item.mask, len(labels))
        if truth.shape != result.class_id.shape:
            raise SourceError(
                f"{item.mask}: the mask is {truth.shape[0]}x{truth.shape[1]}, its picture "
                f"{result.class_id.shape[0]}x{result.class_id.shape[1]}"
            )
        counted = truth != _IGNORED
        pairs = truth[counted].astype(np.int64) * len(labels) + result.class_id[counted]
        counts += np.bincount(pairs, minlength=len(labels) ** 2).reshape(counts.shape)
        progress(done)
    both = np.diag(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    iou = {label: float(both[index] / either[index]) for index, label in enumerate(labels) if either[index]}
    return SegmentationAccuracy(
        miou=round(float(np.mean(list(iou.values()))) if iou else 0.0, 6),
        iou={label: round(value, 6) for label, value in iou.items()},
        pixel_accuracy=round(float(both.sum() / max(counts.sum(), 1)), 6),
        n=len(pictures),
    )


def read_mask(path: Path, classes: int) -> NDArray[np.uint8]:
    """A mask's class ids, uint8 (height, width): a PNG with one channel or a palette; 255 is not counted.

    Raises:
        SourceError: It cannot be read, has colours, or a class beyond the labels.
    """
    with foreign(lambda reason: SourceError(f"{path}: not a readable picture ({reason})")):
        content = io.BytesIO(read_regular(path, limits.PICTURE_BYTES))
        with Image.open(content, formats=("PNG",)) as image:
            if image.mode not in ("L", "P", "1"):
                raise SourceError(f"{path}: a mask has one channel or a palette, this is {image.mode}")
            if image.width * image.height > limits.PICTURE_PIXELS:
                raise SourceError(f"{path}: a mask has {limits.PICTURE_PIXELS:,} pixels at most")
            mask = np.asarray(image).astype(np.uint8)
    most = int(mask[mask != _IGNORED].max(initial=0))
    if most >= classes:
        raise SourceError(f"{path}: it holds class {most}, the bundle has {classes} labels")
    return mask
