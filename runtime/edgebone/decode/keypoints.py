"""``keypoints@1``: rows of left, top, right, bottom, score, class, and x, y and confidence of each keypoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgebone.core.bounded import Names
from edgebone.core.detections import class_names
from edgebone.core.errors import BundleError
from edgebone.core.geometry import Geometry
from edgebone.core.keypoints import KeyPoints, Skeleton
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, misfit
from edgebone.decode.detections import BoxParams, Floats, decoded_rows, finite, survivors
from edgebone.tasks.keypoints import KEYPOINTS

Objects = tuple[Floats, Floats, NDArray[np.int64], Floats]
"""Boxes (n, 4) as xyxy in network pixels, scores (n,), class ids (n,), and the keypoints' values (n, k·dims)."""


class KeypointParams(BoxParams, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of every decoder of keypoints.

    Attributes:
        keypoints: The keypoints' names, in order.
        skeleton: The places of two keypoints that are joined, from 0.
        dims: Values of a keypoint: x and y in network pixels; with 3, its confidence, 0 to 1, too.
    """

    keypoints: Names
    skeleton: tuple[tuple[int, int], ...] = ()
    dims: Literal[2, 3] = 3

    def __post_init__(self) -> None:
        """Refuse a skeleton that does not fit."""
        super().__post_init__()
        _ = self.parts

    @property
    def parts(self) -> Skeleton:
        """The skeleton as results have it."""
        return Skeleton(self.keypoints, self.skeleton)


def keypoint_spec(
    name: str, reader: Callable[..., Callable[[Sequence[Floats]], Objects]], in_graph: str = ""
) -> DecoderSpec:
    """Return the row of a decoder of keypoints.

    Args:
        name: Its ``name@version``.
        reader: Builds the reader of a head, from the arguments of :data:`edgebone.decode.contract.Make`.
        in_graph: The place of the function that appends the same decoding to a graph.
    """

    def make(
        head: str,
        params: KeypointParams,
        labels: tuple[str, ...],
        outputs: tuple[TensorSpec, ...],
        size_hw: tuple[int, int],
    ) -> Decoder:
        read, names, skeleton = reader(head, params, labels, outputs, size_hw), class_names(labels), params.parts

        def decode(tensors: Sequence[NDArray[Any]], geometry: Geometry) -> KeyPoints:
            xyxy, scores, class_id, values = read(finite(head, tensors))
            boxes, index = survivors(head, params, names, (xyxy, scores, class_id), geometry)
            points = values[index].reshape(len(index), len(skeleton.names), params.dims)
            height, width = geometry.source_hw
            xy = geometry.to_source(points[..., :2]).clip(0, (width, height)).astype(np.float32)
            confidence = points[..., 2] if params.dims == 3 else None
            return KeyPoints(xy, confidence, boxes.xyxy, boxes.confidence, boxes.class_id, skeleton, boxes.data)

        return decode

    return DecoderSpec(
        name, KEYPOINTS, KeypointParams, make, reader, may_be_empty=True, in_graph=in_graph, decoded="keypoints@1"
    )


def misfit_of(
    name: str, decoder: str, params: KeypointParams, form: str, outputs: tuple[TensorSpec, ...]
) -> BundleError:
    """Return the error for outputs that do not hold the keypoints; ``form`` is the expected shape."""
    return misfit(name, decoder, f"{form} ({len(params.keypoints)} keypoints of {params.dims} values)", outputs)


def make_reader(
    name: str,
    params: KeypointParams,
    _labels: tuple[str, ...],
    outputs: tuple[TensorSpec, ...],
    _size_hw: tuple[int, int],
) -> Callable[[Sequence[Floats]], Objects]:
    """Build the reader; the one output must be (batch, k, 6 + keypoints·dims), in network pixels."""
    columns = 6 + len(params.keypoints) * params.dims
    if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[2] != columns:
        raise misfit_of(name, "keypoints@1", params, f"one output of shape [batch, k, {columns}]", outputs)

    def read(tensors: Sequence[Floats]) -> Objects:
        return decoded_rows(tensors[0])

    return read


SPEC = keypoint_spec("keypoints@1", make_reader)
