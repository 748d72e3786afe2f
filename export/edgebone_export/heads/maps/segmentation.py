"""Fit a segmentation head: a light decoder on the maps of a frozen backbone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgebone_export.errors import ExportError
from edgebone_export.heads.features.fitted import FittedHead, OnMaps
from edgebone_export.heads.kinds import SegmentationSettings
from edgebone_export.heads.maps.feature_maps import (
    Maps,
    channel_statistics,
    check_maps,
    check_same_taps,
    finest_first,
    read,
)
from edgebone_export.heads.maps.graph import run, write_graph
from edgebone_export.heads.maps.segmentation_metrics import (
    IGNORED,
    Masks,
    border_f1,
    by_label,
    confusion,
    ious,
    mean_iou,
    nearest_cells,
    spread,
)
from edgebone_export.heads.maps.segmentation_net import Classes, DecoderKind, build
from edgebone_export.heads.maps.training import Rows, Schedule, check_positive, numbers_of, set_aside, train
from edgebone_export.heads.report import Report, map_line, measured_on, number_text, percent_text

_OUTPUT = "classes"
# Class maps are bytes, and 255 means "ignore".
_MOST_CLASSES = 255
# Number of validations without a better mIoU before training stops.
_PATIENCE = 8


@dataclass(frozen=True)
class _Pictures:
    """Some rows of maps with their masks, and the number of pictures that they are views of."""

    maps: Maps
    masks: Masks
    rows: Rows
    pictures: int


def fit_segmentation(
    train_maps: Maps,
    train_masks: Masks,
    held_out_maps: Maps | None,
    held_out_masks: Masks | None,
    labels: Sequence[str],
    *,
    picture: NDArray[np.int64] | None = None,
    decoder_kind: DecoderKind = "lraspp",
    width: int = 64,
    output_stride: int = 2,
    epochs: int = 24,
    batch: int = 8,
    learning_rate: float = 3e-3,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> FittedHead:
    """Fit a decoder with cross-entropy and Dice, weighting rare classes higher.

    A fifth of the training pictures is set aside for validation: the best weights on them are kept. The held-out
    pictures are only measured on.

    Args:
        train_maps: Maps by tap; the head reads all of them. Only one batch is read at a time, so ``np.memmap`` works.
        train_masks: uint8 (n, height, width) in pixels of the network's input: class ids, 255 to ignore a pixel.
        held_out_maps: Maps of other pictures at the same taps, to measure on; None if there are none.
        held_out_masks: Their masks.
        labels: Class names by class id.
        picture: (n,): the picture that each training row is a view of; None if each row is a picture of its own. All
            views of a picture are on the same side of the validation split.
        decoder_kind: ``lraspp``, or ``linear``, a 1x1 convolution on the concatenated maps.
        width: Channels of ``lraspp``.
        output_stride: Pixels of the network's input per cell of the class map.
        epochs: Largest number of passes over the pictures; fewer if they no longer improve the head.
        batch: Pictures per step.
        learning_rate: Initial learning rate of AdamW.
        seed: The same seed produces the same head on the same machine.
        progress: Called with one line per epoch.

    Returns:
        A head that returns the best class of each cell, uint8 (batch, height, width), for ``segmentation@1``. Its
        report has ``miou``, ``iou`` and ``border_f1`` by label, in pixels of the network's input, for the
        ``validation`` pictures and, if there are any, for those ``held_out``.

    Raises:
        ExportError: Maps, masks and labels do not match, or there is nothing to learn.
    """
    started = time.monotonic()
    if decoder_kind not in get_args(DecoderKind):
        raise ExportError(f"a segmentation head must be {' or '.join(get_args(DecoderKind))}, found {decoder_kind!r}")
    check_positive(width=width, output_stride=output_stride)
    schedule = Schedule(epochs, batch, learning_rate, patience=_PATIENCE)
    fit, validation, held = _sides(train_maps, train_masks, held_out_maps, held_out_masks, labels, picture, seed)
    pixels = _pixels(fit, len(labels))
    present = [label for label, count in zip(labels, pixels, strict=True) if count]
    if len(present) < 2:
        names = ", ".join(present) or "none that is not ignored"
        raise ExportError(f"the training masks have one class only ({names}); a segmentation head needs two or more")
    shares = torch.tensor(pixels / pixels.sum(), dtype=torch.float32)
    size_hw = (int(train_masks.shape[1]), int(train_masks.shape[2]))
    cells_hw = (max(1, round(size_hw[0] / output_stride)), max(1, round(size_hw[1] / output_stride)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(decoder_kind, channel_statistics(train_maps, seed), shares, width, cells_hw)
    net = net.to(memory_format=torch.channels_last)
    weights = _class_weights(shares)
    coarse = [nearest_cells(cells, whole) for cells, whole in zip(cells_hw, size_hw, strict=True)]

    def loss(part: Rows) -> Tensor:
        rows = fit.rows[part]
        truth = fit.masks[rows].take(coarse[0], axis=1).take(coarse[1], axis=2).astype(np.int64)
        return _loss(net.logits(read(fit.maps, rows)), torch.from_numpy(truth), weights)

    def score() -> float:
        counts = np.zeros((len(labels), len(labels)), np.int64)
        for rows, found in _looked_at(net, validation, batch):
            truth = validation.masks[rows].take(coarse[0], axis=1).take(coarse[1], axis=2)
            counts += confusion(found, truth, len(labels))
        return mean_iou(counts)

    trained = train(net, len(fit.rows), loss, score, schedule, seed, progress)
    sample = {tap: np.asarray(array[fit.rows[:3]]) for tap, array in train_maps.items()}
    graph = write_graph(net, sample, [_OUTPUT])
    report = {
        "task": "segmentation",
        "kind": decoder_kind,
        "taps": list(finest_first(train_maps)),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "train": {"pictures": fit.pictures, "pixels": by_label(shares.tolist(), labels)},
        "validation": _figures(net, validation, labels, batch),
        "held_out": None if held is None else _figures(net, held, labels, batch),
        "best_epoch": trained.epoch,
        "epochs": trained.epochs,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 2),
    }
    return FittedHead(graph.content, graph.outputs, "segmentation@1", tuple(labels), {}, report)


def _check(maps: Maps, masks: Masks, labels: Sequence[str], what: str) -> None:
    """Check that masks are class maps of these pictures.

    Raises:
        ExportError: A shape, dtype or class is not valid.
    """
    if not 2 <= len(labels) <= _MOST_CLASSES:
        raise ExportError(
            f"a segmentation head needs 2 to {_MOST_CLASSES} labels including the background, found {len(labels)}"
        )
    if masks.ndim != 3 or masks.dtype != np.uint8:
        raise ExportError(f"{what}: masks must be uint8 (n, height, width), found {masks.dtype} {list(masks.shape)}")
    check_maps(maps, what, len(masks), (int(masks.shape[1]), int(masks.shape[2])))
    for row, mask in enumerate(masks):
        most = int(mask[mask != IGNORED].max(initial=0))
        if most >= len(labels):
            raise ExportError(
                f"{what}: mask {row} has class {most}, but there are {len(labels)} labels (0 to {len(labels) - 1}); "
                f"{IGNORED} marks pixels to ignore"
            )


def _sides(
    train_maps: Maps,
    train_masks: Masks,
    held_out_maps: Maps | None,
    held_out_masks: Masks | None,
    labels: Sequence[str],
    picture: NDArray[np.int64] | None,
    seed: int,
) -> tuple[_Pictures, _Pictures, _Pictures | None]:
    """Return the pictures to train on, to choose weights on, and only to measure on."""
    _check(train_maps, train_masks, labels, "training pictures")
    numbers = numbers_of(picture, len(train_masks))
    fit, validation = (
        _Pictures(train_maps, train_masks, rows, len(np.unique(numbers[rows]))) for rows in set_aside(numbers, seed)
    )
    if held_out_maps is None and held_out_masks is None:
        return fit, validation, None
    if held_out_maps is None or held_out_masks is None:
        raise ExportError("held-out pictures need both maps and masks; found only one of them")
    _check(held_out_maps, held_out_masks, labels, "held-out pictures")
    check_same_taps(held_out_maps, train_maps, "held-out pictures")
    held = _Pictures(held_out_maps, held_out_masks, np.arange(len(held_out_masks)), len(held_out_masks))
    return fit, validation, held


def _pixels(pictures: _Pictures, classes: int) -> NDArray[np.float64]:
    """Return the number of pixels of each class in the masks."""
    counts = np.zeros(256)
    for row in pictures.rows:
        counts += np.bincount(pictures.masks[row].ravel(), minlength=256)
    return counts[:classes]


def _class_weights(shares: Tensor) -> Tensor:
    """Return one over the root of each class's share, scaled so that a pixel weighs 1 on average.

    Weights from the share itself, without the root, find thin things twice as wide as they are.
    """
    weights = torch.where(shares > 0, shares.rsqrt(), 0.0)
    return weights / (weights * shares).sum()


def _loss(logits: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Return cross-entropy plus Dice (Milletari et al. 2016, https://arxiv.org/abs/1606.04797) of present classes.

    Args:
        logits: (n, classes, h, w).
        truth: int64 (n, h, w), 255 for ignored pixels.
        weights: (classes,).
    """
    counted = truth != IGNORED
    if not counted.any():
        return logits.sum() * 0.0
    logs = logits.log_softmax(dim=1)
    entropy = F.nll_loss(logs, truth, weights, ignore_index=IGNORED)
    shares = logs.exp() * counted[:, None]
    wanted = F.one_hot(truth.where(counted, 0), logits.shape[1]).permute(0, 3, 1, 2) * counted[:, None]
    there = wanted.sum(dim=(0, 2, 3))
    dice = (2 * (shares * wanted).sum(dim=(0, 2, 3)) + 1) / (shares.sum(dim=(0, 2, 3)) + there + 1)
    return entropy + (1 - dice[there > 0]).mean()


