"""Check that a head's results on the verification pictures make sense.

A graph that matches its file does not prove that the user described the file correctly: the logits of a network, taken
for its boxes, are computed just as exactly. Values that a correct description cannot produce are rejected with the
setting that would fit; values that it rarely produces cause a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.manifest import Head
from edgebone.core.oriented import hull_rows
from edgebone.decode.registry import ROWS
from edgebone_export.errors import ExportError
from edgebone_export.importers.heads import is_instances

_ROUNDING, _MARGIN = 1e-3, 0.05
# The best rows of a picture: below these, even a sound network's boxes may be anything.
_BEST = 100
# In an input of at least this side, boxes in pixels are not all within two pixels of its corner.
_LEAST_SIDE, _SHARE = 16, 2.0
_HUGE = 10.0
# Shares from which impossible values are rejected, and unlikely values cause a warning.
_NEVER, _SELDOM = 0.2, 0.5
_FEW = 4


def check_meaning(
    name: str,
    head: Head,
    outputs: Mapping[str, NDArray[Any]],
    rows: NDArray[np.float32] | None,
    size_hw: tuple[int, int],
) -> list[str]:
    """Check a head's outputs for the verification pictures against its description.

    Args:
        name: The head's name, for messages.
        head: The head, before any decoding in the graph.
        outputs: Its outputs by name, (n, …).
        rows: For a detector: the best boxes of all pictures, (k, 6 or more), before suppression.
        size_hw: Height and width of the network's input, in pixels.

    Returns:
        The doubts, one sentence each.

    Raises:
        ExportError: The description cannot be right; the message has the setting that would fit.
    """
    doubts = []
    own = head.decoder
    if is_instances(head):
        # Their boxes are those of the detectors, before the coefficients.
        first, prototypes = head.outputs
        axis = 1 if head.decoder == "yolov8-seg@1" else 2
        count = outputs[first].shape[axis] - outputs[prototypes].shape[1]
        plain = "boxes@1" if own == "instances@1" else own.replace("-seg", "")
        head = Head(plain, head.outputs, head.labels, head.params)
        outputs = {**outputs, first: outputs[first].take(range(count), axis=axis)}
    if rows is not None:
        if head.decoder in ROWS:
            _scores(name, head, own, outputs)
        if head.decoder == "detr@1":
            _shares(name, outputs[head.outputs[1]])
        if head.decoder in ("yolov8-obb@1", "oriented@1"):
            _angles(name, rows[:, 6])
            rows = hull_rows(rows).astype(np.float32)
        if head.decoder in ("yolov8-pose@1", "keypoints@1"):
            _points(name, head, rows, size_hw)
        doubts += _boxes(name, head, own, rows, size_hw)
    elif head.decoder == "depth@1":
        doubts += _depths(name, head, outputs[head.outputs[0]])
    elif head.decoder in ("classification@1", "multilabel@1"):
        doubts += _classes(name, head, outputs[head.outputs[0]].astype(np.float64))
    values = [outputs[item].astype(np.float64) for item in head.outputs]
    if len(values[0]) > 1 and all(np.ptp(item, axis=0).max(initial=0) <= 1e-6 * np.abs(item).max() for item in values):
        doubts.append(
            f"head {name} returns the same for each of {len(values[0])} pictures: check that the preprocessing is the "
            "one that the network was trained with"
        )
    return doubts


def _classes(name: str, head: Head, scores: NDArray[np.float64]) -> list[str]:
    low, high = float(scores.min()), float(scores.max())
    within = low >= -_ROUNDING and high <= 1 + _ROUNDING
    activation = head.params.get("activation", "sigmoid")
    sums_to_one = within and scores.shape[1] > 1 and bool((np.abs(scores.sum(axis=1) - 1) <= _ROUNDING).all())
    softmax = "--set activation=softmax or " if head.decoder == "classification@1" else ""
    if activation == "none" and not within:
        raise ExportError(
            f"head {name}: scores are {low:.3g} to {high:.3g}, which are not probabilities: set the activation that "
            f"makes them so, {softmax}--set activation=sigmoid"
        )
    if activation == "softmax" and sums_to_one:
        raise ExportError(
            f"head {name}: the file's scores are already probabilities: every picture's add up to 1, and a second "
            "softmax would flatten them: --set activation=none"
        )
    if activation == "sigmoid" and within and len(scores) > 1:
        return [
            f"head {name}: all scores are {low:.3g} to {high:.3g}, as if they were already probabilities, but the head "
            "applies a sigmoid; if they are probabilities: --set activation=none"
        ]
    return []


def _depths(name: str, head: Head, depths: NDArray[Any]) -> list[str]:
    low, high = float(depths.min()), float(depths.max())
    if head.params["unit"] == "metres" and low < -_ROUNDING:
        raise ExportError(
            f"head {name}: distances are {low:.3g} to {high:.3g} metres, but none is negative: --set unit=relative, if "
            "larger is nearer"
        )
    if high - low <= _ROUNDING * abs(high):
        return [f"head {name}: all depths are {low:.3g} to {high:.3g}: pass pictures with near and far: --samples"]
    return []


def _boxes(name: str, head: Head, own: str, rows: NDArray[np.float32], size_hw: tuple[int, int]) -> list[str]:
    decoder = head.decoder
    # Networks with built-in suppression pad with empty rows: zeros, or a class of -1.
    real = rows[(rows[:, 4] > 0) & (rows[:, 5] != -1)]
    if not len(real):
        return [
            f"head {name}: no boxes in any verification picture, at any score; pass pictures with objects: --samples"
        ]
    if decoder in ("boxes@1", "keypoints@1", "oriented@1"):
        _class_ids(name, head, own, real[:, 5])
    boxes = real[:, :4].astype(np.float64)
    height, width = size_hw
    with np.errstate(over="ignore", invalid="ignore"):
        inverted = float(((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])).mean())
        beyond = ~(np.abs(boxes) <= _HUGE * max(size_hw)).all(axis=1)
        outside = (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0) | (boxes[:, 0] >= width) | (boxes[:, 1] >= height)
        largest = float(np.nanmax(np.abs(boxes)))
    if min(size_hw) >= _LEAST_SIDE and largest <= _SHARE:
        form = f"{_columns(own)} and " if inverted else ""
        raise ExportError(
            f"head {name}: no box reaches further than {largest:.3g} pixels from the corner of {width}x{height}: boxes "
            f"are fractions of the sides, not pixels: {form}{_relative(own)}"
        )
    if decoder == "ssd@1" and largest > _SHARE * max(size_hw) and head.params.get("box_unit") != "pixels":
        raise ExportError(
            f"head {name}: boxes read as fractions of the sides reach {largest:.3g} pixels in an input of "
            f"{width}x{height}: they are pixels: --set box_unit=pixels"
        )
    if inverted > _NEVER:
        raise ExportError(
            f"head {name}: of {len(boxes)} boxes, {100 * inverted:.0f} % end before they begin, so their columns are "
            f"not as described: {_columns(own)}"
        )
    if beyond.mean() > _SELDOM:
        raise ExportError(
            f"head {name}: of {len(boxes)} boxes, {100 * beyond.mean():.0f} % are more than {_HUGE:.0f} times as large "
            f"as the input of {width}x{height} (up to {largest:.3g} pixels): {_too_large(own)}"
        )
    if outside.mean() > _SELDOM and len(boxes) >= _FEW:
        text = (
            f"head {name}: of {len(boxes)} boxes, {100 * outside.mean():.0f} % lie outside the input of "
            f"{width}x{height}: {_columns(own)}"
        )
        if outside.all():
            raise ExportError(text)
        return [text]
    return []


def _angles(name: str, angles: NDArray[np.float32]) -> None:
    """Reject degrees: a network's angle is within a turn."""
    if len(angles) and float((np.abs(angles) > 2 * np.pi).mean()) > _NEVER:
        raise ExportError(
            f"head {name}: angles are {angles.min():.3g} to {angles.max():.3g}, as if in degrees, but they are read as "
            "radians: multiply them by pi/180 before the export"
        )


