"""Turns a picture into the network's uint8 input, and returns the geometry of the way back.

Antialiased resizing uses Pillow, the code that torchvision's and timm's transforms train with: OpenCV's filters differ
by several steps of 255, which silently costs accuracy. Only the part of the picture that the network sees is resampled.
Compared with resizing the whole picture, this rounds some pixels to the neighbouring step of 255.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from edgebone.core import limits
from edgebone.core.errors import TensorError
from edgebone.core.foreign import foreign
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Preprocess
from edgebone.core.pixels import too_large

Pixels = NDArray[np.uint8]

# Pillow's filters and half their width, in source pixels per network pixel.
_PILLOW = {
    "nearest": (Image.Resampling.NEAREST, 0.5),
    "box": (Image.Resampling.BOX, 0.5),
    "bilinear": (Image.Resampling.BILINEAR, 1.0),
    "bicubic": (Image.Resampling.BICUBIC, 2.0),
    "lanczos": (Image.Resampling.LANCZOS, 3.0),
}
# From this version on Pillow chooses which axis is resized first.
_PILLOW_CHOOSES = 13
_TRIED_HW = (40, 49)
_OPENCV = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos4": cv2.INTER_LANCZOS4,
    "area": cv2.INTER_AREA,
}
# A small margin, so that rounding does not move a side that fits exactly.
_WHOLE: dict[str, Callable[[float], int]] = {
    "nearest": round,
    "down": lambda value: math.floor(value + 1e-6),
    "up": lambda value: math.ceil(value - 1e-6),
}


def preprocess(spec: Preprocess, image_bgr: NDArray[Any], out: Pixels) -> Geometry:
    """Fill a network input with one picture.

    Args:
        spec: The bundle's preprocessing.
        image_bgr: uint8, shape (height, width, 3), BGR.
        out: uint8, shape ``(*spec.size_hw, 3)``; overwritten.

    Returns:
        The map between the picture's pixels and the network's.

    Raises:
        TensorError: The picture is not uint8 with three channels, has no pixels, or is so long and narrow that it
            cannot be resized.
    """
    if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or not image_bgr.size:
        raise TensorError(
            "a picture must be uint8 of shape (height, width, 3) in BGR order, "
            f"got {image_bgr.dtype} of shape {image_bgr.shape}"
        )
    geometry = plan(spec, image_bgr.shape[0], image_bgr.shape[1])
    height, width = image_bgr.shape[:2]
    with foreign(lambda reason: TensorError(f"a picture of {width}x{height} cannot be resized: {reason}")):
        if spec.pad == "before":
            _resample_padded(spec, image_bgr, out)
        else:
            _resample(spec, image_bgr, geometry, out)
    return geometry


def plan(spec: Preprocess, height: int, width: int) -> Geometry:
    """Return the geometry of a picture of this size. Rounds as torchvision does."""
    net_h, net_w = spec.size_hw
    if spec.mode == "crop":
        resized_h, resized_w = _resized_hw(spec.resize, height, width)
        offset = (_crop_offset(resized_w, net_w, spec), _crop_offset(resized_h, net_h, spec))
    elif spec.pad == "before":
        left, top, padded_w, padded_h = _padded(spec, height, width)
        scale_x, scale_y = net_w / padded_w, net_h / padded_h
        return Geometry((height, width), spec.size_hw, (scale_x, scale_y), (left * scale_x, top * scale_y))
    elif spec.mode in ("letterbox", "height"):
        scale = net_h / height if spec.mode == "height" else min(net_h / height, net_w / width)
        whole = _WHOLE[spec.rounding]
        resized_h = min(net_h, max(1, whole(height * scale)))
        resized_w = min(net_w, max(1, whole(width * scale)))
        centered = spec.anchor == "center"
        offset = (
            float((net_w - resized_w) // 2 if centered else 0),
            float((net_h - resized_h) // 2 if centered else 0),
        )
    else:
        resized_h, resized_w, offset = net_h, net_w, (0.0, 0.0)
    return Geometry((height, width), spec.size_hw, (resized_w / width, resized_h / height), offset)


def _padded(spec: Preprocess, height: int, width: int) -> tuple[int, int, int, int]:
    """Return a picture's left and top when padded to the input's aspect, and the padded width and height."""
    net_h, net_w = spec.size_hw
    padded_w, padded_h = max(width, round(height * net_w / net_h)), max(height, round(width * net_h / net_w))
    if spec.anchor == "top_left":
        return 0, 0, padded_w, padded_h
    return (padded_w - width) // 2, (padded_h - height) // 2, padded_w, padded_h


def _resized_hw(resize: int | tuple[int, int] | None, height: int, width: int) -> tuple[int, int]:
    """Return the whole picture's size after resizing, before the crop; the longer side truncates, as in torchvision."""
    if isinstance(resize, int):
        if height <= width:
            return resize, int(resize * width / height)
        return int(resize * height / width), resize
    assert resize is not None, "the manifest checks that crop comes with resize"
    return resize


