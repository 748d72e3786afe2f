"""Shared by all detectors: turns boxes in network pixels into detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.bounded import Most
from edgebone.core.detections import CLASS_NAME, Detections, class_names
from edgebone.core.errors import EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, as_float32, not_finite
from edgebone.tasks.detection import DETECTION

# Keeps logarithms and quotients of boxes without an area finite, as in ultralytics.
_TINY = 1e-7
# Pairs of turned boxes compared at a time: their arrays are 100 MB.
_PAIRS_AT_A_TIME = 1_000_000

Floats = NDArray[np.float32]
Candidates = tuple[Floats, Floats, NDArray[np.int64]]
"""Boxes (n, 4) as xyxy in network pixels, scores (n,), class ids (n,)."""
BoxReader = Callable[[Sequence[Floats]], Candidates]
"""Returns the boxes in one picture's outputs; may omit boxes below the score to save work. Readers of networks that
return more of each box have it as a fourth item, (n, …)."""


class BoxParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of every detector.

    Attributes:
        score: Boxes with a lower score are dropped, 0 to 1.
        iou: A box that overlaps a better one of its class by more than this is dropped, 0 to 1; None keeps all, for
            networks without suppression.
        max_detections: The largest number of boxes in a result.
        class_agnostic: Whether to suppress across classes.
    """

    score: float
    iou: float | None
    max_detections: Most = 300
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name in ("score", "iou"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be 0 to 1, got {value}")


def detector(name: str, params: BoxParams, labels: tuple[str, ...], read: BoxReader) -> Decoder:
    """Build a decoder from a reader of boxes.

    Outputs with NaN or infinity raise EngineError, and so does a class without a label: their boxes would be arbitrary.
    """
    names = class_names(labels)

    def decode(tensors: Sequence[NDArray[Any]], geometry: Geometry) -> Detections:
        return survivors(name, params, names, read(finite(name, tensors)), geometry)[0]

    return decode


def finite(name: str, tensors: Sequence[NDArray[Any]]) -> list[Floats]:
    """Return one picture's outputs as float32.

    Raises:
        EngineError: One has NaN or infinity.
    """
    floats = [as_float32(tensor) for tensor in tensors]
    for tensor in floats:
        # A sum is not finite if a term is not, and costs a fifth of checking each.
        if not np.isfinite(tensor.sum(dtype=np.float64)):
            raise not_finite(name)
    return floats


def survivors(
    name: str,
    params: BoxParams,
    names: NDArray[Any],
    candidates: Candidates,
    geometry: Geometry,
    oriented: Floats | None = None,
) -> tuple[Detections, NDArray[np.int64]]:
    """Return the boxes that a detector shows, and each one's index among the candidates.

    Args:
        name: The head's name, for messages.
        params: Its settings.
        names: Class names by class id.
        candidates: Boxes in network pixels.
        geometry: The picture's.
        oriented: The boxes as centre, width, height and angle, (n, 5), if they are turned: they overlap as such.

    Raises:
        EngineError: A class without a label, or a box with infinite sides.
    """
    xyxy, scores, class_id = candidates
    index = np.flatnonzero(scores >= params.score)
    # Each box is compared with the better ones: the time grows with the square of their number.
    if len(index) > limits.CANDIDATES:
        best = np.argpartition(scores[index], -limits.CANDIDATES)[-limits.CANDIDATES :]
        index = index[np.sort(best)]
    shown = class_id[index]
    if len(shown) and not 0 <= shown.min() <= shown.max() < len(names):
        raise EngineError(f"head {name}: the network returned class {shown.max()}, the bundle has {len(names)} labels")
    if not np.isfinite(xyxy[index]).all():
        raise EngineError(f"head {name}: a box with infinite sides; edgebone doctor shows which engine returns it")
    if oriented is None:
        index = index[suppress(xyxy[index], scores[index], shown, params)]
    else:
        index = index[suppress_oriented(oriented[index], scores[index], shown, params)]
    source = to_source(xyxy[index], geometry)
    # A box that lies entirely in the padding is not in the picture.
    seen = (source[:, 2] > source[:, 0]) & (source[:, 3] > source[:, 1])
    if not seen.all():
        index, source = index[seen], source[seen]
    class_id = class_id[index]
    return Detections(source, scores[index], class_id, {CLASS_NAME: names[class_id]}), index


def box_spec(
    name: str, params: type[BoxParams], box_reader: Callable[..., BoxReader], in_graph: str = ""
) -> DecoderSpec:
    """Return the row of a detector.

    Args:
        name: Its ``name@version``.
        params: Its settings.
        box_reader: Builds the reader of a head, from the arguments of :data:`edgebone.decode.contract.Make`.
        in_graph: The place of the function that appends the same decoding to a graph.
    """

    def make(
        head: str,
        params: BoxParams,
        labels: tuple[str, ...],
        outputs: tuple[TensorSpec, ...],
        size_hw: tuple[int, int],
    ) -> Decoder:
        return detector(head, params, labels, box_reader(head, params, labels, outputs, size_hw))

    return DecoderSpec(
        name, DETECTION, params, make, box_reader, may_be_empty=True, in_graph=in_graph, decoded="boxes@1"
    )


def suppress(xyxy: Floats, scores: Floats, class_id: NDArray[np.int64], params: BoxParams) -> NDArray[np.int64]:
    """Apply greedy non-maximum suppression, class by class.

    Args:
        xyxy: Boxes, (n, 4).
        scores: (n,).
        class_id: (n,).
        params: Defines the overlap, and whether classes are separate.

    Returns:
        The indices of the remaining boxes, best first, at most ``max_detections``.
    """
    if params.iou is None or len(scores) < 2:
        order = np.argsort(-scores, kind="stable")
    else:
        # Annotated as lists of lists, but arrays are accepted too, in a tenth of the time.
        xywh: Any = xyxy.astype(np.float64)
        xywh[:, 2:] -= xywh[:, :2]
        classes: Any = np.zeros(len(scores), np.int32) if params.class_agnostic else class_id.astype(np.int32)
        ranked: Any = scores
        # OpenCV drops scores equal to its threshold, so low scores were dropped before.
        kept = cv2.dnn.NMSBoxesBatched(xywh, ranked, classes, -1.0, params.iou)
        order = np.asarray(kept, np.int64).reshape(-1)
    return order[: params.max_detections]


def suppress_oriented(
    boxes: Floats, scores: Floats, class_id: NDArray[np.int64], params: BoxParams
) -> NDArray[np.int64]:
    """Apply non-maximum suppression to oriented boxes as ultralytics does.

    A box is dropped if any better one of its class overlaps it too much, also one that is dropped itself; the overlap
    is that of Gaussians with the boxes' moments (ProbIoU, Llerena et al. 2021, https://arxiv.org/abs/2106.06072).

    Args:
        boxes: Centre, width, height and angle in radians, (n, 5).
        scores: (n,).
        class_id: (n,).
        params: As of :func:`suppress`.

    Returns:
        The indices of the remaining boxes, best first, at most ``max_detections``.
    """
    order = np.argsort(-scores, kind="stable")
    if params.iou is not None and len(order) > 1:
        ranked, classes = _gaussians(boxes[order].astype(np.float64)), class_id[order]
        dropped = np.zeros(len(order), np.bool_)
        step = max(1, _PAIRS_AT_A_TIME // len(order))
        for start in range(0, len(order), step):
            end = min(start + step, len(order))
            # A box is compared with all better ones, also with those that are dropped themselves.
            overlap = _prob_iou(ranked[:, start:end], ranked[:, :end]) > params.iou
            if not params.class_agnostic:
                overlap &= classes[start:end, None] == classes[None, :end]
            dropped[start:end] = np.tril(overlap, start - 1).any(axis=1)
        order = order[~dropped]
    return order[: params.max_detections]


def _gaussians(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centres of boxes (n, 5) and their covariance matrices [[a, c], [c, b]] as x, y, a, b, c: (5, n)."""
    x, y, width, height, angle = boxes.T
    wide, high, cos, sin = width**2 / 12, height**2 / 12, np.cos(angle), np.sin(angle)
    return np.stack([x, y, wide * cos**2 + high * sin**2, wide * sin**2 + high * cos**2, (wide - high) * cos * sin])


def _prob_iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ProbIoU of each of n boxes with each of m, as :func:`_gaussians` returns them: (n, m)."""
    both_a, both_b, both_c = (one[place][:, None] + other[place][None] for place in (2, 3, 4))
    dx, dy = (one[place][:, None] - other[place][None] for place in (0, 1))
    spread = both_a * both_b - both_c**2
    far = (both_a * dy**2 + both_b * dx**2 - 2 * both_c * dx * dy) / (4 * (spread + _TINY))
    own, others = ((item[2] * item[3] - item[4] ** 2).clip(0) for item in (one, other))
    shape = np.log(spread / (4 * np.sqrt(own[:, None] * others[None]) + _TINY) + _TINY) / 2
    distance = (far + shape).clip(_TINY, 100)
    return np.asarray(1 - np.sqrt(1 - np.exp(-distance) + _TINY))


def to_source(xyxy: Floats, geometry: Geometry) -> Floats:
    """Map boxes (n, 4) from network pixels to the picture, clipped to it."""
    height, width = geometry.source_hw
    points = geometry.to_source(xyxy.reshape(-1, 2))
    return np.asarray(points.clip(0, (width, height)).reshape(-1, 4), np.float32)


def from_cxcywh(boxes: Floats) -> Floats:
    """Convert boxes (n, 4) from centre, width and height to corners."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def decoded_rows(rows: Floats) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
    """Split rows of four values, score, class and more (n, 6 + …) into these: (n, 4), (n,), (n,), (n, …)."""
    return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64), rows[:, 6:]


def yolov8_rows(columns: Floats, classes: int, score: float) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
    """Split columns of four values, class scores and more (4 + classes + …, n), as :func:`decoded_rows`.

    Columns without a class of this score are left out.
    """
    end = 4 + classes
    rows = columns[:, np.flatnonzero(columns[4:end].max(axis=0) >= score)].T
    scores, class_id = best_class(rows[:, 4:end])
    return rows[:, :4], scores, class_id, rows[:, end:]


def best_class(scores: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the best class of each row of (n, classes), with its score."""
    class_id = scores.argmax(axis=1)
    return scores[np.arange(len(scores)), class_id], class_id