def _points(name: str, head: Head, rows: NDArray[np.float32], size_hw: tuple[int, int]) -> None:
    """Reject keypoints in another unit than their boxes, and confidences that are not probabilities."""
    points = rows[rows[:, 4] > 0, 6:].reshape(-1, len(head.params["keypoints"]), head.params["dims"])
    if not points.size:
        return
    low, high = float(points[..., 2:].min(initial=0)), float(points[..., 2:].max(initial=0))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ExportError(
            f"head {name}: the keypoints' confidences are {low:.3g} to {high:.3g}, which are not probabilities: export "
            "the network with its sigmoid"
        )
    largest = float(np.abs(points[..., :2]).max())
    if min(size_hw) >= _LEAST_SIDE and largest <= _SHARE < float(np.abs(rows[:, :4]).max()):
        raise ExportError(
            f"head {name}: boxes are pixels, but no keypoint lies further than {largest:.3g} from the corner: they are "
            "fractions of the sides; multiply them by the input's size before the export"
        )


def best(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the best rows of a picture, (k, 6)."""
    return rows[np.argsort(-rows[:, 4], kind="stable")[:_BEST]]


def _scores(name: str, head: Head, own: str, outputs: Mapping[str, NDArray[Any]]) -> None:
    """Reject scores that are not probabilities; the reader would silently drop those below 0."""
    decoder, first = head.decoder, outputs[head.outputs[0]]
    if decoder == "detr@1":
        return
    if decoder in ("boxes@1", "keypoints@1", "oriented@1"):
        # Empty rows have a class of -1, and may also have a score of -1.
        scores = first[..., 4][first[..., 5] >= 0]
    elif decoder in ("yolov8-pose@1", "yolov8-obb@1"):
        scores = first[:, 4 : 4 + len(head.labels)]
    else:
        scores = first[:, 4:] if decoder == "yolov8@1" else first if decoder == "ssd@1" else first[..., 4:]
    low, high = float(scores.min(initial=0)), float(scores.max(initial=0))
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return
    fits = {
        "boxes@1": "name the columns, such as --set columns=class,score,left,top,right,bottom",
        "ssd@1": "if they are logits, export the network with its softmax, or use --decoder detr",
    }.get(own, "if they are logits, export the network with its sigmoid; otherwise choose another --decoder")
    raise ExportError(f"head {name}: scores are {low:.3g} to {high:.3g}, which are not probabilities: {fits}")


def _shares(name: str, boxes: NDArray[Any]) -> None:
    """Reject boxes that are not outputs of a sigmoid."""
    wrong = float(((boxes < -_MARGIN) | (boxes > 1 + _MARGIN)).any(axis=-1).mean())
    if wrong > _NEVER:
        raise ExportError(
            f"head {name}: {100 * wrong:.0f} % of the boxes are not fractions of the sides, which are 0 to 1: found "
            f"{boxes.min():.3g} to {boxes.max():.3g}: {_columns('detr@1')}"
        )


def _class_ids(name: str, head: Head, own: str, ids: NDArray[np.float32]) -> None:
    wrong = ids[(ids != np.rint(ids)) | (ids < 0)]
    if len(wrong):
        raise ExportError(f"head {name}: a box has class {wrong[0]:.3g}, which is not a class id: {_columns(own)}")
    most = int(ids.max())
    if most >= len(head.labels):
        raise ExportError(
            f"head {name}: a box has class {most}, but there are {len(head.labels)} names; pass one for each: "
            "--labels FILE"
        )


def _columns(decoder: str) -> str:
    if decoder == "boxes@1":
        return "name the columns, such as --set columns=cx,cy,width,height,score,class"
    if decoder == "detr@1":
        return "name the logits first, then the boxes: --decoder HEAD=detr:LOGITS,BOXES"
    return "choose another --decoder"


def _relative(decoder: str) -> str:
    if decoder == "ssd@1":
        return "--set box_unit=relative"
    if decoder in ("boxes@1", "yolov5@1", "yolov8@1"):
        return "--set unit=relative"
    return "multiply them by the input's size before the export"


def _too_large(decoder: str) -> str:
    if decoder == "yolox@1":
        return "if they are decoded already, as YOLOX's --decode_in_inference does, use --decoder yolov5"
    return _columns(decoder)
