"""Build Faster R-CNN, RetinaNet or FCOS on any backbone, with a feature pyramid in between."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from edgebone.core.manifest import Weights
from edgebone_export.errors import ExportError
from edgebone_export.models import checkpoints, torchvision_models
from edgebone_export.models import weights as weights_
from edgebone_export.models.contract import (
    DETECTORS_ON_BACKBONES,
    Backbone,
    Model,
    ModelRequest,
    check_options,
    check_output_kind,
)
from edgebone_export.models.detectors.random_detectors import randomize_detector
from edgebone_export.models.detectors.torchvision_detectors import BACKGROUND, Detector, coco_classes, to_backbone

# The aspect of cameras; small enough for a backbone that was chosen to be fast.
_SIZE_HW = (480, 640)
_CHANNELS = 256
_COARSEST = 32


class PyramidBackbone(nn.Module):
    """Passes a backbone's feature maps through a feature pyramid (Lin et al. 2016, https://arxiv.org/abs/1612.03144).

    Args:
        body: Returns the maps as a tuple, finest first.
        places: Indices of the maps to use.
        channels: Channels of these maps.
        extra: Block that adds coarser levels.
    """

    def __init__(self, body: nn.Module, places: Sequence[int], channels: Sequence[int], extra: ExtraFPNBlock) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(list(channels), _CHANNELS, extra)
        self.out_channels = _CHANNELS
        self._places = tuple(places)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map (n, 3, h, w) to maps of 256 channels by name, finest first."""
        maps = self.body(images)
        levels: dict[str, Tensor] = self.fpn(OrderedDict((str(place), maps[place]) for place in self._places))
        return levels


def compose(kind: str, backbone: Backbone, classes: int) -> Detector:
    """Build a detector on a backbone, ready for torchvision's training loop or for export.

    Args:
        kind: ``fasterrcnn``, ``retinanet`` or ``fcos``.
        backbone: Backbone loaded with its feature maps as outputs.
        classes: Number of classes, including the background.

    Raises:
        ExportError: The backbone has fewer than two maps of suitable strides.
    """
    finest = 4 if kind == "fasterrcnn" else 8
    used = [place for place, item in enumerate(backbone.features) if finest <= item.stride <= _COARSEST]
    strides = [backbone.features[place].stride for place in used]
    if len(used) < 2:
        found = [item.stride for item in backbone.features]
        raise ExportError(
            f"{backbone.name} has feature maps of strides {found}; {kind} needs two or more between {finest} "
            f"and {_COARSEST}"
        )
    channels = [backbone.features[place].channels for place in used]
    extra = LastLevelMaxPool() if kind == "fasterrcnn" else LastLevelP6P7(_CHANNELS, _CHANNELS)
    body = PyramidBackbone(backbone.module, used, channels, extra).requires_grad_(True)
    height, width = backbone.preprocess.size_hw
    common: dict[str, Any] = {
        "num_classes": classes,
        "min_size": min(height, width),
        "max_size": max(height, width),
        "image_mean": list(backbone.preprocess.mean),
        "image_std": list(backbone.preprocess.std),
    }
    if kind == "fasterrcnn":
        levels = [*strides, 2 * strides[-1]]
        anchors = AnchorGenerator(tuple((8 * stride,) for stride in levels), ((0.5, 1.0, 2.0),) * len(levels))
        pool = MultiScaleRoIAlign([str(place) for place in used], output_size=7, sampling_ratio=2)
        return FasterRCNN(body, rpn_anchor_generator=anchors, box_roi_pool=pool, **common).eval()
    levels = [*strides, 2 * strides[-1], 4 * strides[-1]]
    if kind == "retinanet":
        sizes = tuple(tuple(int(4 * stride * 2 ** (third / 3)) for third in range(3)) for stride in levels)
        anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(levels))
        return RetinaNet(body, anchor_generator=anchors, **common).eval()
    anchors = AnchorGenerator(tuple((stride,) for stride in levels), ((1.0,),) * len(levels))
    return FCOS(body, anchor_generator=anchors, **common).eval()


@dataclass(frozen=True)
class Composed:
    """Provider of detectors on a backbone.

    Attributes:
        load_backbone: Loads the backbone from any provider.
    """

    load_backbone: Callable[[ModelRequest], Backbone]

    def names(self) -> Sequence[str]:
        """Return the detectors' names, without a backbone."""
        return DETECTORS_ON_BACKBONES

    def claims(self, model: Model) -> bool:
        """Return whether the model is one of them."""
        return model in DETECTORS_ON_BACKBONES

    def load(self, request: ModelRequest) -> Backbone:
        """Build a detector on a backbone; raises as :class:`edgebone_export.models.contract.Provider` does.

        A weights file is the whole trained detector's; ``random`` applies to all of it; ``default`` and a publisher's
        name apply to the backbone only: neck and heads are then untrained, and the record says so. The default input
        is 640 wide and 480 high; the default classes are COCO's.

        Raises:
            UnknownModelError: No provider has the backbone.
        """
        check_options(request, "backbone")
        check_output_kind(request, "detections")
        kind, weights, labels = request.name, request.weights, request.labels
        if request.backbone is None:
            raise ExportError(f"{kind} needs a backbone: --backbone mobilenet_v3_large, or any with feature maps")
        own_file = torchvision_models.is_file(weights)
        body = self.load_backbone(
            ModelRequest(
                request.backbone,
                weights="random" if own_file else weights,
                weights_dir=request.weights_dir,
                size_hw=request.size_hw or _SIZE_HW,
                output_kind="features",
            )
        )
        classes = coco_classes() if labels is None else (BACKGROUND, *labels)
        model = compose(kind, body, len(classes))
        name = f"{kind} on {body.name}"
        if own_file:
            path, record = weights_.own_file(Path(weights))
            state, record = checkpoints.read_weights(path, record, model)
            checkpoints.load_into(model, state, f"{name} for {len(classes) - 1} classes (--labels)")
        elif weights == "random":
            record = weights_.RANDOM
            randomize_detector(model)
        else:
            record = _half_trained(body.weights)
        library = f"torchvision {torchvision.__version__}, backbone of {body.library}"
        return to_backbone(model, name, library, classes, record, body.preprocess.size_hw)


def _half_trained(weights: Weights) -> Weights:
    return msgspec.structs.replace(weights, origin=f"backbone: {weights.origin}; neck and heads are untrained")