def _looked_at(net: Classes, pictures: _Pictures, batch: int) -> Iterator[tuple[Rows, Masks]]:
    """Yield rows and a decoder's class maps (n, h, w) for them."""
    for start in range(0, len(pictures.rows), batch):
        rows = pictures.rows[start : start + batch]
        yield rows, np.asarray(run(net, read(pictures.maps, rows))[0].numpy())


def _figures(net: Classes, pictures: _Pictures, labels: Sequence[str], batch: int) -> dict[str, Any]:
    """Return the figures, measured in pixels of the network's input."""
    size_hw = (int(pictures.masks.shape[1]), int(pictures.masks.shape[2]))
    counts = np.zeros((len(labels), len(labels)), np.int64)

    def pairs() -> Iterator[tuple[Masks, Masks]]:
        for rows, cells in _looked_at(net, pictures, batch):
            found, truth = spread(cells, size_hw), pictures.masks[rows]
            counts[:] += confusion(found, truth, len(labels))
            yield from zip(found, truth, strict=True)

    f1, tolerance = border_f1(pairs(), len(labels), size_hw)
    return {
        "pictures": pictures.pictures,
        "miou": round(mean_iou(counts), 6),
        "iou": by_label(ious(counts).tolist(), labels),
        "pixel_accuracy": round(float(np.diag(counts).sum() / max(counts.sum(), 1)), 6),
        "border_f1": by_label(f1, labels),
        "border_tolerance_px": tolerance,
    }


def fit_from_settings(given: OnMaps, settings: SegmentationSettings) -> FittedHead:
    """See :func:`fit_segmentation`."""
    train, held_out = given.train, given.held_out
    return fit_segmentation(
        train.maps, np.stack(train.targets), held_out.maps, np.stack(held_out.targets), given.labels,
        picture=train.picture, **settings.said("labels", "images", "val_images"),
        seed=given.seed, progress=given.progress,
    )  # fmt: skip


def lines(report: Report) -> list[str]:
    """Return the report of a segmentation head as text lines."""
    lines = [map_line(report)]
    for name, found in measured_on(report):
        lines.append(
            f"{name}: mIoU {percent_text(found['miou'])} on {found['pictures']} pictures, pixel accuracy "
            f"{percent_text(found['pixel_accuracy'])}"
        )
        if name == "held out" or report["held_out"] is None:
            lines += [
                f"  {label}: IoU {'unknown' if value is None else percent_text(value)}, border F1 "
                f"{number_text(found['border_f1'].get(label))} within {found['border_tolerance_px']} pixels"
                for label, value in found["iou"].items()
            ]
    return lines
