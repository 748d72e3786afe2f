"""Build torchvision's detectors by name, with their weights, in static form."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.functional import pil_to_tensor

from edgebone.core.manifest import Head, Preprocess, Weights
from edgebone.preprocess import plan
from edgebone_export.errors import ExportError
from edgebone_export.models import checkpoints, torchvision_models
from edgebone_export.models import weights as weights_
from edgebone_export.models.contract import Backbone, Model, ModelRequest, Transform, check_options, check_output_kind
from edgebone_export.models.detectors.one_stage import StaticFCOS, StaticRetinaNet, StaticSSD
from edgebone_export.models.detectors.random_detectors import randomize_detector
from edgebone_export.models.detectors.two_stage import StaticFasterRCNN

# FasterRCNN, RetinaNet, FCOS or SSD; torchvision is untyped.
Detector: TypeAlias = Any
HEAD, OUTPUT = "detections", "boxes"
BACKGROUND = "__background__"
# torchvision also has masks and keypoints, whose second stages do not return boxes.
_KINDS = ("fasterrcnn_", "retinanet_", "fcos_", "ssd300_", "ssdlite320_")
# Number of boxes that the graph returns, before the last suppression. SSD's low thresholds leave more.
_BOXES, _SSD_BOXES = 1000, 3000


def names() -> list[str]:
    """Return the names of torchvision's detectors that return boxes."""
    found = torchvision.models.list_models(module=torchvision.models.detection)
    return [name for name in found if name.startswith(_KINDS)]


def claims(model: Model) -> bool:
    """Return whether the model is one of them."""
    return model in names()


def load(request: ModelRequest) -> Backbone:
    """Build a detector; raises as :class:`edgebone_export.models.contract.Provider` does.

    Labels replace the classes other than the background; this needs a weights file (or random).
    """
    check_options(request)
    check_output_kind(request, "detections")
    name, weights, labels, size_hw = request.name, request.weights, request.labels, request.size_hw
    entry = torchvision_models.find_entry(name, weights)
    classes = tuple(entry.meta["categories"]) if labels is None else (BACKGROUND, *labels)
    arguments: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": len(classes)}
    if weights == "random":
        model, record = _quietly(name, **arguments), weights_.RANDOM
        preprocess_of(model.transform, size_hw, name)
        randomize_detector(model)
    elif torchvision_models.is_file(weights):
        path, record = weights_.own_file(Path(weights))
        model = _quietly(name, **arguments)
        state, record = checkpoints.read_weights(path, record, model)
        checkpoints.load_into(model, state, f"{name} for {len(classes) - 1} classes (--labels)")
    elif labels is not None:
        raise ExportError(
            f"{name}: its published weights are for {len(entry.meta['categories']) - 1} classes of their own; "
            "to use other labels, pass your own weights: --weights FILE"
        )
    else:
        path, record = torchvision_models.resolve(entry, request.weights_dir)
        state, record = checkpoints.read_weights(path, record, None)
        # torchvision chooses by the weights how to build: frozen batch norms, and their epsilon.
        with patch.object(type(entry), "get_state_dict", lambda *_, **__: state):
            model = _quietly(name, weights=entry)
    return to_backbone(model, name, f"torchvision {torchvision.__version__}", classes, record, size_hw)


