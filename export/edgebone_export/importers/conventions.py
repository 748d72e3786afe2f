"""Preprocessing conventions of well-known families of networks, and lists of class names.

Nothing is guessed: the user names a convention, or the file carries its publisher's own record.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgebone.core.foreign import foreign
from edgebone.core.limits import SETTINGS_BYTES
from edgebone.core.manifest import Preprocess
from edgebone.core.near import did_you_mean
from edgebone.core.reading import is_regular, read_regular
from edgebone_export.errors import ExportError
from edgebone_export.importers.publishers import FileMetadata
from edgebone_export.models.labels import read_labels

_ZERO, _ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BYTE = (1 / 255, 1 / 255, 1 / 255)


def _spec(**settings: object) -> Preprocess:
    common = {"size_hw": [1, 1], "interpolation": "bilinear", "antialias": False, "color": "rgb"}
    return msgspec.convert({**common, "mean": _ZERO, "std": _ONE, **settings}, Preprocess)


# The sizes are replaced by the network's own.
_PRESETS = {
    # yolox/data/data_augment.py, preproc(): BGR, 0 to 255, picture at the top left.
    "yolox": _spec(mode="letterbox", color="bgr", std=_BYTE, pad_value=114, anchor="top_left", rounding="down"),
    # ultralytics/data/augment.py, LetterBox; YOLOv5 to YOLO26.
    "ultralytics": _spec(mode="letterbox", pad_value=114),
    # The same file, classify_transforms(): resize the shorter side as torchvision does, centre crop, 0 to 1.
    "ultralytics-classify": _spec(mode="crop", resize=1, antialias=True),
    # rtdetrv2_pytorch/references/deploy; D-FINE's tools/inference: Pillow's resize, 0 to 1.
    "rt-detr": _spec(mode="stretch", antialias=True),
    # rfdetr/detr.py: the same, and ImageNet's mean and standard deviation.
    "rf-detr": _spec(mode="stretch", antialias=True, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
    # OpenCV's resize of the whole picture, 0 to 1.
    "stretch": _spec(mode="stretch"),
    # torchvision's classifiers: shorter side at 256/224 of the size, then centre crop.
    "imagenet": _spec(mode="crop", resize=1, antialias=True, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
}
CONVENTIONS = tuple(_PRESETS)
# Spelt like yolox, but nearly always one of Ultralytics' networks, which preprocess differently.
_MEANT = dict.fromkeys(("yolo", "yolov5", "yolov8", "yolov10", "yolo11", "yolo26", "letterbox"), "ultralytics")
_EXAMPLE = (
    '{"mode": "letterbox", "size_hw": [416, 416], "interpolation": "bilinear", "antialias": false, "color": "bgr", '
    '"mean": [0, 0, 0], "std": [1, 1, 1], "pad_value": 114, "anchor": "top_left"}'
)


def find_preprocess(stated: str | Preprocess | None, said: FileMetadata, size_hw: tuple[int, int]) -> Preprocess:
    """Return the preprocessing that the user states, else that of the file's metadata.

    Args:
        stated: A convention's name, a JSON file, or the preprocessing itself.
        said: The file's metadata.
        size_hw: Height and width of the network's input, in pixels.

    Raises:
        ExportError: Neither defines it, or the JSON file cannot be read or has another size.
    """
    if isinstance(stated, Preprocess):
        return _same_size(stated, size_hw, "the preprocessing")
    if stated is None:
        if said.preprocess is not None:
            return _same_size(said.preprocess, size_hw, "the file's own record")
        if said.convention is None:
            raise ExportError(
                f"the preprocessing is not known: pass --preprocess {', '.join(_PRESETS)}, or a JSON file "
                f"with: {_EXAMPLE}"
            )
        stated = said.convention
    elif stated == said.publisher and said.convention is not None:
        # The publisher's convention depends on the file's task.
        stated = said.convention
    if stated in _PRESETS:
        return msgspec.structs.replace(_PRESETS[stated], size_hw=size_hw, resize=_resize(stated, size_hw))
    return _same_size(read_preprocess(Path(stated)), size_hw, stated)


def check_convention(stated: str | None) -> None:
    """Check for a convention's name or a JSON file with a preprocessing; None defers to the file's metadata.

    Raises:
        ExportError: It is neither.
    """
    if stated is not None and stated not in _PRESETS:
        read_preprocess(Path(stated))


def _resize(convention: str, size_hw: tuple[int, int]) -> int | tuple[int, int] | None:
    """Return the size that pictures are resized to before the centre crop."""
    if convention == "imagenet":
        return round(min(size_hw) * 256 / 224)
    if convention == "ultralytics-classify":
        return size_hw[0] if size_hw[0] == size_hw[1] else size_hw
    return None


def read_preprocess(path: Path) -> Preprocess:
    """Read a JSON file with the preprocessing.

    Raises:
        ExportError: It cannot be read, or its values are not valid.
    """
    if not is_regular(path) and path.suffix != ".json":
        hint = did_you_mean(path, _PRESETS, _MEANT)
        raise ExportError(f"{path}: no such preprocessing; {hint}choose {', '.join(_PRESETS)}, or a JSON file")
    with foreign(
        lambda reason: ExportError(f"{path}: preprocessing cannot be read ({reason}); expected JSON such as {_EXAMPLE}")
    ):
        return msgspec.json.decode(read_regular(path, SETTINGS_BYTES), type=Preprocess)


def _same_size(stated: Preprocess, size_hw: tuple[int, int], what: str) -> Preprocess:
    if stated.size_hw != size_hw:
        raise ExportError(f"{what} has size_hw {list(stated.size_hw)}, but the network's input is {list(size_hw)}")
    return stated


def find_labels(stated: str) -> tuple[str, ...]:
    """Return the class names that the user states.

    Args:
        stated: A file with one name per line; comma-separated names; one name; ``coco`` or ``imagenet``.

    Raises:
        ExportError: The file cannot be read.
    """
    path = Path(stated)
    if not is_regular(path):
        if stated in ("coco", "imagenet"):
            return _known_labels(stated)
        if "," in stated:
            return tuple(name.strip() for name in stated.split(","))
        if stated and not path.exists() and "/" not in stated and not path.suffix:
            return (stated,)
    return read_labels(path)


def _known_labels(name: str) -> tuple[str, ...]:
    from torchvision.models import ResNet50_Weights

    from edgebone_export.models.detectors.torchvision_detectors import BACKGROUND, coco_classes

    if name == "imagenet":
        return tuple(ResNet50_Weights.DEFAULT.meta["categories"])
    return tuple(item for item in coco_classes() if item not in (BACKGROUND, "N/A"))
