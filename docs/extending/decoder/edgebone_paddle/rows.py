"""``paddle@1``: rows of class, score, left, top, right, bottom, as PaddleDetection's suppression gives them.

Corners are in pixels of the network's input. Rows of class -1 are there to fill up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import misfit
from edgebone.decode.detections import BoxParams, BoxReader, Candidates, Floats, box_spec


class Params(BoxParams, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of ``paddle@1``: a detector's own, with the defaults of rows that are suppressed already."""

    score: float = 0.5
    iou: float | None = None


def make_reader(
    name: str, params: Params, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> BoxReader:
    """Build the reader of a head; the one output must be (batch, k, 6)."""
    if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[2] != 6:
        raise misfit(name, "paddle@1", "one output of shape [batch, k, 6]", outputs)

    def candidates(tensors: Sequence[Floats]) -> Candidates:
        rows = tensors[0]
        rows = rows[(rows[:, 0] >= 0) & (rows[:, 1] >= params.score)]
        return rows[:, 2:6], rows[:, 1], rows[:, 0].astype(np.int64)

    return candidates


SPEC = box_spec("paddle@1", Params, make_reader)
