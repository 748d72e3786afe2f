"""RetinaNet, FCOS and SSD with static shapes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from edgebone_export.models.detectors.boxes import best_pairs, clip, decode_deltas, rows_at, to_rows


class _OneStage(nn.Module):
    """Shared parts of the detectors: backbone, head, and anchors for a fixed input size."""

    def __init__(self, model: RetinaNet | FCOS | SSD, size_hw: tuple[int, int], boxes: int) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.head = model.head
        self._size_hw = size_hw
        self._boxes = boxes
        self._candidates = model.topk_candidates
        images = torch.zeros(1, 3, *size_hw)
        with torch.no_grad():
            maps = list(model.backbone(images).values())
            (anchors,) = model.anchor_generator(ImageList(images, [size_hw]), maps)
        self._cells = [int(item.shape[2] * item.shape[3]) for item in maps]
        self.anchors: Tensor
        self.register_buffer("anchors", anchors)


class _Pyramid(_OneStage):
    """A detector that chooses the best candidates of each feature map, then of all."""

    def __init__(self, model: RetinaNet | FCOS, size_hw: tuple[int, int], boxes: int) -> None:
        super().__init__(model, size_hw, boxes)
        per_cell = self.anchors.shape[0] // sum(self._cells)
        self._counts = [cells * per_cell for cells in self._cells]

    def _choose(self, scores: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Choose the best pairs of an anchor and a class of each level, then of all.

        Args:
            scores: (n, anchors, classes); any monotonic function of the score.
            offsets: (n, anchors, 4).

        Returns:
            Scores, anchors, offsets and classes of the chosen pairs.
        """
        found = []
        levels = zip(
            torch.split(scores, self._counts, dim=1),
            torch.split(offsets, self._counts, dim=1),
            torch.split(self.anchors, self._counts),
            strict=True,
        )
        for level_scores, level_offsets, level_anchors in levels:
            best, place, classes = best_pairs(level_scores, self._candidates)
            found.append((best, level_anchors[place], rows_at(level_offsets, place), classes))
        best, anchors, chosen, classes = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        best, place = best.topk(min(self._boxes, best.shape[1]), dim=1)
        return best, rows_at(anchors, place), rows_at(chosen, place), classes.gather(1, place)


class StaticRetinaNet(_Pyramid):
    """torchvision's RetinaNet (Lin et al. 2017, https://arxiv.org/abs/1708.02002), without the last suppression.

    Args:
        model: The detector, in eval mode.
        size_hw: Height and width of the network's input, in pixels.
        boxes: Number of boxes that it returns.
    """

    def __init__(self, model: RetinaNet, size_hw: tuple[int, int], boxes: int) -> None:
        super().__init__(model, size_hw, boxes)
        self._weights = tuple(model.box_coder.weights)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (n, 3, height, width) to (n, boxes, 6)."""
        outputs = self.head(list(self.backbone(images).values()))
        logits, anchors, deltas, classes = self._choose(outputs["cls_logits"], outputs["bbox_regression"])
        boxes = clip(decode_deltas(deltas, anchors, self._weights), self._size_hw)
        return to_rows(boxes, torch.sigmoid(logits), classes)


class StaticFCOS(_Pyramid):
    """torchvision's FCOS (Tian et al. 2019, https://arxiv.org/abs/1904.01355), without the last suppression.

    Args:
        model: The detector, in eval mode.
        size_hw: Height and width of the network's input, in pixels.
        boxes: Number of boxes that it returns.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (n, 3, height, width) to (n, boxes, 6)."""
        outputs = self.head(list(self.backbone(images).values()))
        scores = torch.sqrt(torch.sigmoid(outputs["cls_logits"]) * torch.sigmoid(outputs["bbox_ctrness"]))
        best, anchors, sides, classes = self._choose(scores, outputs["bbox_regression"])
        # Distances to the four sides, in units of the anchor.
        sizes = anchors[..., 2:] - anchors[..., :2]
        centers = 0.5 * (anchors[..., :2] + anchors[..., 2:])
        boxes = torch.cat([centers - sides[..., :2] * sizes, centers + sides[..., 2:] * sizes], dim=-1)
        return to_rows(clip(boxes, self._size_hw), best, classes)


class StaticSSD(_OneStage):
    """torchvision's SSD (Liu et al. 2015, https://arxiv.org/abs/1512.02325), without the last suppression.

    Args:
        model: The detector, in eval mode.
        size_hw: Height and width of the network's input, in pixels.
        boxes: Number of boxes that it returns.
    """

    def __init__(self, model: SSD, size_hw: tuple[int, int], boxes: int) -> None:
        super().__init__(model, size_hw, boxes)
        self._weights = tuple(model.box_coder.weights)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (n, 3, height, width) to (n, boxes, 6)."""
        outputs = self.head(list(self.backbone(images).values()))
        scores = torch.softmax(outputs["cls_logits"], dim=-1)[..., 1:].transpose(1, 2)
        # Each class chooses its own candidates first, as in torchvision.
        best, anchor = scores.topk(min(self._candidates, scores.shape[2]), dim=2)
        each = best.shape[2]
        best, pair = best.flatten(1).topk(min(self._boxes, best.shape[1] * each), dim=1)
        place = anchor.flatten(1).gather(1, pair)
        deltas = rows_at(outputs["bbox_regression"], place)
        boxes = clip(decode_deltas(deltas, self.anchors[place], self._weights), self._size_hw)
        return to_rows(boxes, best, pair // each + 1)
