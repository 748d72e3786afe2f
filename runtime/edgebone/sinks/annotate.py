"""Draws a result onto a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Generic

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgebone.core.anomaly import Anomaly
from edgebone.core.depth import DepthMap
from edgebone.core.detections import Detections
from edgebone.core.frame import Frame
from edgebone.core.keypoints import KeyPoints
from edgebone.core.oriented import CORNERS
from edgebone.core.place import load_place
from edgebone.core.results import Classification, MultiLabel, Result, Results
from edgebone.core.segmentation import SegmentationMap
from edgebone.tasks.contract import R, Task
from edgebone.tasks.table import TASKS, task_of_result

Draw = Callable[[NDArray[np.uint8], Frame], NDArray[np.uint8]]
"""Draws onto a frame's picture, BGR, and returns it."""

_ROWS = 3
_BAR_BGR = (226, 144, 42)
# Okabe and Ito's colours (2008), which colour-blind people can tell apart, as BGR.
_PALETTE_BGR = (
    (0, 159, 230),
    (233, 180, 86),
    (115, 158, 0),
    (66, 228, 240),
    (178, 114, 0),
    (0, 94, 213),
    (167, 121, 204),
)
_MASK_OPACITY = 0.45
# Indexed by 128ths of the threshold.
_LEAST_HEAT = 112
_HEAT_OPACITY = 0.55
_DEPTH_OPACITY = 0.8
_LEAST_VISIBLE = 0.5
_HEAT_BGR = np.array([(0, min(max(2 * (level - 128), 0), 255), 255) for level in range(256)], np.uint8)
Row = tuple[str, float | None]
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Drawing(Generic[R]):
    """How the results of a task are drawn.

    Attributes:
        rows: Returns a result's lines of text, each with a confidence for a bar or None.
        paint: Draws one picture's results onto the canvas in place, given the original picture; None for text alone.
        legend: Draws the legend from the canvas's top down, and returns its lower end.
    """

    rows: Callable[[R], list[Row]]
    paint: Callable[[NDArray[np.uint8], NDArray[np.uint8], Sequence[R]], None] | None = None
    legend: Callable[[NDArray[np.uint8], Sequence[R]], int] | None = None


def annotate(image_bgr: NDArray[np.uint8], results: Results) -> NDArray[np.uint8]:
    """Draw a result onto a copy of a picture.

    Boxes are drawn by supervision if it is installed, else plainly.

    Args:
        image_bgr: uint8, shape (height, width, 3), BGR.
        results: The model's results for it.

    Returns:
        A picture of the same shape.
    """
    canvas = image_bgr.copy()
    heads = results if isinstance(results, dict) else {"": results}
    by_task = [(task, [item for item in map(task.of, heads.values()) if item is not None]) for task in TASKS]
    drawings = [(_drawing(task), found) for task, found in by_task if found]
    for drawing, found in drawings:
        if drawing.paint is not None:
            drawing.paint(canvas, image_bgr, found)
    # Text last.
    top = 0
    for drawing, found in drawings:
        if drawing.legend is not None:
            top = drawing.legend(canvas, found)
    for name, result in heads.items():
        # What a step draws is not written over its picture first.
        rows = [] if getattr(result, "drawn_by_step", False) else _drawing(task_of_result(result)).rows(result)
        texts = [(f"{name}: {text}" if name else text, confidence) for text, confidence in rows]
        top = _panel(canvas, texts, top) if texts else top
    return canvas


def _drawing(task: Task[Any] | None) -> Drawing[Any]:
    return TEXT if task is None or not task.drawing else _loaded(task.drawing)


@cache
def _loaded(place: str) -> Drawing[Any]:
    found: Drawing[Any] = load_place(place)
    return found


def drawn(frame: Frame, result: Results, draw: Draw | None) -> NDArray[np.uint8]:
    """Return a frame's picture with its result and further drawings."""
    image = annotate(frame.image, result)
    return image if draw is None else draw(image, frame)


