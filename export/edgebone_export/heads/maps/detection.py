"""Fit a detection head: a small single-stage detector on the maps of a frozen backbone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgebone.core.detections import Detections
from edgebone_export.errors import ExportError
from edgebone_export.heads.features.fitted import FittedHead, OnMaps
from edgebone_export.heads.kinds import DetectionSettings
from edgebone_export.heads.maps.detection_metrics import (
    Boxes,
    average_precision,
    best_score,
    check_counting,
    decoder,
    f1_at,
)
from edgebone_export.heads.maps.detection_net import BestBoxes, DetectorNet, locations
from edgebone_export.heads.maps.detection_targets import Targets, assign, loss
from edgebone_export.heads.maps.feature_maps import (
    Maps,
    channel_statistics,
    check_maps,
    check_same_taps,
    finest_first,
    read,
    stride_of,
)
from edgebone_export.heads.maps.graph import run, write_graph
from edgebone_export.heads.maps.training import Rows, Schedule, check_positive, numbers_of, set_aside, train
from edgebone_export.heads.report import Report, map_line, measured_on, number_text, percent_text

_OUTPUT = "boxes"
# Number of validations, each of which computes COCO's AP.
_LOOKS = 20


@dataclass(frozen=True)
class _Pictures:
    """Some rows of maps with their boxes, and the number of pictures that they are views of."""

    maps: Maps
    boxes: Sequence[Boxes]
    rows: Rows
    pictures: int

    @property
    def own(self) -> list[Boxes]:
        """Return the boxes of these rows."""
        return [self.boxes[row] for row in self.rows]


def fit_detection(
    train_maps: Maps,
    train_boxes: Sequence[Boxes],
    held_out_maps: Maps | None,
    held_out_boxes: Sequence[Boxes] | None,
    labels: Sequence[str],
    size_hw: tuple[int, int],
    *,
    picture: NDArray[np.int64] | None = None,
    width: int = 96,
    blocks: int = 2,
    boxes: int = 100,
    epochs: int = 60,
    batch: int = 8,
    learning_rate: float = 2e-3,
    iou: float = 0.6,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> FittedHead:
    """Fit FCOS's head with separable convolutions.

    A fifth of the training pictures is set aside for validation: the weights with the best AP on them are kept, and the
    score threshold for shown boxes is the one with the best F1 on them. The held-out pictures are only measured on.

    Args:
        train_maps: Maps by tap, each of which is a level of the head. Only one batch is read at a time, so
            ``np.memmap`` works.
        train_boxes: One pair per row: float32 (k, 4) as left, top, right, bottom in pixels of the network's input, and
            int64 (k,) class ids; (0, 4) and (0,) without boxes.
        held_out_maps: Maps of other pictures at the same taps, to measure on; None if there are none.
        held_out_boxes: Their boxes.
        labels: Class names by class id.
        size_hw: Height and width of the network's input, in pixels.
        picture: (n,): the picture that each training row is a view of; None if each row is a picture of its own. All
            views of a picture are on the same side of the validation split.
        width: Channels of the head.
        blocks: Convolutions of each of its two towers.
        boxes: Largest number of boxes that the graph returns.
        epochs: Passes over the pictures.
        batch: Pictures per step.
        learning_rate: Initial learning rate of AdamW.
        iou: A box that overlaps a better one of its class by more than this is dropped on the host, 0 to 1.
        seed: The same seed produces the same head on the same machine.
        progress: Called with one line per validation.

    Returns:
        A head that returns its best boxes, float32 (batch, boxes, 6), for ``boxes@1``. Its report has COCO's figures
        for the ``validation`` pictures and, if there are any, for those ``held_out``; ``f1`` is of the boxes shown.

    Raises:
        ExportError: Maps, boxes and labels do not match, or there are no boxes.
        MissingDependencyError: faster-coco-eval is not installed.
    """
    started = time.monotonic()
    check_counting()
    check_positive(width=width, blocks=blocks, boxes=boxes)
    schedule = Schedule(epochs, batch, learning_rate, score_every=max(1, epochs // _LOOKS), patience=_LOOKS)
    fit, validation, held = _sides(
        train_maps, train_boxes, held_out_maps, held_out_boxes, labels, size_hw, picture, seed
    )
    taps = finest_first(train_maps)
    strides = [stride_of(tap) for tap in taps]
    cells_hw = [(int(train_maps[tap].shape[2]), int(train_maps[tap].shape[3])) for tap in taps]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DetectorNet(channel_statistics(train_maps, seed), strides, cells_hw, len(labels), width, blocks)
    net = net.to(memory_format=torch.channels_last)
    chooser = BestBoxes(net, size_hw, boxes)
    tensors = [(torch.tensor(xyxy, dtype=torch.float32), torch.tensor(ids)) for xyxy, ids in fit.own]
    targets = assign(tensors, *locations(strides, cells_hw))

    def loss_of(part: Rows) -> Tensor:
        logits, sides, centerness = net(*read(fit.maps, fit.rows[part]))
        return loss(logits, sides, centerness, Targets(targets.classes[part], targets.sides[part]))

    read_boxes = decoder(labels, chooser.boxes, size_hw, iou)

    def found(pictures: _Pictures) -> list[Detections]:
        net.eval()
        return [
            read_boxes(rows)
            for start in range(0, len(pictures.rows), batch)
            for rows in run(chooser, read(pictures.maps, pictures.rows[start : start + batch]))[0].numpy()
        ]

    def score() -> float:
        return average_precision(found(validation), validation.own, labels, size_hw)["AP"]

    def figures(pictures: _Pictures, boxes: list[Detections]) -> dict[str, Any]:
        return {
            "pictures": pictures.pictures,
            "boxes": _counts(pictures.own, labels),
            **average_precision(boxes, pictures.own, labels, size_hw),
            "f1": f1_at(least, boxes, pictures.own),
        }

    trained = train(net, len(fit.rows), loss_of, score, schedule, seed, progress)
    chosen_on = found(validation)
    least, _ = best_score(chosen_on, validation.own)
    params = {"score": least, "iou": iou, "max_detections": boxes}
    sample = {tap: np.asarray(array[fit.rows[:3]]) for tap, array in train_maps.items()}
    graph = write_graph(chooser, sample, [_OUTPUT], least)
    report = {
        "task": "detection",
        "kind": "fcos",
        "taps": list(taps),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "train": {"pictures": fit.pictures, "boxes": _counts(fit.own, labels)},
        "validation": figures(validation, chosen_on),
        "held_out": None if held is None else figures(held, found(held)),
        "score": least,
        "best_epoch": trained.epoch,
        "epochs": trained.epochs,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 2),
    }
    return FittedHead(graph.content, graph.outputs, "boxes@1", tuple(labels), params, report)


def _sides(
    train_maps: Maps,
    train_boxes: Sequence[Boxes],
    held_out_maps: Maps | None,
    held_out_boxes: Sequence[Boxes] | None,
    labels: Sequence[str],
    size_hw: tuple[int, int],
    picture: NDArray[np.int64] | None,
    seed: int,
) -> tuple[_Pictures, _Pictures, _Pictures | None]:
    """Return the pictures to train on, to choose weights on, and only to measure on."""
    _check(train_maps, train_boxes, labels, size_hw, "training pictures")
    numbers = numbers_of(picture, len(train_boxes))
    fit, validation = (
        _Pictures(train_maps, train_boxes, rows, len(np.unique(numbers[rows]))) for rows in set_aside(numbers, seed)
    )
    held = None
    if held_out_maps is not None and held_out_boxes is not None:
        _check(held_out_maps, held_out_boxes, labels, size_hw, "held-out pictures")
        check_same_taps(held_out_maps, train_maps, "held-out pictures")
        held = _Pictures(held_out_maps, held_out_boxes, np.arange(len(held_out_boxes)), len(held_out_boxes))
    elif held_out_maps is not None or held_out_boxes is not None:
        raise ExportError("held-out pictures need both maps and boxes; found only one of them")
    for pictures, what in ((fit, "training"), (validation, "validation"), (held, "held-out")):
        if pictures is not None and not sum(len(ids) for _, ids in pictures.own):
            raise ExportError(
                f"the {what} pictures have no boxes at all ({pictures.pictures} pictures); annotate more, or choose "
                "others with another seed"
            )
    return fit, validation, held


def _check(maps: Maps, boxes: Sequence[Boxes], labels: Sequence[str], size_hw: tuple[int, int], what: str) -> None:
    """Check that boxes are valid.

    Raises:
        ExportError: A shape or class is not valid, or a box has no area in the picture.
    """
    if not labels:
        raise ExportError("a detection head needs at least one label")
    check_maps(maps, what, len(boxes), size_hw)
    for row, (xyxy, class_id) in enumerate(boxes):
        where = f"{what}: row {row}"
        if xyxy.ndim != 2 or xyxy.shape[1] != 4 or class_id.shape != (len(xyxy),):
            raise ExportError(
                f"{where}: expected boxes (k, 4) and classes (k,), found {list(xyxy.shape)} and {list(class_id.shape)}"
            )
        if not len(xyxy):
            continue
        if not 0 <= class_id.min() <= class_id.max() < len(labels):
            raise ExportError(
                f"{where} has class {class_id.max()}, but there are {len(labels)} labels (0 to {len(labels) - 1})"
            )
        inside = xyxy.clip(0, (size_hw[1], size_hw[0], size_hw[1], size_hw[0]))
        bad = ~(inside[:, 2:] > inside[:, :2]).all(axis=1)
        if bad.any():
            raise ExportError(
                f"{where} has a box {xyxy[bad][0].round(1).tolist()} without an area in the network's input of "
                f"{size_hw[1]}x{size_hw[0]}; boxes are left, top, right, bottom in its pixels"
            )


def _counts(boxes: Sequence[Boxes], labels: Sequence[str]) -> dict[str, int]:
    """Return the number of boxes of each class."""
    counts = np.bincount(np.concatenate([ids for _, ids in boxes]), minlength=len(labels))
    return dict(zip(labels, counts.tolist(), strict=True))


def fit_from_settings(given: OnMaps, settings: DetectionSettings) -> FittedHead:
    """See :func:`fit_detection`."""
    train, held_out = given.train, given.held_out
    return fit_detection(
        train.maps, train.targets, held_out.maps, held_out.targets, given.labels, given.size_hw,
        picture=train.picture, **settings.said("images", "val_images"), seed=given.seed, progress=given.progress,
    )  # fmt: skip


def lines(report: Report) -> list[str]:
    """Return the report of a detection head as text lines."""
    return [
        map_line(report),
        *(
            f"{name}: AP {percent_text(found['AP'])}, AP50 {percent_text(found['AP50'])} on {found['pictures']} "
            f"pictures with {sum(found['boxes'].values())} boxes; F1 {number_text(found['f1'])} for scores of "
            f"{number_text(report['score'])} or more"
            for name, found in measured_on(report)
        ),
    ]