def coco_classes() -> tuple[str, ...]:
    """Return torchvision's 91 names by COCO's category id: background first, "N/A" where COCO has none."""
    return tuple(torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"])


def _quietly(name: str, **arguments: Any) -> Detector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Detector = torchvision.models.get_model(name, **arguments).eval()
    return model


def to_backbone(
    model: Detector,
    name: str,
    library: str,
    classes: Sequence[str],
    record: Weights,
    size_hw: tuple[int, int] | None,
) -> Backbone:
    """Convert a detector to its static form and describe it.

    Args:
        model: The detector, with its weights.
        name: Name of the detector.
        library: Library and version.
        classes: Class names by class id, background first.
        record: Record of the weights.
        size_hw: Input height and width in pixels; None takes torchvision's own canvas for a 4:3 picture.

    Raises:
        ExportError: The detector has a fixed input size other than ``size_hw``.
    """
    model.eval().requires_grad_(False)
    preprocess = preprocess_of(model.transform, size_hw, name)
    settings = model.roi_heads if isinstance(model, FasterRCNN) else model
    params = {
        "score": float(settings.score_thresh),
        "iou": float(settings.nms_thresh),
        "max_detections": int(settings.detections_per_img),
    }
    boxes = _SSD_BOXES if isinstance(model, SSD) else _BOXES
    static = _static(model, preprocess.size_hw, boxes)
    return Backbone(
        name=name,
        library=library,
        module=static.eval(),
        output_kind="detections",
        outputs=(OUTPUT,),
        heads={HEAD: Head("boxes@1", (OUTPUT,), tuple(classes), params)},
        features=(),
        preprocess=preprocess,
        weights=record,
        reference_transform=_transform(model.transform, preprocess),
        library_detector=model,
    )


def _static(model: Detector, size_hw: tuple[int, int], boxes: int) -> nn.Module:
    if isinstance(model, FasterRCNN):
        return StaticFasterRCNN(model, size_hw, boxes)
    if isinstance(model, RetinaNet):
        return StaticRetinaNet(model, size_hw, boxes)
    if isinstance(model, FCOS):
        return StaticFCOS(model, size_hw, boxes)
    return StaticSSD(model, size_hw, boxes)


def preprocess_of(transform: GeneralizedRCNNTransform, size_hw: tuple[int, int] | None, name: str) -> Preprocess:
    """Return the preprocessing of a detector's own transform, with a canvas of a fixed size."""
    mean, std = transform.image_mean, transform.image_std
    common: dict[str, Any] = {
        "interpolation": "bilinear",
        # torchvision's detectors resize tensors without antialiasing.
        "antialias": False,
        "color": "rgb",
        "mean": tuple(mean),
        "std": tuple(std),
    }
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
        if size_hw not in (None, (height, width)):
            raise ExportError(f"{name} has a fixed input of {width}x{height}, which its anchors are made for")
        return Preprocess(mode="stretch", size_hw=(height, width), **common)
    # torchvision pads after normalisation with zeros, which are the mean.
    pad = tuple(round(255 * value) for value in mean)
    return Preprocess(
        mode="letterbox",
        size_hw=size_hw or canvas(int(transform.min_size[-1]), int(transform.max_size), int(transform.size_divisible)),
        pad_value=(pad[0], pad[1], pad[2]),
        anchor="top_left",
        rounding="down",
        **common,
    )


def canvas(short: int, longest: int, divisible: int) -> tuple[int, int]:
    """Return torchvision's padded size of a 4:3 picture: height and width in pixels."""
    wide = min(longest, short * 4 // 3)
    return math.ceil(short / divisible) * divisible, math.ceil(wide / divisible) * divisible


def _transform(transform: GeneralizedRCNNTransform, preprocess: Preprocess) -> Transform:
    """Return torchvision's own steps on a fixed canvas: normalise, resize as floats, pad with zeros."""
    height, width = preprocess.size_hw

    def apply(picture: Any) -> Tensor:
        image = transform.normalize(pil_to_tensor(picture).float() / 255)
        resized_hw = plan(preprocess, picture.height, picture.width).resized_hw
        image = F.interpolate(image[None], resized_hw, mode="bilinear", align_corners=False)[0]
        return F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]))

    return apply


def library_boxes(model: Detector, images: Tensor) -> list[Tensor]:
    """Run torchvision's own forward on network inputs.

    Args:
        model: The detector, in eval mode.
        images: (n, 3, height, width), normalised.

    Returns:
        One tensor (k, 6) per picture: left, top, right, bottom, score, class; best first.
    """
    with torch.inference_mode(), _without_transform(model, (images.shape[2], images.shape[3])):
        found = model(list(images))
    return [
        torch.cat([item["boxes"], item["scores"][:, None], item["labels"][:, None].to(item["boxes"].dtype)], dim=1)
        for item in found
    ]


@contextlib.contextmanager
def _without_transform(model: Detector, size_hw: tuple[int, int]) -> Iterator[None]:
    """Make a detector take preprocessed pictures."""
    height, width = size_hw
    before = model.transform
    model.transform = GeneralizedRCNNTransform(
        height, width, [0.0] * 3, [1.0] * 3, size_divisible=1, fixed_size=(width, height)
    ).eval()
    if isinstance(model, FasterRCNN):
        # The detector caches the scales of the first pictures.
        model.roi_heads.box_roi_pool.scales = None
    try:
        yield
    finally:
        model.transform = before
