"""Translate a transformers image processor to the manifest's preprocessing; the processor itself is the proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from edgebone.core.manifest import Preprocess
from edgebone.preprocess import plan
from edgebone_export.errors import ExportError, in_one_line
from edgebone_export.models.contract import InputSize, Transform, resized

# Pillow's filters, by number; 5 is Hamming's, which no engine's preprocessing has.
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box")
# What a processor may do: translated, or without effect on pictures in colour.
_TRANSLATED = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order", "do_pad")
_WITHOUT_EFFECT = ("do_convert_rgb", "do_reduce_labels", "do_convert_annotations")
# ConvNeXt's processor cuts nothing off from this size on.
_CONVNEXT_WHOLE = 384
# A camera's picture: what keeps the aspect of a picture gets the size that it gives this one.
_CAMERA_WH = (640, 480)
_HW = {"height", "width"}


def preprocess_of(processor: Any, size: InputSize, name: str) -> tuple[Preprocess, Transform | None]:
    """Translate a processor.

    Args:
        processor: The image processor.
        size: The requested size; the processor's own if None. A processor that keeps the aspect of each picture has
            none: it gets the size that it gives a picture of 640x480.
        name: The network's name, for messages.

    Returns:
        The preprocessing, and the processor itself as a transform at that size; None where it has no such form.

    Raises:
        ExportError: A bundle cannot describe the processor; the message names the field.
    """
    values = processor.to_dict()
    own = _own(processor, values, name)
    if own.mode == "crop":
        spec = resized(own, size)
    else:
        spec = msgspec.structs.replace(own, size_hw=size.size_hw or own.size_hw)
        resized(spec, InputSize(resize=size.resize))
    multiple = values.get("ensure_multiple_of") or 1
    if any(side % multiple for side in spec.size_hw):
        raise ExportError(f"{name}: both sides must be multiples of {multiple} (ensure_multiple_of); pass --size")
    return spec, _reference(processor, values, spec, own)


def _own(processor: Any, values: Mapping[str, Any], name: str) -> Preprocess:
    """Return the preprocessing at the processor's own size."""

    def refuse(field: str, why: str) -> ExportError:
        return ExportError(f"{name}: preprocessor_config.json: {field} {why}, which a bundle cannot describe")

    for key, value in values.items():
        if key.startswith("do_") and value and key not in (*_TRANSLATED, *_WITHOUT_EFFECT):
            raise refuse(key, f"is {str(value).lower()}")
    if not values.get("do_resize"):
        raise refuse("do_resize", "is false: pictures of any size")
    if "size" not in values:
        raise refuse("size", "is not given")
    number = int(values.get("resample", 2))
    if number >= len(_FILTERS):
        raise refuse("resample", f"is {number}")
    mean, std = _normalization(values)
    common: dict[str, Any] = {
        "interpolation": _FILTERS[number],
        "antialias": True,
        "color": "bgr" if values.get("do_flip_channel_order") else "rgb",
        "mean": mean,
        "std": std,
    }
    edges = {key: edge for key, edge in values["size"].items() if edge}
    crop = (values.get("crop_size") or {}) if values.get("do_center_crop") else {}
    form = edges.keys()
    if crop and crop.keys() != _HW:
        raise refuse("crop_size", f"has {', '.join(sorted(crop))}")
    try:
        if form == {"shortest_edge"} and (crop or "crop_pct" in values):
            short = _shortest(values, edges["shortest_edge"])
            if short is None:
                return Preprocess(mode="stretch", size_hw=(edges["shortest_edge"],) * 2, **common)
            size_hw = (crop["height"], crop["width"]) if crop else (edges["shortest_edge"],) * 2
            return Preprocess(mode="crop", size_hw=size_hw, resize=short, rounding="down", **common)
        if form == _HW and crop:
            size_hw, whole = (crop["height"], crop["width"]), (edges["height"], edges["width"])
            return Preprocess(mode="crop", size_hw=size_hw, resize=whole, rounding="down", **common)
        if form == _HW and not values.get("do_pad"):
            size_hw = _camera(processor) if values.get("keep_aspect_ratio") else (edges["height"], edges["width"])
            return Preprocess(mode="stretch", size_hw=size_hw, **common)
        if form in ({"shortest_edge"}, {"shortest_edge", "longest_edge"}, {"max_height", "max_width"}):
            # Padded after normalisation with zeros, which are the mean.
            pad = tuple(round(255 * value) for value in mean)
            if not all(0 <= value <= 255 for value in pad):
                raise refuse("image_mean", "is not a colour, and pads pictures")
            return Preprocess(
                mode="letterbox",
                size_hw=_camera(processor),
                pad_value=(pad[0], pad[1], pad[2]),
                anchor="top_left",
                rounding="down",
                **common,
            )
    except ValueError as error:
        raise refuse("image_mean, image_std, rescale_factor and size", f"give: {in_one_line(error)}") from error
    if form == _HW:
        raise refuse("do_pad", "is true with a size of height and width")
    raise refuse("size", f"has {', '.join(sorted(form)) or 'nothing'}")


