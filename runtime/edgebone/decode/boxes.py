"""``boxes@1``: boxes decoded in the graph, one row each: left, top, right, bottom, score, class."""

from __future__ import annotations

from collections.abc import Sequence

from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import misfit
from edgebone.decode.detections import BoxParams, BoxReader, Candidates, Floats, box_spec


def make_reader(
    name: str, params: BoxParams, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> BoxReader:
    """Build the reader; the one output must be (batch, k, 6), in network pixels."""
    if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[2] != 6:
        raise misfit(name, "boxes@1", "one output of shape (batch, k, 6)", outputs)
    return _candidates


def _candidates(tensors: Sequence[Floats]) -> Candidates:
    rows = tensors[0]
    return rows[:, :4], rows[:, 4], rows[:, 5].astype("int64")


SPEC = box_spec("boxes@1", BoxParams, make_reader)