def _crop_offset(resized: int, net: int, spec: Preprocess) -> float:
    """Return where the resized picture begins in the crop; an odd pixel of padding goes right and below."""
    return float((net - resized) // 2) if resized < net else float(-_WHOLE[spec.rounding]((resized - net) / 2.0))


def _resample_padded(spec: Preprocess, image_bgr: Pixels, out: Pixels) -> None:
    """Pad the picture to the input's aspect, then resize it."""
    height, width = image_bgr.shape[:2]
    left, top, padded_w, padded_h = _padded(spec, height, width)
    _check_size(f"a picture of {width}x{height}, padded to the network's aspect,", (padded_h, padded_w))
    bgr = spec.padding if spec.color == "bgr" else spec.padding[::-1]
    padded = cv2.copyMakeBorder(
        image_bgr, top, padded_h - height - top, left, padded_w - width - left, cv2.BORDER_CONSTANT, value=bgr
    )
    net_h, net_w = spec.size_hw
    whole = Geometry((padded_h, padded_w), spec.size_hw, (net_w / padded_w, net_h / padded_h), (0.0, 0.0))
    _resample(spec, np.asarray(padded, np.uint8), whole, out)


def _check_size(what: str, size_hw: tuple[int, int]) -> None:
    refusal = too_large(f"{what} to one", size_hw, limits.PICTURE_PIXELS)
    if refusal:
        raise TensorError(refusal)


def _resample(spec: Preprocess, image_bgr: Pixels, geometry: Geometry, out: Pixels) -> None:
    """Resize only the part inside the network's input, and pad the rest."""
    net_h, net_w = geometry.network_hw
    scale_x, scale_y = geometry.scale_xy
    resized_h, resized_w = geometry.resized_hw
    left, top = (int(value) for value in geometry.offset_xy)
    x0, y0 = max(left, 0), max(top, 0)
    x1 = min(left + resized_w, net_w)
    y1 = min(top + resized_h, net_h)
    if (x0, y0, x1, y1) != (0, 0, net_w, net_h):
        out[:] = spec.padding
    box = ((x0 - left) / scale_x, (y0 - top) / scale_y, (x1 - left) / scale_x, (y1 - top) / scale_y)
    target = out[y0:y1, x0:x1]
    if spec.antialias:
        target[:] = _pillow(spec, image_bgr, geometry, box, (x1 - x0, y1 - y0))
    else:
        resized = _opencv(spec, image_bgr, geometry)
        if spec.color == "rgb":
            # NumPy takes ten times as long to reverse three channels.
            resized = np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB), np.uint8)
        target[:] = resized[y0 - top : y1 - top, x0 - left : x1 - left]


