"""How well-known families of networks take their pictures, what a file says of itself, and lists of class names.

Nothing here is guessed: the user names a convention, or the file carries its publisher's own record.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

import msgspec

from edgebone.core import limits
from edgebone.core.foreign import foreign
from edgebone.core.manifest import Preprocess
from edgebone.core.reading import is_regular, read_regular, read_text
from edgebone_export.errors import ExportError

_ZERO, _ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BYTE = (1 / 255, 1 / 255, 1 / 255)


def _spec(**settings: object) -> Preprocess:
    common = {"size_hw": [1, 1], "interpolation": "bilinear", "antialias": False, "color": "rgb"}
    return msgspec.convert({**common, "mean": _ZERO, "std": _ONE, **settings}, Preprocess)


# The sizes are replaced by the network's own.
_PRESETS = {
    # yolox/data/data_augment.py, preproc(): BGR, 0 to 255, the picture at the top left.
    "yolox": _spec(mode="letterbox", color="bgr", std=_BYTE, pad_value=114, anchor="top_left", rounding="down"),
    # ultralytics/data/augment.py, LetterBox; YOLOv5 to YOLO26.
    "ultralytics": _spec(mode="letterbox", pad_value=114),
    # rtdetrv2_pytorch/references/deploy; D-FINE's tools/inference: Pillow's resize, 0 to 1.
    "rt-detr": _spec(mode="stretch", antialias=True),
    # rfdetr/detr.py: the same, and ImageNet's mean and standard deviation.
    "rf-detr": _spec(mode="stretch", antialias=True, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
    # OpenCV's resize of the whole picture, 0 to 1.
    "stretch": _spec(mode="stretch"),
    # torchvision's classifiers: the shorter side at 256/224 of the size, then the centre.
    "imagenet": _spec(mode="crop", resize=1, antialias=True, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
}
_EXAMPLE = (
    '{"mode": "letterbox", "size_hw": [416, 416], "interpolation": "bilinear", "antialias": false, "color": "bgr", '
    '"mean": [0, 0, 0], "std": [1, 1, 1], "pad_value": 114, "anchor": "top_left"}'
)
_ULTRALYTICS = "ultralytics"


def find_preprocess(
    stated: str | Preprocess | None, metadata: Mapping[str, str], size_hw: tuple[int, int]
) -> Preprocess:
    """What the user states, or what the file's own metadata says.

    Args:
        stated: A convention's name, a JSON file, or the preprocessing itself.
        metadata: The ONNX file's metadata.
        size_hw: Height and width of the network's input, in pixels.

    Raises:
        ExportError: Neither says it, or the file cannot be read or is of another size.
    """
    if isinstance(stated, Preprocess):
        return _same_size(stated, size_hw, "the preprocessing")
    if stated is None:
        if not is_ultralytics(metadata):
            raise ExportError(
                f"say how pictures become the network's input: --preprocess {', '.join(_PRESETS)}, or a JSON file "
                f"with: {_EXAMPLE}"
            )
        stated = _ULTRALYTICS
    if stated in _PRESETS:
        preset = _PRESETS[stated]
        resize = None if preset.resize is None else round(min(size_hw) * 256 / 224)
        return msgspec.structs.replace(preset, size_hw=size_hw, resize=resize)
    with foreign(
        lambda reason: ExportError(
            f"{stated} is neither one of {', '.join(_PRESETS)} nor a readable JSON file ({reason})"
        )
    ):
        read = msgspec.json.decode(read_regular(stated, limits.SETTINGS_BYTES), type=Preprocess)
    return _same_size(read, size_hw, stated)


def _same_size(stated: Preprocess, size_hw: tuple[int, int], what: str) -> Preprocess:
    if stated.size_hw != size_hw:
        raise ExportError(f"{what} says size_hw {list(stated.size_hw)}, the network's input is {list(size_hw)}")
    return stated


def is_ultralytics(metadata: Mapping[str, str]) -> bool:
    """Whether the file's metadata is what ultralytics' exporter writes."""
    return metadata.get("author") == "Ultralytics" and {"stride", "names", "imgsz"} <= metadata.keys()


def find_labels(stated: str | None, metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Class names that the user states, or that the file's own metadata lists; None where there are none.

    Args:
        stated: A file with one name a line; names with commas between; ``coco`` or ``imagenet``.
        metadata: The ONNX file's metadata.

    Raises:
        ExportError: The file cannot be read, or the metadata is damaged.
    """
    if stated is None:
        return _ultralytics_names(metadata["names"]) if is_ultralytics(metadata) else None
    if not is_regular(stated):
        if stated in ("coco", "imagenet"):
            return _known_labels(stated)
        if "," in stated:
            return tuple(name.strip() for name in stated.split(","))
    with foreign(
        lambda reason: ExportError(
            f"labels {stated}: not a readable file ({reason}); give a file with one name a line, names with commas "
            "between, coco or imagenet"
        )
    ):
        lines = read_text(stated, limits.LABELS_BYTES).splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _known_labels(name: str) -> tuple[str, ...]:
    from torchvision.models import ResNet50_Weights

    from edgebone_export.detectors.torchvision_detectors import BACKGROUND, coco_classes

    if name == "imagenet":
        return tuple(ResNet50_Weights.DEFAULT.meta["categories"])
    return tuple(item for item in coco_classes() if item not in (BACKGROUND, "N/A"))


def _ultralytics_names(text: str) -> tuple[str, ...]:
    """``{0: 'person', 1: 'bicycle'}``, as Python writes a dict."""
    try:
        names = ast.literal_eval(text)
        return tuple(str(names[index]) for index in range(len(names)))
    except (ValueError, SyntaxError, KeyError, TypeError) as error:
        raise ExportError(
            f"the file's metadata lists its class names in a form that is not known: {text[:80]}"
        ) from error
