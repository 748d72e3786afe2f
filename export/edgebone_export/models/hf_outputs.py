"""Wrap transformers' networks so that each returns plain tensors: logits, a vector, maps, boxes, classes, depths."""

from __future__ import annotations

import os
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgebone_export.models.output_kinds import Decode

# transformers' own switch for checks of values, which a graph has no operator for.
_NO_CHECKS = {"TRANSFORMERS_DISABLE_TORCH_CHECK": "1"}


class Wrapped(nn.Module):
    """One of transformers' networks.

    Args:
        model: The network.
        keyword: Arguments of its forward, kept as ``keyword``.
    """

    def __init__(self, model: nn.Module, **keyword: Any) -> None:
        super().__init__()
        self.model = model
        self.keyword: dict[str, Any] = keyword

    def run(self, images: Tensor) -> Any:
        """Return the network's own output for float32 (n, 3, h, w)."""
        with patch.dict(os.environ, _NO_CHECKS):
            return self.model(pixel_values=images, **self.keyword)


class Logits(Wrapped):
    """A classifier: (n, classes)."""

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, 3, h, w) to (n, classes)."""
        logits: Tensor = self.run(images).logits
        return logits


class Vector(Wrapped):
    """A network without a head: its pooled output; without one, its class token or the mean of its last map."""

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, 3, h, w) to (n, d)."""
        found = self.run(images)
        pooled: Tensor | None = getattr(found, "pooler_output", None)
        if pooled is None:
            last: Tensor = found.last_hidden_state
            pooled = last[:, 0] if last.ndim == 3 else last.mean((2, 3))
        return pooled.flatten(1)


class Maps(Wrapped):
    """A backbone: maps (n, channels, height, width), finest first."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map (n, 3, h, w) to the backbone's feature maps."""
        return tuple(self.run(images).feature_maps)


class Classes(Wrapped):
    """A segmentation network: its logits, or the best class of each pixel of the input.

    Args:
        model: The network.
        decode: ``graph`` enlarges the logits to the input's size, as transformers does, and returns the best class as
            uint8; ``host`` returns the logits at the network's own resolution.
        keyword: Arguments of its forward.
    """

    def __init__(self, model: nn.Module, decode: Decode, **keyword: Any) -> None:
        super().__init__(model, **keyword)
        self._decode = decode

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, 3, h, w) to (n, classes, rows, columns), or uint8 (n, h, w)."""
        logits: Tensor = self.run(images).logits
        if self._decode == "host":
            return logits
        if logits.shape[2:] != images.shape[2:]:
            logits = F.interpolate(logits, size=tuple(images.shape[2:]), mode="bilinear", align_corners=False)
        return logits.argmax(dim=1).to(torch.uint8)


class Depths(Wrapped):
    """A depth network: (n, rows, columns)."""

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, 3, h, w) to (n, rows, columns)."""
        depths: Tensor = self.run(images).predicted_depth
        return depths


class Boxes(Wrapped):
    """A detector of DETR's family: the best pairs of a query and a class, or the queries' logits and boxes.

    Args:
        model: The network.
        decode: ``graph`` returns (n, k, 6) in network pixels: left, top, right, bottom, score, class; ``host`` the
            logits (n, queries, classes) and the boxes (n, queries, 4) as centre, width, height, 0 to 1.
        classes: Number of classes; with one logit more, the last means "no object", else each class has a sigmoid.
        boxes: Largest k.
        keyword: Arguments of its forward.
    """

    def __init__(self, model: nn.Module, decode: Decode, classes: int, boxes: int, **keyword: Any) -> None:
        super().__init__(model, **keyword)
        self._decode, self._classes, self._boxes = decode, classes, boxes

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (n, 3, h, w) to the boxes."""
        found = self.run(images)
        logits, boxes = found.logits, found.pred_boxes
        if self._decode == "host":
            return logits, boxes
        classes = self._classes
        scores = logits.softmax(dim=2)[..., :classes] if logits.shape[2] > classes else logits.sigmoid()
        score, pair = scores.flatten(1).topk(min(self._boxes, scores.shape[1] * classes), dim=1)
        query = torch.div(pair, classes, rounding_mode="floor")
        height, width = images.shape[2:]
        pixels = boxes.new_tensor([width, height, width, height])
        chosen = boxes.gather(1, query[..., None].expand(-1, -1, 4)) * pixels
        center, half = chosen[..., :2], chosen[..., 2:] / 2
        class_id = (pair - query * classes).to(score.dtype)
        return torch.cat([center - half, center + half, score[..., None], class_id[..., None]], dim=2)
