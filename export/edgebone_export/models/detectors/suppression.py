"""Non-maximum suppression with static shapes."""

from __future__ import annotations

import torch
from torch import Tensor

# Greedy suppression is a chain of decisions: the first box suppresses the second, which then spares the third. This is
# the number of links to follow. The proposals of random networks on pictures needed 11 at most.
ROUNDS = 20


def suppress(boxes: Tensor, valid: Tensor, iou: float, rounds: int = ROUNDS) -> Tensor:
    """Return which boxes greedy suppression keeps.

    All decisions are made at once, and repeated with the boxes kept in the last round, as in Cluster-NMS (Zheng et al.
    2020, https://arxiv.org/abs/2005.03572): after r rounds every box with a chain of at most r decisions above it has
    the result of greedy suppression.

    Args:
        boxes: (n, k, 4), best first.
        valid: bool, (n, k): boxes that take part.
        iou: A box that overlaps a better, kept box by more than this is dropped.
        rounds: Number of rounds.

    Returns:
        bool, (n, k).
    """
    # One after the other instead of both at once: (n, k, k, 2) would take four times the memory.
    left, top, right, bottom = boxes.unbind(-1)
    width = torch.minimum(right[:, :, None], right[:, None]) - torch.maximum(left[:, :, None], left[:, None])
    height = torch.minimum(bottom[:, :, None], bottom[:, None]) - torch.maximum(top[:, :, None], top[:, None])
    shared = width.clamp(min=0) * height.clamp(min=0)
    area = (right - left) * (bottom - top)
    union = area[:, :, None] + area[:, None] - shared
    # Not a division: two boxes without an area would result in NaN.
    k = boxes.shape[1]
    better = torch.ones(k, k, dtype=torch.bool, device=boxes.device).triu(diagonal=1)
    threatens = ((shared > iou * union) & better).to(boxes.dtype)
    takes_part = valid.to(boxes.dtype).unsqueeze(1)
    kept = takes_part
    for _ in range(rounds):
        # A box is dropped if any kept box suppresses it: the product counts those.
        kept = takes_part * (torch.matmul(kept, threatens) < 0.5).to(boxes.dtype)
    return kept.squeeze(1) > 0.5