def _normalization(values: Mapping[str, Any]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation in units of 0 to 1."""
    factor = float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale") else 1.0
    # EfficientNet's: bytes become -1 to 1.
    offset = 1.0 if values.get("rescale_offset") and values.get("do_rescale") else 0.0
    mean, std = [0.0] * 3, [1.0] * 3
    if values.get("do_normalize"):
        mean, std = ([float(value) for value in values[key]] for key in ("image_mean", "image_std"))
    if values.get("include_top"):
        # EfficientNet's classifiers divide by the deviation once more.
        std = [value * float(again) for value, again in zip(std, values["image_std"], strict=True)]
    unit = 255 * factor
    first, second, third = ((value + offset) / unit for value in mean)
    one, two, three = (value / unit for value in std)
    return (first, second, third), (one, two, three)


def _shortest(values: Mapping[str, Any], edge: int) -> int | None:
    """Return the shorter side before the crop; None if nothing is cut off, as by ConvNeXt's for large inputs."""
    if str(values["image_processor_type"]).startswith("Levit"):
        return int(256 / 224 * edge)
    share = values.get("crop_pct")
    if share is None:
        return edge
    whole = not values.get("do_center_crop") and edge >= _CONVNEXT_WHOLE
    return None if whole else int(edge / share)


def _camera(processor: Any) -> tuple[int, int]:
    """Return height and width of what the processor makes of a camera's picture."""
    pixels = processor(images=Image.new("RGB", _CAMERA_WH), return_tensors="pt")["pixel_values"]
    return int(pixels.shape[2]), int(pixels.shape[3])


def _reference(processor: Any, values: Mapping[str, Any], spec: Preprocess, own: Preprocess) -> Transform | None:
    """Return the processor as a transform at the chosen size."""
    height, width = spec.size_hw
    at_size: dict[str, Any] = {"size": {"height": height, "width": width}}

    def process(picture: Image.Image, changed: Mapping[str, Any]) -> Tensor:
        pixels: Tensor = processor(images=picture, return_tensors="pt", **changed)["pixel_values"][0]
        return pixels.to(torch.float32)

    if spec.mode == "letterbox":

        def padded(picture: Image.Image) -> Tensor:
            rows, columns = plan(spec, picture.height, picture.width).resized_hw
            pixels = process(picture, {"size": {"height": rows, "width": columns}, "do_pad": False})
            return F.pad(pixels, (0, width - columns, 0, height - rows))

        return padded
    if values.get("keep_aspect_ratio"):
        return lambda picture: process(picture, {**at_size, "keep_aspect_ratio": False})
    if spec == own:
        return lambda picture: process(picture, {})
    if "crop_pct" in values or _shortest(values, 224) != 224:
        return None
    if spec.mode == "stretch":
        return lambda picture: process(picture, {**at_size, "do_center_crop": False})
    whole = spec.resize
    before = (
        {"shortest_edge": whole} if isinstance(whole, int) else dict(zip(("height", "width"), whole or (), strict=True))
    )
    return lambda picture: process(picture, {"size": before, "crop_size": at_size["size"]})
