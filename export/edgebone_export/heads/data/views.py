"""Augmented views of a picture: variations that a head learns to ignore."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

MOST = 32
_AREA = (0.45, 1.0)
_ASPECT = 1.25
_DEGREES = 15.0
_LIGHT = 0.2
_TINT = 0.07
# ITU-R BT.601.
_GRAY_OF_BGR = (0.114, 0.587, 0.299)


def views_of(picture: Picture, count: int, seed: int) -> Iterator[Picture]:
    """Yield ``count`` views: the picture, its mirror image, then random crops, rotated and with other lighting.

    Args:
        picture: uint8 (height, width, 3), BGR.
        count: Number of views; 1 is the picture alone.
        seed: Seed of the random views. The same picture, seed and index yield the same view.
    """
    yield picture
    if count > 1:
        yield _mirrored(picture)
    for number in range(2, count):
        yield _random_view(picture, np.random.default_rng([seed, number]))


def _random_view(picture: Picture, rng: np.random.Generator) -> Picture:
    """Crop 45 to 100 % of the area, rotate by up to 15 degrees, mirror half of them, change the lighting."""
    height, width = picture.shape[:2]
    area = rng.uniform(*_AREA)
    aspect = np.exp(rng.uniform(-np.log(_ASPECT), np.log(_ASPECT)))
    cut_w = min(width * np.sqrt(area * aspect), width)
    cut_h = min(height * np.sqrt(area / aspect), height)
    center = (
        rng.uniform(cut_w / 2, width - cut_w / 2) if cut_w < width else width / 2,
        rng.uniform(cut_h / 2, height - cut_h / 2) if cut_h < height else height / 2,
    )
    turn = cv2.getRotationMatrix2D(center, rng.uniform(-_DEGREES, _DEGREES), 1.0)
    out_w, out_h = max(1, round(cut_w)), max(1, round(cut_h))
    turn[:, 2] += np.asarray((out_w / 2 - center[0], out_h / 2 - center[1]))
    flags, border = cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101
    cut: Picture = np.asarray(cv2.warpAffine(picture, turn, (out_w, out_h), flags=flags, borderMode=border), np.uint8)
    if rng.random() < 0.5:
        cut = _mirrored(cut)
    return _relit(cut, rng)


def _relit(picture: Picture, rng: np.random.Generator) -> Picture:
    """Change brightness, contrast and saturation by up to a fifth, each channel by up to 7 %."""
    brightness, contrast, saturation = rng.uniform(1 - _LIGHT, 1 + _LIGHT, 3)
    tint = rng.uniform(1 - _TINT, 1 + _TINT, 3)
    gray = picture.astype(np.float32) @ np.asarray(_GRAY_OF_BGR, np.float32)
    mean = np.float32(gray.mean())
    # Channel by channel in reused memory: NumPy takes four times as long over pixels of three numbers. The steps are
    # single float32 operations in this order, on which every digit of the features depends.
    lit = []
    light = np.empty_like(gray)
    for channel, factor in zip(cv2.split(picture), (brightness * tint).astype(np.float32), strict=True):
        light[...] = channel
        light -= gray
        light *= np.float32(saturation)
        light += gray
        light -= mean
        light *= np.float32(contrast)
        light += mean
        light *= factor
        lit.append(np.clip(light, 0, 255, out=light).astype(np.uint8))
    return np.asarray(cv2.merge(lit), np.uint8)


def _mirrored(picture: Picture) -> Picture:
    return np.asarray(cv2.flip(picture, 1), np.uint8)
