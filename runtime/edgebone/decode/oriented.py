"""``oriented@1``: turned boxes, one row each: centre, width, height, score, class, angle in radians."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.detections import Detections, class_names
from edgebone.core.geometry import Geometry
from edgebone.core.oriented import ANGLE, CORNERS, corners_of, hulls_of
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, misfit
from edgebone.decode.detections import BoxParams, Floats, decoded_rows, finite, survivors
from edgebone.tasks.oriented import ORIENTED

Turned = tuple[Floats, Floats, NDArray[np.int64], Floats]
"""Boxes (n, 4) as centre, width and height in network pixels, scores (n,), class ids (n,), angles (n, 1) in radians."""


def oriented_spec(
    name: str, reader: Callable[..., Callable[[Sequence[Floats]], Turned]], in_graph: str = ""
) -> DecoderSpec:
    """Return the row of a decoder of oriented boxes.

    Args:
        name: Its ``name@version``.
        reader: Builds the reader of a head, from the arguments of :data:`edgebone.decode.contract.Make`.
        in_graph: The place of the function that appends the same decoding to a graph.
    """

    def make(
        head: str,
        params: BoxParams,
        labels: tuple[str, ...],
        outputs: tuple[TensorSpec, ...],
        size_hw: tuple[int, int],
    ) -> Decoder:
        read, names = reader(head, params, labels, outputs, size_hw), class_names(labels)

        def decode(tensors: Sequence[NDArray[Any]], geometry: Geometry) -> Detections:
            boxes, scores, class_id, angle = read(finite(head, tensors))
            boxes = np.concatenate([boxes, angle], axis=1)
            corners = corners_of(boxes)
            hulls = hulls_of(corners).astype(np.float32)
            found, index = survivors(head, params, names, (hulls, scores, class_id), geometry, boxes)
            turned = {
                CORNERS: geometry.to_source(corners[index]).astype(np.float32),
                # Half a turn leaves a box as it is.
                ANGLE: np.asarray((angle[index, 0] + np.pi / 2) % np.pi - np.pi / 2, np.float32),
            }
            return replace(found, data={**found.data, **turned})

        return decode

    return DecoderSpec(
        name, ORIENTED, BoxParams, make, reader, may_be_empty=True, in_graph=in_graph, decoded="oriented@1"
    )


def make_reader(
    name: str, _params: BoxParams, _labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> Callable[[Sequence[Floats]], Turned]:
    """Build the reader; the one output must be (batch, k, 7), in network pixels."""
    if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[2] != 7:
        raise misfit(name, "oriented@1", "one output of shape (batch, k, 7)", outputs)

    def read(tensors: Sequence[Floats]) -> Turned:
        return decoded_rows(tensors[0])

    return read


SPEC = oriented_spec("oriented@1", make_reader)
