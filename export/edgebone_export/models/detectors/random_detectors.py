"""Random weights for detectors in tests: boxes survive, move and differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD

from edgebone_export.models import weights as weights_
from edgebone_export.pictures import synthesize

_SIDE = 192
# Approximate number of boxes per picture above the detector's score threshold, before suppression.
_CANDIDATES = 1000
# Small enough that no score rounds to 1.0: equal scores have no order.
_LOGIT_STD, _OBJECTNESS_STD, _OFFSET_STD = 0.2, 0.2, 0.1


def randomize_detector(model: FasterRCNN | RetinaNet | FCOS | SSD) -> None:
    """Fill a detector with random weights from a fixed seed.

    A library's own initialisation assigns all boxes the same score and leaves them at their anchors, so a
    comparison would prove nothing.

    Args:
        model: The detector; changed in place and left in eval mode.
    """
    transform = model.transform
    sizes = transform.min_size, transform.max_size
    # Smaller pictures have the same statistics and take a tenth of the time.
    transform.min_size, transform.max_size = (_SIDE,), _SIDE
    rng = np.random.default_rng(weights_.SEED)
    pictures = [_tensor(synthesize((_SIDE, _SIDE), rng)) for _ in range(4)]
    target = {"boxes": torch.tensor([[40.0, 40.0, 150.0, 120.0]]), "labels": torch.tensor([1])}
    try:
        weights_.randomize(model, (_SIDE, _SIDE), lambda: model(pictures, [target] * len(pictures)))
        with torch.no_grad():
            for layers in _layers(model):
                _scale(model, layers, pictures)
            _shift_scores(model, pictures)
    finally:
        transform.min_size, transform.max_size = sizes
    if isinstance(model, FasterRCNN):
        model.roi_heads.box_roi_pool.scales = None


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))).float() / 255


def _layers(model: Any) -> Iterator[dict[nn.Module, float]]:
    """Yield groups of last layers with the desired spread of their outputs; no layer of a group feeds another."""
    scores = dict.fromkeys(_score_layers(model), _LOGIT_STD)
    if isinstance(model, FasterRCNN):
        yield {model.rpn.head.cls_logits: _OBJECTNESS_STD, model.rpn.head.bbox_pred: _OFFSET_STD}
        # Their offsets are divided by ten.
        yield {model.roi_heads.box_predictor.bbox_pred: 10 * _OFFSET_STD, **scores}
    elif isinstance(model, SSD):
        yield {**dict.fromkeys(_ssd_layers(model.head.regression_head), 10 * _OFFSET_STD), **scores}
    elif isinstance(model, FCOS):
        head = model.head.regression_head
        yield {head.bbox_reg: _OFFSET_STD, head.bbox_ctrness: 1.0, **scores}
    else:
        yield {model.head.regression_head.bbox_reg: _OFFSET_STD, **scores}


def _score_layers(model: Any) -> list[nn.Module]:
    if isinstance(model, FasterRCNN):
        return [model.roi_heads.box_predictor.cls_score]
    if isinstance(model, SSD):
        return _ssd_layers(model.head.classification_head)
    return [model.head.classification_head.cls_logits]


def _ssd_layers(head: Any) -> list[nn.Module]:
    return [layer[-1] if isinstance(layer, nn.Sequential) else layer for layer in head.module_list]


def _outputs(
    model: nn.Module, layers: Collection[nn.Module], pictures: list[Tensor], reading: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Return each layer's outputs of one run, mapped by ``reading``, as one row."""
    seen: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}
    hooks = [
        layer.register_forward_hook(lambda called, _, given: seen[called].append(reading(given).flatten()))
        for layer in layers
    ]
    try:
        model(pictures)
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.cat(outputs) for outputs in seen.values()]


def _scale(model: nn.Module, spreads: dict[nn.Module, float], pictures: list[Tensor]) -> None:
    """Scale layers so that their outputs have the desired spread and a mean of about zero."""
    outputs = _outputs(model, spreads, pictures, lambda given: given)
    layer: Any
    for (layer, std), values in zip(spreads.items(), outputs, strict=True):
        factor = std / max(float(values.std()), 1e-6)
        layer.weight *= factor
        layer.bias *= factor
        layer.bias -= float(values.mean()) * factor


def _shift_scores(model: Any, pictures: list[Tensor]) -> None:
    """Shift scores so that some boxes are above the detector's threshold and most are not."""
    classes = _classes(model)
    softmax = isinstance(model, (FasterRCNN, SSD))
    settings = model.roi_heads if isinstance(model, FasterRCNN) else model
    threshold = float(settings.score_thresh)
    layers = _score_layers(model)
    if softmax:
        # With ninety equal classes, none would exceed a ninetieth.
        for layer in layers:
            likely: Any = layer.bias
            likely.view(-1, classes)[:, 1::9] += 4.0
    outputs = _outputs(model, layers, pictures, lambda given: _class_last(given, classes))
    logits = torch.cat(outputs).reshape(-1, classes)
    wanted = min(_CANDIDATES * len(pictures), logits.numel() // 4)
    low, high = -40.0, 40.0
    for _ in range(40):
        middle = (low + high) / 2
        moved = logits.clone()
        if softmax:
            moved[:, 0] -= middle
            scores = moved.softmax(dim=1)[:, 1:]
        else:
            scores = torch.sigmoid(moved + middle)
            if isinstance(model, FCOS):
                # The score is the root of a product with the centre's score, about a half.
                scores = torch.sqrt(0.5 * scores)
        low, high = (middle, high) if int((scores > threshold).sum()) < wanted else (low, middle)
    for layer in layers:
        bias: Any = layer.bias
        if softmax:
            bias.view(-1, classes)[:, 0] -= high
        else:
            bias += high


def _classes(model: Any) -> int:
    if isinstance(model, FasterRCNN):
        return int(model.roi_heads.box_predictor.cls_score.out_features)
    head = model.head.classification_head
    return int(head.num_columns if isinstance(model, SSD) else head.num_classes)


def _class_last(logits: Tensor, classes: int) -> Tensor:
    """Return logits with the class as last axis: convolutions have it among their channels."""
    return logits if logits.ndim == 2 else torch.unflatten(logits, 1, (-1, classes)).movedim(2, -1)
