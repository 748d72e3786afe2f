"""``ssd@1``: boxes decoded by the network, with class probabilities per box (SSD and similar networks)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import misfit
from edgebone.decode.detections import BoxParams, BoxReader, Candidates, Floats, box_spec


class Params(BoxParams, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of ``ssd@1``.

    Attributes:
        box_unit: Whether corners are ``relative`` (0 to 1) or in network ``pixels``.
        background: Whether class 0 means "no object" and is never shown.
    """

    box_unit: Literal["relative", "pixels"] = "relative"
    background: bool = True


def make_reader(
    name: str, params: Params, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], size_hw: tuple[int, int]
) -> BoxReader:
    """Build the reader; the outputs must be scores (batch, boxes, classes) and xyxy boxes (batch, boxes, 4)."""
    shapes = [spec.shape for spec in outputs]
    if (
        [len(shape) for shape in shapes] != [3, 3]
        or shapes[0][1] != shapes[1][1]
        or [shape[2] for shape in shapes] != [len(labels), 4]
    ):
        wanted = f"scores [batch, boxes, {len(labels)}] ({len(labels)} labels), then boxes [batch, boxes, 4]"
        raise misfit(name, "ssd@1", wanted, outputs)
    relative = params.box_unit == "relative"
    scale = np.array([size_hw[1], size_hw[0]] * 2 if relative else [1] * 4, np.float32)
    first = int(params.background)

    def candidates(tensors: Sequence[Floats]) -> Candidates:
        scores, boxes = tensors
        place, class_id = np.nonzero(scores[:, first:] >= params.score)
        class_id = class_id + first
        return boxes[place] * scale, scores[place, class_id], class_id

    return candidates


SPEC = box_spec("ssd@1", Params, make_reader, in_graph="edgebone_export.importers.graph_decode:ssd")