def _pillow(
    spec: Preprocess,
    image_bgr: Pixels,
    geometry: Geometry,
    box: tuple[float, float, float, float],
    size_wh: tuple[int, int],
) -> Pixels:
    """Resize a box of the picture, in the network's channel order."""
    filter_, half_width = _PILLOW[spec.interpolation]
    height, width = image_bgr.shape[:2]
    reach_x = half_width * max(1.0, (box[2] - box[0]) / size_wh[0]) + 1
    reach_y = half_width * max(1.0, (box[3] - box[1]) / size_wh[1]) + 1
    # The filter reaches beyond the box, so the crop needs that margin to leave the result unchanged.
    left, top = max(0, math.floor(box[0] - reach_x)), max(0, math.floor(box[1] - reach_y))
    right, bottom = min(width, math.ceil(box[2] + reach_x)), min(height, math.ceil(box[3] + reach_y))
    part = np.ascontiguousarray(image_bgr[top:bottom, left:right])
    # Pillow swaps the channels while it unpacks, which saves a pass over the picture.
    order = "BGR" if spec.color == "rgb" else "RGB"
    picture = Image.frombuffer("RGB", (right - left, bottom - top), part, "raw", order, 0, 1)
    x0, y0 = max(box[0] - left, 0.0), max(box[1] - top, 0.0)
    x1, y1 = min(box[2] - left, float(right - left)), min(box[3] - top, float(bottom - top))
    resized_hw = geometry.resized_hw
    if size_wh == resized_hw[::-1] or filter_ == Image.Resampling.NEAREST:
        return np.asarray(picture.resize(size_wh, filter_, box=(x0, y0, x1, y1)))
    # One axis after the other, in the order of the whole picture: for a part of it Pillow may choose another order.
    if takes_y_first(spec.interpolation, (height, width), resized_hw):
        picture = picture.resize((picture.width, size_wh[1]), filter_, box=(0, y0, picture.width, y1))
        return np.asarray(picture.resize(size_wh, filter_, box=(x0, 0, x1, size_wh[1])))
    picture = picture.resize((size_wh[0], picture.height), filter_, box=(x0, 0, x1, picture.height))
    return np.asarray(picture.resize(size_wh, filter_, box=(0, y0, size_wh[0], y1)))


@functools.lru_cache(maxsize=256)
def takes_y_first(interpolation: str, source_hw: tuple[int, int], resized_hw: tuple[int, int]) -> bool:
    """Return whether the installed Pillow resizes a whole picture along y before x.

    Up to version 12 it never does; from 13 on it does if the height shrinks more than twice as much as the width.
    Between the two it rounds to bytes and clips overshoots, so the order matters. A Pillow that follows another rule is
    tested on noise of each size.

    Args:
        interpolation: The filter, by the manifest's name; not ``nearest``.
        source_hw: Height and width of the picture, in pixels.
        resized_hw: Height and width that it is resized to.
    """
    if int(PIL.__version__.split(".")[0]) < _PILLOW_CHOOSES:
        return False
    if _goes_by_rule(interpolation):
        return _y_loses_most(source_hw, resized_hw)
    by_itself, along_x_first, _ = _noise_resized(interpolation, source_hw, resized_hw)
    return by_itself != along_x_first


def _y_loses_most(source_hw: tuple[int, int], resized_hw: tuple[int, int]) -> bool:
    lost_y, lost_x = source_hw[0] - resized_hw[0], source_hw[1] - resized_hw[1]
    return lost_y > max(0, 2 * lost_x)


@functools.lru_cache(maxsize=len(_PILLOW))
def _goes_by_rule(interpolation: str) -> bool:
    """Return whether Pillow follows the rule: tested on small sizes on both sides of it, since large ones take long."""
    for source_hw in itertools.product((60, 57, 41, 39), (64, 58, 56, 44, 20)):
        by_itself, along_x_first, along_y_first = _noise_resized(interpolation, source_hw, _TRIED_HW)
        if by_itself != (along_y_first if _y_loses_most(source_hw, _TRIED_HW) else along_x_first):
            return False
    return True


def _noise_resized(
    interpolation: str, source_hw: tuple[int, int], resized_hw: tuple[int, int]
) -> tuple[bytes, bytes, bytes]:
    """Return noise resized by Pillow in its own order, along x before y, and along y before x."""
    filter_, _ = _PILLOW[interpolation]
    (height, width), size_wh = source_hw, resized_hw[::-1]
    # Noise of a hash: importing numpy.random takes longer than all of this.
    tile = np.frombuffer(hashlib.shake_128().digest(1 << 14), np.uint8)
    noise = Image.fromarray(np.resize(tile, (height, width)))
    along_x_first = noise.resize((size_wh[0], height), filter_).resize(size_wh, filter_)
    along_y_first = noise.resize((width, size_wh[1]), filter_).resize(size_wh, filter_)
    return noise.resize(size_wh, filter_).tobytes(), along_x_first.tobytes(), along_y_first.tobytes()


def _opencv(spec: Preprocess, image_bgr: Pixels, geometry: Geometry) -> Pixels:
    height, width = geometry.source_hw
    size_wh = geometry.resized_hw[::-1]
    _check_size(f"a picture of {width}x{height}, resized before it is cropped,", geometry.resized_hw)
    return np.asarray(cv2.resize(image_bgr, size_wh, interpolation=_OPENCV[spec.interpolation]), np.uint8)
