"""torchvision's segmentation networks: LR-ASPP, DeepLabV3, FCN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.transforms import functional

from edgebone.core.manifest import Head, Preprocess
from edgebone.preprocess import plan
from edgebone_export.errors import ExportError
from edgebone_export.models import checkpoints, torchvision_models
from edgebone_export.models import weights as weights_
from edgebone_export.models.contract import (
    Backbone,
    Model,
    ModelRequest,
    check_options,
    check_output_kind,
    class_count_in,
)
from edgebone_export.models.output_kinds import Decode

_HEAD = "segmentation"
_MOST_CLASSES = 256
_LOGIT_STD = 2.0


def names() -> list[str]:
    """Return the names of torchvision's segmentation networks."""
    found: list[str] = torchvision.models.list_models(module=torchvision.models.segmentation)
    return found


class _Classes(nn.Module):
    """Returns the network's logits, or the best class of each pixel as uint8."""

    def __init__(self, model: nn.Module, decode: Decode) -> None:
        super().__init__()
        self.model = model
        self._decode = decode

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, 3, h, w) to (n, classes, h, w), or uint8 (n, h, w)."""
        logits: Tensor = self.model(images)["out"]
        return logits if self._decode == "host" else logits.argmax(dim=1).to(torch.uint8)


def claims(model: Model) -> bool:
    """Return whether the model is one of them."""
    return model in names()


def load(request: ModelRequest) -> Backbone:
    """Build a segmentation network; raises as :class:`edgebone_export.models.contract.Provider` does.

    The default size is torchvision's for a 4:3 picture, rounded down to multiples of 8.
    """
    check_options(request, "decode")
    check_output_kind(request, "segmentation")
    name, weights, labels, decode = request.name, request.weights, request.labels, request.decode
    entry = torchvision_models.find_entry(name, weights)
    published: tuple[str, ...] = tuple(entry.meta["categories"])
    if weights == "random":
        classes, record = labels or published, weights_.RANDOM
        model = _module(name, len(classes))
        spec = _preprocess(entry.transforms(), request.size_hw)
        weights_.randomize(model, (256, 256))
        _spread(model)
    else:
        if torchvision_models.is_file(weights):
            path, record = weights_.own_file(Path(weights))
        else:
            path, record = torchvision_models.resolve(entry, request.weights_dir)
        model = _module(name, len(published))
        state, record = checkpoints.read_weights(path, record, model)
        count = class_count_in(state, model, len(published))
        classes = labels or (published if count == len(published) else tuple(map(str, range(count))))
        if len(classes) != count:
            raise ExportError(f"{name} has {count} classes, but {len(classes)} labels were passed")
        model = _module(name, count)
        spec = _preprocess(entry.transforms(), request.size_hw)
        # The second classifier is for training only.
        checkpoints.load_into(model, {key: value for key, value in state.items() if not key.startswith("aux")}, name)
    if decode == "graph" and len(classes) > _MOST_CLASSES:
        raise ExportError(f"{name}: a class map holds {_MOST_CLASSES} classes, found {len(classes)}: --decode host")
    output = "classes" if decode == "graph" else "logits"
    return Backbone(
        name=name,
        library=f"torchvision {torchvision.__version__}",
        module=_Classes(model, decode).eval().requires_grad_(False),
        output_kind="segmentation",
        outputs=(output,),
        heads={_HEAD: Head("segmentation@1", (output,), tuple(classes))},
        features=(),
        preprocess=spec,
        weights=record,
        reference_transform=_reference(entry.transforms(), spec),
    )


def _module(name: str, classes: int) -> nn.Module:
    # LR-ASPP has no second classifier to omit.
    second: dict[str, Any] = {} if name.startswith("lraspp") else {"aux_loss": False}
    model: nn.Module = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=classes, **second
    )
    return model


def _spread(model: nn.Module) -> None:
    """Scale the classifying layers so that a random network's classes vary across the picture."""
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        if layer.out_channels == convolutions[-1].out_channels:
            with torch.no_grad():
                layer.weight *= _LOGIT_STD / max(float(layer.weight.std()), 1e-6) / layer.weight[0].numel() ** 0.5


def _preprocess(transforms: Any, size_hw: tuple[int, int] | None) -> Preprocess:
    """Return the preprocessing: a fixed canvas replaces torchvision's resize, which leaves the longer side free."""
    short = int(transforms.resize_size[0])
    mean = tuple(transforms.mean)
    pad = tuple(round(255 * value) for value in mean)
    return Preprocess(
        mode="letterbox",
        size_hw=size_hw or (short // 8 * 8, short * 4 // 3 // 8 * 8 + 8),
        interpolation=transforms.interpolation.value,
        antialias=True,
        color="rgb",
        mean=mean,
        std=tuple(transforms.std),
        pad_value=(pad[0], pad[1], pad[2]),
    )


def _reference(transforms: Any, spec: Preprocess) -> Any:
    """Return torchvision's own steps on the canvas: resize, normalise, and pad with the mean."""
    height, width = spec.size_hw

    def apply(picture: Any) -> Tensor:
        size = plan(spec, picture.height, picture.width).resized_hw
        resized = functional.resize(picture, list(size), interpolation=transforms.interpolation)
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        image = functional.pil_to_tensor(resized).float() / 255
        image = functional.normalize(image, transforms.mean, transforms.std)
        return F.pad(image, (left, width - size[1] - left, top, height - size[0] - top))

    return apply