def _heat(canvas: NDArray[np.uint8], _: NDArray[np.uint8], results: Sequence[Anomaly]) -> None:
    """Tint pixels from just below the threshold on, from red to yellow at twice the threshold."""
    for result in results:
        if result.map.shape == canvas.shape[:2]:
            per_threshold = 128 / max(result.threshold, 1e-12)
            level = cv2.convertScaleAbs(result.map, alpha=per_threshold)
            tinted = cv2.addWeighted(canvas, 1 - _HEAT_OPACITY, _HEAT_BGR[level], _HEAT_OPACITY, 0)
            np.copyto(canvas, tinted, where=(level >= _LEAST_HEAT)[..., None])


def _depth(canvas: NDArray[np.uint8], _: NDArray[np.uint8], results: Sequence[DepthMap]) -> None:
    """Colour by depth, the nearest brightest, from the picture's own nearest to its farthest."""
    for result in results:
        if result.geometry.source_hw == canvas.shape[:2]:
            values = result.full_size()
            seen = np.isfinite(values)
            low, high = float(result.values.min()), float(result.values.max())
            level = (np.where(seen, values, low) - low) * np.float32(255 / max(high - low, 1e-12))
            near = 255 - level if result.unit == "metres" else level
            tint = cv2.applyColorMap(near.clip(0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
            tinted = cv2.addWeighted(canvas, 1 - _DEPTH_OPACITY, tint, _DEPTH_OPACITY, 0)
            np.copyto(canvas, tinted, where=seen[..., None])


def _areas(canvas: NDArray[np.uint8], image_bgr: NDArray[np.uint8], results: Sequence[SegmentationMap]) -> None:
    """Tint each class except the background: the largest areas first, so that lane lines stay visible on the road."""
    layers = []
    color = 0
    for result in results:
        if result.class_id.shape == canvas.shape[:2]:
            colors = np.zeros((256, 3), np.uint8)
            for index in range(1, len(result.labels)):
                colors[index] = _PALETTE_BGR[(color + index - 1) % len(_PALETTE_BGR)]
            seen = result.class_id > 0
            layers.append((int(np.count_nonzero(seen)), seen, colors[result.class_id]))
        color += len(result.labels) - 1
    for _, seen, tint in sorted(layers, key=lambda layer: -layer[0]):
        # From the original picture: two overlaid tints would be a third colour, which is in no legend.
        tinted = cv2.addWeighted(image_bgr, 1 - _MASK_OPACITY, tint, _MASK_OPACITY, 0)
        np.copyto(canvas, tinted, where=seen[..., None])


def _legend(canvas: NDArray[np.uint8], results: Sequence[SegmentationMap]) -> int:
    """Draw the names of the classes present in their colours; return the lower end of the strip."""
    rows: list[Row] = []
    colors = []
    color = 0
    for result in results:
        for index, (label, share) in enumerate(result.shares().items()):
            if index and share:
                rows.append((f"{label} {100 * share:.1f} %", None))
                blue, green, red = _PALETTE_BGR[(color + index - 1) % len(_PALETTE_BGR)]
                colors.append((red, green, blue))
        color += len(result.labels) - 1
    return _panel(canvas, rows, 0, colors) if rows else 0


def _boxes(canvas: NDArray[np.uint8], _: NDArray[np.uint8], results: Sequence[Detections]) -> None:
    for result in results:
        _boxes_of(canvas, result)


def _instances(canvas: NDArray[np.uint8], _: NDArray[np.uint8], results: Sequence[Detections]) -> None:
    """Tint each object's area in its class's colour, then draw the boxes; the best object is on top."""
    for result in results:
        masks = result.mask
        if masks is None or masks.size_hw != canvas.shape[:2]:
            continue
        for index in reversed(range(len(masks))):
            area, (left, top) = masks.bitmap(index)
            part = canvas[top : top + area.shape[0], left : left + area.shape[1]]
            if part.size:
                tint = np.full_like(part, _PALETTE_BGR[int(result.class_id[index]) % len(_PALETTE_BGR)])
                tinted = cv2.addWeighted(part, 1 - _MASK_OPACITY, tint, _MASK_OPACITY, 0)
                np.copyto(part, tinted, where=area[..., None])
    _boxes(canvas, _, [dataclasses.replace(result, mask=None) for result in results])


def _oriented(canvas: NDArray[np.uint8], _: NDArray[np.uint8], results: Sequence[Detections]) -> None:
    """Draw each box as it is turned, and its text at the upright box around it."""
    for result in results:
        for corners, class_id in zip(result[CORNERS], result.class_id.tolist(), strict=True):
            color = _PALETTE_BGR[class_id % len(_PALETTE_BGR)]
            cv2.polylines(canvas, [corners.round().astype(np.int32)], True, color, _thickness(canvas), cv2.LINE_AA)
        _boxes_of(canvas, result, outline=False)


def _keypoints(canvas: NDArray[np.uint8], _: NDArray[np.uint8], results: Sequence[KeyPoints]) -> None:
    """Draw each object's box, and its keypoints that are more likely visible than not with what joins them."""
    thickness = _thickness(canvas)
    for result in results:
        _boxes_of(canvas, result.boxes)
        seen = np.ones(result.xy.shape[:2], bool)
        if result.keypoint_confidence is not None:
            seen = result.keypoint_confidence >= _LEAST_VISIBLE
        for points, visible in zip(result.xy.round().astype(int).tolist(), seen, strict=True):
            for a, b in result.skeleton.edges:
                if visible[a] and visible[b]:
                    color = _PALETTE_BGR[a % len(_PALETTE_BGR)]
                    cv2.line(canvas, points[a], points[b], color, thickness, cv2.LINE_AA)
            for place in np.flatnonzero(visible):
                color = _PALETTE_BGR[int(place) % len(_PALETTE_BGR)]
                cv2.circle(canvas, points[place], 2 * thickness, color, -1, cv2.LINE_AA)


def _thickness(canvas: NDArray[np.uint8]) -> int:
    return max(1, round(min(int(canvas.shape[0]), int(canvas.shape[1])) / 300))


def _boxes_of(canvas: NDArray[np.uint8], result: Detections, outline: bool = True) -> None:
    texts = _texts(result)
    height, width = canvas.shape[:2]
    # A side on the picture's edge lies just outside its last pixel, where it would be invisible.
    xyxy = result.xyxy.clip(0, (width - 1, height - 1, width - 1, height - 1))
    annotators = _supervision(min(height, width), all(text.isascii() for text in texts))
    if annotators is not None and len(result):
        detections = result.to_supervision()
        detections.xyxy = xyxy
        boxes, labels = annotators
        if outline:
            boxes.annotate(canvas, detections)
        np.copyto(canvas, np.asarray(labels.annotate(canvas, detections, labels=texts)))
        return
    thickness = _thickness(canvas)
    size = _text_size(canvas)
    picture = Image.fromarray(canvas[..., ::-1].copy())
    draw = ImageDraw.Draw(picture)
    for box, class_id, text in zip(xyxy.tolist(), result.class_id.tolist(), texts, strict=True):
        blue, green, red = _PALETTE_BGR[class_id % len(_PALETTE_BGR)]
        if outline:
            draw.rectangle(box, outline=(red, green, blue), width=thickness)
        left, top = box[0], max(0.0, box[1] - size - 4)
        draw.rectangle(draw.textbbox((left + 2, top), text, font=_font(size)), fill=(red, green, blue))
        draw.text((left + 2, top), text, fill=(0, 0, 0), font=_font(size))
    canvas[:] = np.asarray(picture)[..., ::-1]


def _texts(result: Detections) -> list[str]:
    """Return ``#12 bottle 87 %: oat milk`` for each box: its track and what other models said, if any."""
    rows = zip(result.labels, result.confidence.tolist(), result.answers, strict=True)
    texts = [f"{label} {100 * score:.0f} %{f': {answer}' if answer else ''}" for label, score, answer in rows]
    if result.tracker_id is None:
        return texts
    pairs = zip(result.tracker_id.tolist(), texts, strict=True)
    return [f"#{tracker_id} {text}" if tracker_id >= 0 else text for tracker_id, text in pairs]


@lru_cache(maxsize=8)
def _supervision(short_side: int, ascii_only: bool) -> tuple[Any, Any] | None:
    """Return supervision's annotators, scaled to the picture; None if it is not installed."""
    try:
        import supervision
    except ModuleNotFoundError:
        return None
    palette = supervision.ColorPalette([supervision.Color(r=r, g=g, b=b) for b, g, r in _PALETTE_BGR])
    boxes = supervision.BoxAnnotator(color=palette, thickness=max(1, round(short_side / 300)))
    black = supervision.Color.BLACK
    if ascii_only:
        return boxes, supervision.LabelAnnotator(
            color=palette, text_color=black, text_scale=max(0.3, short_side / 1200), text_padding=3, smart_position=True
        )
    # OpenCV's own fonts know ASCII only; labels may be in any language.
    return boxes, supervision.RichLabelAnnotator(
        color=palette, text_color=black, font_size=max(10, short_side // 40), text_padding=3, smart_position=True
    )


def _text_size(canvas: NDArray[np.uint8]) -> int:
    height, width = int(canvas.shape[0]), int(canvas.shape[1])
    return max(10, min(height // 22, width // 18))


def _panel(
    canvas: NDArray[np.uint8],
    rows: Sequence[Row],
    top: int,
    colors: Sequence[_Rgb] | None = None,
) -> int:
    """Darken a strip of the canvas and write the rows onto it; returns where the strip ends."""
    height, width = int(canvas.shape[0]), int(canvas.shape[1])
    size = _text_size(canvas)
    pad = size // 2
    line = size + pad
    panel_h = min(len(rows) * line + pad, height - top)
    widest = size * 18 if colors is None else int(max(_font(size).getlength(text) for text, _ in rows)) + 3 * pad
    panel_w = min(width, widest)
    if panel_h <= 0:
        return height
    strip = canvas[top : top + panel_h, :panel_w]
    strip[:] = cv2.addWeighted(strip, 0.35, np.zeros_like(strip), 0.65, 0)
    for row, (_, confidence) in enumerate(rows):
        if confidence is not None:
            y = row * line + pad
            # Not for NaN, which an overflowing network returns; nor outside 0 to 1, where it is not a probability.
            share = min(max(confidence, 0.0), 1.0) if confidence == confidence else 0.0
            end = pad + int((panel_w - 2 * pad) * share)
            cv2.rectangle(strip, (pad, y - pad // 4), (end, y + size + pad // 4), _BAR_BGR, -1)
    # OpenCV's own fonts know ASCII only; labels may be in any language.
    picture = Image.fromarray(strip[..., ::-1].copy())
    draw = ImageDraw.Draw(picture)
    for row, (text, confidence) in enumerate(rows):
        shown = text if confidence is None else f"{100 * confidence:5.1f} %  {text}"
        fill = (255, 255, 255) if colors is None else colors[row]
        draw.text((pad + 2, row * line + pad), shown, fill=fill, font=_font(size))
    strip[:] = np.asarray(picture)[..., ::-1]
    return top + panel_h


@lru_cache(maxsize=8)
def _font(size: int) -> _Font:
    try:
        return ImageFont.load_default(size)
    except TypeError:
        # Pillow before 10.1 has one small bitmap font.
        return ImageFont.load_default()


def _sentence(result: Result) -> list[Row]:
    return [(str(result), None)]


def _depth_lines(result: DepthMap) -> list[Row]:
    # A panel is narrower than the whole sentence.
    return [(part, None) for part in str(result).split(", ", 2)]


def _classes(result: Classification) -> list[Row]:
    decided: list[Row] = [] if result.decision is None else [(result.decision, None)]
    return decided + list(zip(result.labels, result.confidence.tolist(), strict=True))[:_ROWS]


def _labels(result: MultiLabel) -> list[Row]:
    return list(zip(result.labels, result.confidence.tolist(), strict=True))[:_ROWS] or _sentence(result)


def _no_text(_: Result) -> list[Row]:
    return []


TEXT: Drawing[Result] = Drawing(_sentence)
CLASSES = Drawing(_classes)
LABELS = Drawing(_labels)
HEAT: Drawing[Anomaly] = Drawing(_sentence, _heat)
DEPTH: Drawing[DepthMap] = Drawing(_depth_lines, _depth)
BOXES: Drawing[Detections] = Drawing(_no_text, _boxes)
INSTANCES: Drawing[Detections] = Drawing(_no_text, _instances)
KEYPOINTS: Drawing[KeyPoints] = Drawing(_no_text, _keypoints)
ORIENTED: Drawing[Detections] = Drawing(_no_text, _oriented)
AREAS: Drawing[SegmentationMap] = Drawing(_no_text, _areas, _legend)
