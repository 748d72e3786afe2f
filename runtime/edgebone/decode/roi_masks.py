"""``roi-masks@1``: boxes decoded in the graph, each with the probabilities of a small grid over it: Mask R-CNN.

Source: torchvision/models/detection/roi_heads.py, ``paste_masks_in_image``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.bounded import Size
from edgebone.core.detections import Detections, class_names
from edgebone.core.geometry import Geometry
from edgebone.core.masks import Masks
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, misfit
from edgebone.decode.detections import BoxParams, Candidates, Floats, decoded_rows, finite, survivors
from edgebone.tasks.instances import INSTANCES

_THRESHOLD = 0.5
# Pixels from a picture's corner to where no box of it reaches.
_FAR = 1e6


class Params(BoxParams, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of ``roi-masks@1``.

    Attributes:
        mask_hw: Height and width of a box's grid.
    """

    mask_hw: tuple[Size, Size]


def make_reader(
    name: str, params: Params, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _: tuple[int, int]
) -> Any:
    """Build the reader; the one output must be (batch, k, 6 + a grid's cells), in network pixels."""
    height, width = params.mask_hw
    if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[2] != 6 + height * width:
        wanted = f"one output of shape [batch, k, {6 + height * width}] (6 + a mask of {width}x{height})"
        raise misfit(name, "roi-masks@1", wanted, outputs)

    def read(tensors: Sequence[Floats]) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
        return decoded_rows(tensors[0])

    return read


def make(
    name: str, params: Params, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], size_hw: tuple[int, int]
) -> Decoder:
    """Build the decoder; outputs as in :func:`make_reader`."""
    read = make_reader(name, params, labels, outputs, size_hw)
    names = class_names(labels)

    def decode(tensors: Sequence[NDArray[Any]], geometry: Geometry) -> Detections:
        xyxy, scores, class_id, cells = read(finite(name, tensors))
        candidates: Candidates = (xyxy, scores, class_id)
        found, index = survivors(name, params, names, candidates, geometry)
        grids = cells[index].reshape(-1, *params.mask_hw)
        # A grid covers the whole box, also what of it lies beyond the picture.
        boxes = geometry.to_source(xyxy[index].reshape(-1, 2)).reshape(-1, 4)
        return dataclasses.replace(found, mask=pasted(boxes, grids, geometry.source_hw))

    return decode


def pasted(xyxy: NDArray[Any], grids: Floats, size_hw: tuple[int, int]) -> Masks:
    """Return the masks of boxes (n, 4) in pixels of the picture, which may leave it, from probabilities (n, h, w)."""
    height, width = grids.shape[1:]
    # A cell of zeros around each, so that an area may end within its box.
    padded = np.pad(grids, ((0, 0), (1, 1), (1, 1)))
    middle, half = (xyxy[:, :2] + xyxy[:, 2:]) / 2, (xyxy[:, 2:] - xyxy[:, :2]) / 2
    half = half * np.array([(width + 2) / width, (height + 2) / height], np.float32)
    corners = np.concatenate([middle - half, middle + half], axis=1)
    # torchvision rounds to whole pixels, towards zero, the last one included.
    whole = np.trunc(corners.clip(-_FAR, _FAR)).astype(np.int64)
    whole[:, 2:] = np.maximum(whole[:, 2:] + 1, whole[:, :2] + 1)
    pixels = whole.clip(0, (size_hw[1], size_hw[0]) * 2)
    return Masks(tuple(padded), whole.astype(np.float64), pixels, _THRESHOLD, size_hw)


SPEC = DecoderSpec("roi-masks@1", INSTANCES, Params, make, make_reader, may_be_empty=True)
