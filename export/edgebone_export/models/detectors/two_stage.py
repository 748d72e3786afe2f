"""Faster R-CNN (Ren et al. 2015, https://arxiv.org/abs/1506.01497) with static shapes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList

from edgebone_export.models.detectors.boxes import best_pairs, clip, decode_deltas, is_larger_than, rows_at, to_rows
from edgebone_export.models.detectors.roi_align import GridSampleRoIAlign
from edgebone_export.models.detectors.suppression import suppress

# torchvision/models/detection/roi_heads.py, postprocess_detections.
_SMALLEST_PX = 1e-2


class StaticFasterRCNN(nn.Module):
    """torchvision's Faster R-CNN with the same weights and the same boxes, without the last suppression.

    Args:
        model: The detector, in eval mode.
        size_hw: Height and width of the network's input, in pixels.
        boxes: Number of boxes that it returns.
    """

    def __init__(self, model: FasterRCNN, size_hw: tuple[int, int], boxes: int) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.rpn_head = model.rpn.head
        self.box_head = model.roi_heads.box_head
        self.box_predictor = model.roi_heads.box_predictor
        self._size_hw = size_hw
        self._boxes = boxes
        self._before, self._after = model.rpn.pre_nms_top_n(), model.rpn.post_nms_top_n()
        self._rpn_iou, self._rpn_score = model.rpn.nms_thresh, model.rpn.score_thresh
        self._rpn_smallest_px = model.rpn.min_size
        self._rpn_weights = tuple(model.rpn.box_coder.weights)
        self._weights = tuple(model.roi_heads.box_coder.weights)
        images = torch.zeros(1, 3, *size_hw)
        with torch.no_grad():
            features = model.backbone(images)
            maps = list(features.values())
            (anchors,) = model.rpn.anchor_generator(ImageList(images, [size_hw]), maps)
            shapes = [tuple(item.shape[2:]) for item in maps]
            per_cell = model.rpn.anchor_generator.num_anchors_per_location()
        self._counts = [height * width * count for (height, width), count in zip(shapes, per_cell, strict=True)]
        self.anchors: Tensor
        self.register_buffer("anchors", anchors)
        pool = model.roi_heads.box_roi_pool
        # In the backbone's own order, filtered as in torchvision.
        self._pooled = [name for name in features if name in pool.featmap_names]
        maps_hw = [(int(features[name].shape[2]), int(features[name].shape[3])) for name in self._pooled]
        self.pool = GridSampleRoIAlign(pool, maps_hw, size_hw)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (n, 3, height, width) to (n, boxes, 6)."""
        features = self.backbone(images)
        proposals, valid = self._propose(list(features.values()))
        pooled = self.pool([features[name] for name in self._pooled], proposals)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        count = proposals.shape[1]
        scores = torch.softmax(logits, -1).reshape(-1, count, logits.shape[-1])[..., 1:]
        deltas = deltas.reshape(-1, count, logits.shape[-1], 4)[:, :, 1:]
        boxes = clip(decode_deltas(deltas, proposals.unsqueeze(2), self._weights), self._size_hw)
        seen = is_larger_than(boxes, _SMALLEST_PX) & valid.unsqueeze(-1)
        scores = torch.where(seen, scores, torch.zeros_like(scores))
        flat = boxes.flatten(1, 2)
        best, place, classes = best_pairs(scores, self._boxes)
        chosen = rows_at(flat, place * scores.shape[-1] + classes)
        return to_rows(chosen, best, classes + 1)

    def _propose(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return region proposals: boxes (n, k, 4), best first, and a mask of the real ones (n, k)."""
        objectness, deltas = self.rpn_head(maps)
        all_boxes, all_scores = [], []
        anchors = torch.split(self.anchors, self._counts)
        for level_logits, level_deltas, level_anchors in zip(objectness, deltas, anchors, strict=True):
            # (n, a, h, w) to (n, h * w * a), and (n, 4a, h, w) likewise.
            logits = level_logits.permute(0, 2, 3, 1).flatten(1)
            four = level_deltas.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
            best, place = logits.topk(min(self._before, logits.shape[1]), dim=1)
            boxes = decode_deltas(rows_at(four, place), level_anchors[place], self._rpn_weights)
            boxes = clip(boxes, self._size_hw)
            scores = torch.sigmoid(best)
            valid = is_larger_than(boxes, self._rpn_smallest_px) & (scores >= self._rpn_score)
            kept = suppress(boxes, valid, self._rpn_iou)
            all_boxes.append(boxes)
            all_scores.append(torch.where(kept, scores, torch.full_like(scores, -1.0)))
        scores = torch.cat(all_scores, dim=1)
        best, place = scores.topk(min(self._after, scores.shape[1]), dim=1)
        return rows_at(torch.cat(all_boxes, dim=1), place), best >= 0
