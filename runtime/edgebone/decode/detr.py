"""``detr@1``: RT-DETR, D-FINE, RF-DETR and DETR: class logits, and centre, width, height as shares of the picture.

Source: RT-DETR's own post-processing, https://github.com/lyuwenyu/RT-DETR; DETR's, https://arxiv.org/abs/2005.12872.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from edgebone.core.tensors import TensorSpec
from edgebone.decode.classification import probabilities
from edgebone.decode.contract import misfit
from edgebone.decode.detections import BoxParams, BoxReader, Candidates, Floats, box_spec, from_cxcywh


class Params(BoxParams, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of ``detr@1``.

    Attributes:
        activation: ``sigmoid`` if a query may have several classes; ``softmax`` with a last class that means "no
            object" (the original DETR).
    """

    activation: Literal["sigmoid", "softmax"] = "sigmoid"


def make_reader(
    name: str, params: Params, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], size_hw: tuple[int, int]
) -> BoxReader:
    """Build the reader; the outputs must be logits (batch, queries, classes) and boxes (batch, queries, 4)."""
    classes = len(labels) + (params.activation == "softmax")
    shapes = [spec.shape for spec in outputs]
    if (
        [len(shape) for shape in shapes] != [3, 3]
        or shapes[0][1] != shapes[1][1]
        or [shape[2] for shape in shapes] != [classes, 4]
    ):
        wanted = f"logits [batch, queries, {classes}] ({len(labels)} labels), then boxes [batch, queries, 4]"
        raise misfit(name, "detr@1", wanted, outputs)
    scale = np.array([size_hw[1], size_hw[0]] * 2, np.float32)

    def candidates(tensors: Sequence[Floats]) -> Candidates:
        logits, boxes = tensors
        if params.activation == "softmax":
            exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores = (exponentials / exponentials.sum(axis=1, keepdims=True))[:, :-1]
        else:
            scores = probabilities(logits, "sigmoid")
        query, class_id = np.nonzero(scores >= params.score)
        return from_cxcywh(boxes[query] * scale), np.asarray(scores[query, class_id], np.float32), class_id

    return candidates


SPEC = box_spec("detr@1", Params, make_reader, in_graph="edgebone_export.importers.graph_decode:detr")
