"""Draws a result onto a picture."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgebone.core.results import Classification, Results

_ROWS = 3
_BAR_BGR = (226, 144, 42)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def annotate(image_bgr: NDArray[np.uint8], results: Results) -> NDArray[np.uint8]:
    """Draw a result onto a copy of a picture.

    Args:
        image_bgr: uint8, shape (height, width, 3), BGR.
        results: What the model gave for it.

    Returns:
        A picture of the same shape.
    """
    canvas = image_bgr.copy()
    heads = results if isinstance(results, dict) else {"": results}
    top = 0
    for name, result in heads.items():
        if isinstance(result, Classification):
            rows = list(zip(result.labels, result.confidence.tolist(), strict=True))[:_ROWS]
            texts = [(f"{name}: {label}" if name else label, confidence) for label, confidence in rows]
        else:
            texts = [(f"{name}: {result}" if name else str(result), None)]
        top = _panel(canvas, texts, top)
    return canvas


def _panel(canvas: NDArray[np.uint8], rows: list[tuple[str, float | None]], top: int) -> int:
    """Darken a strip of the canvas and write the rows onto it; returns where the strip ends."""
    height, width = int(canvas.shape[0]), int(canvas.shape[1])
    size = max(10, min(height // 22, width // 18))
    pad = size // 2
    line = size + pad
    panel_h = min(len(rows) * line + pad, height - top)
    panel_w = min(width, size * 18)
    if panel_h <= 0:
        return height
    strip = canvas[top : top + panel_h, :panel_w]
    strip[:] = cv2.addWeighted(strip, 0.35, np.zeros_like(strip), 0.65, 0)
    for row, (_, confidence) in enumerate(rows):
        if confidence is not None:
            y = row * line + pad
            # Not NaN, which a network that overflows gives; not outside of 0 to 1, where it is no probability.
            share = min(max(confidence, 0.0), 1.0) if confidence == confidence else 0.0
            end = pad + int((panel_w - 2 * pad) * share)
            cv2.rectangle(strip, (pad, y - pad // 4), (end, y + size + pad // 4), _BAR_BGR, -1)
    # OpenCV's own fonts know ASCII only; labels may be in any language.
    picture = Image.fromarray(strip[..., ::-1].copy())
    draw = ImageDraw.Draw(picture)
    for row, (text, confidence) in enumerate(rows):
        shown = text if confidence is None else f"{100 * confidence:5.1f} %  {text}"
        draw.text((pad + 2, row * line + pad), shown, fill=(255, 255, 255), font=_font(size))
    strip[:] = np.asarray(picture)[..., ::-1]
    return top + panel_h


@lru_cache(maxsize=8)
def _font(size: int) -> _Font:
    try:
        return ImageFont.load_default(size)
    except TypeError:
        # Pillow before 10.1 has one small bitmap font.
        return ImageFont.load_default()
