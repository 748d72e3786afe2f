"""Mean intersection over union of a segmentation head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError
from edgebone.core.manifest import Head
from edgebone.evaluate.annotated_sizes import check_masks
from edgebone.evaluate.answers import LeftOut, answers, refuse
from edgebone.evaluate.contract import Evaluation, Figures, Truth
from edgebone.evaluate.pairs import pair_files
from edgebone.evaluate.predictor import Predictor
from edgebone.sources.images import open_picture
from edgebone.tasks.segmentation import SEGMENTATION

# The "ignore" value of Pascal VOC and Cityscapes.
_IGNORED = 255


@dataclass(frozen=True)
class MaskedPicture:
    """A picture's file and its mask file, with a class per pixel."""

    picture: Path
    mask: Path


@dataclass(frozen=True)
class SegmentationAccuracy:
    """Shares, 0 to 1.

    Attributes:
        miou: Mean of ``iou`` over the classes that occur.
        iou: Intersection over union by label; classes that neither occur nor are predicted are omitted.
        pixel_accuracy: Share of the counted pixels with the right class.
        n: The number of pictures counted.
    """

    miou: float
    iou: dict[str, float]
    pixel_accuracy: float
    n: int


def read_masks(data: Path, images: Path | None) -> list[MaskedPicture]:
    """Pair masks with pictures by name without suffix.

    Args:
        data: A folder of masks: PNGs whose pixels (or palette entries) are class ids, 255 is not counted. Or a folder
            with the folders ``images`` and ``masks``.
        images: The folder of the pictures; None takes ``images`` in or beside ``data``.

    Raises:
        SourceError: A folder is missing, a mask has no picture, or masks are in the stored orientation of pictures that
            EXIF rotates.
    """
    masks, found = pair_files(data, images, "masks", (".png",))
    check_masks(masks, found)
    return [MaskedPicture(picture, mask) for picture, mask in found]


def evaluate_segmentation(
    model: Predictor,
    name: str,
    labels: Sequence[str],
    pictures: Sequence[MaskedPicture],
    progress: Callable[[int], None] = lambda _: None,
    left_out: LeftOut = refuse,
) -> SegmentationAccuracy:
    """Run a model over pictures with masks and count.

    Args:
        model: The model.
        name: The head.
        labels: Its labels.
        pictures: What to look at.
        progress: Called with the number of pictures done.
        left_out: Called with the reason for each picture that is not counted; raises by default.

    Raises:
        SourceError: A file cannot be read, no picture can, or a mask is of another size or has a class without a label.
    """
    counts = np.zeros((len(labels), len(labels)), np.int64)
    n = 0
    for place, results in answers(model, [item.picture for item in pictures], left_out, progress):
        result = SEGMENTATION.pick(results, name)
        item = pictures[place]
        n += 1
        truth = read_mask(item.mask, len(labels))
        if truth.shape != result.class_id.shape:
            raise SourceError(
                f"{item.mask}: the mask is {truth.shape[1]}x{truth.shape[0]}, its picture, upright, "
                f"{result.class_id.shape[1]}x{result.class_id.shape[0]}"
            )
        counted = truth != _IGNORED
        pairs = truth[counted].astype(np.int64) * len(labels) + result.class_id[counted]
        counts += np.bincount(pairs, minlength=len(labels) ** 2).reshape(counts.shape)
    both = np.diag(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    iou = {label: float(both[index] / either[index]) for index, label in enumerate(labels) if either[index]}
    return SegmentationAccuracy(
        miou=round(float(np.mean(list(iou.values()))) if iou else 0.0, 6),
        iou={label: round(value, 6) for label, value in iou.items()},
        pixel_accuracy=round(float(both.sum() / max(counts.sum(), 1)), 6),
        n=n,
    )


def read_mask(path: Path, classes: int) -> NDArray[np.uint8]:
    """Read a mask's class ids, uint8 (height, width): a PNG with one channel or a palette; 255 is not counted.

    Raises:
        SourceError: It cannot be read, has colours, or a class beyond the labels.
    """
    with open_picture(path) as image:
        if image.mode not in ("L", "P", "1"):
            raise SourceError(f"{path}: a mask must have one channel or a palette, this is {image.mode}")
        mask = np.asarray(image).astype(np.uint8)
    most = int(mask[mask != _IGNORED].max(initial=0))
    if most >= classes:
        raise SourceError(f"{path}: it holds class {most}, the bundle has {classes} labels")
    return mask


def _find(data: Path, images: Path | None) -> Path | None:
    return data if images is not None or (data / "masks").is_dir() else None


def _read(name: str, head: Head, labels: Path, images: Path | None) -> Truth:
    pictures = read_masks(labels, images)

    def count(model: Predictor, progress: Callable[[int], None], left_out: LeftOut) -> Figures:
        found = evaluate_segmentation(model, name, head.labels, pictures, progress, left_out)
        record = {"mIoU": found.miou, "IoU": found.iou, "pixel_accuracy": found.pixel_accuracy, "n": found.n}
        text = f"mIoU {found.miou:.3f}, pixel accuracy {found.pixel_accuracy:.3f} on {found.n} pictures"
        return Figures(100 * found.miou, record, text)

    return Truth(tuple(item.picture for item in pictures), count)


EVALUATION = Evaluation(_find, _read)
