"""Measure activations: extremes, a sample of values, and the mean per channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgebone.engines.batches import in_batches
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone_export.errors import ExportError
from edgebone_export.graphs.edit import sizes

# Values kept per picture and tensor, for percentiles and histograms.
_SAMPLE = 2048
# Tensors are fetched in groups of this many bytes: all of a detector's at once would be gigabytes.
_GROUP_BYTES = 1 << 29


@dataclass(frozen=True)
class Observed:
    """Statistics of one tensor over all calibration pictures.

    Attributes:
        low: Smallest value.
        high: Largest value.
        sample: Some of its values, float32, 1-D.
        second_mean: Mean along the second axis, the channel axis of convolutions, float64; the mean of all if there is
            no such axis.
        last_mean: Mean along the last axis, the channel axis of matrix products.
    """

    low: float
    high: float
    sample: NDArray[np.float32]
    second_mean: NDArray[np.float64]
    last_mean: NDArray[np.float64]

    @property
    def constant(self) -> bool:
        """Whether the value never changes."""
        return self.low == self.high


def observe(
    proto: onnx.ModelProto,
    tensors: Sequence[str],
    inputs: NDArray[np.uint8],
    batch: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Observed]:
    """Run the pictures and collect statistics of tensors.

    Args:
        proto: The FP32 graph.
        tensors: Names of float32 values in the graph.
        inputs: uint8 (n, height, width, 3).
        batch: Pictures per run.
        progress: Called with a line from time to time.

    Raises:
        ExportError: A tensor is NaN or infinite; the message names the node that computes it.
    """
    found: dict[str, Observed] = {}
    makers = {name: node for node in proto.graph.node for name in node.output}
    groups = list(_groups(tensors, sizes(proto), batch))
    for number, group in enumerate(groups, start=1):
        progress(f"measuring activations ({number} of {len(groups)})")
        found |= _observe_group(proto, group, inputs, batch, makers)
    return found


def _groups(tensors: Sequence[str], sizes_of: Mapping[str, int], batch: int) -> Iterable[list[str]]:
    group: list[str] = []
    total = 0
    for name in tensors:
        size = sizes_of.get(name, 1 << 22) * batch
        if group and total + size > _GROUP_BYTES:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    if group:
        yield group


def _observe_group(
    proto: onnx.ModelProto,
    tensors: Sequence[str],
    inputs: NDArray[np.uint8],
    batch: int,
    makers: Mapping[str, onnx.NodeProto],
) -> dict[str, Observed]:
    rng = np.random.default_rng(0)
    low, high = dict.fromkeys(tensors, np.inf), dict.fromkeys(tensors, -np.inf)
    samples: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
    sums: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    runs = in_batches(inputs, batch)
    with OnnxRuntimeEngine(with_outputs(proto, tensors), as_written=True) as engine:
        for some in runs:
            outputs = engine.run({proto.graph.input[0].name: some})
            for name in tensors:
                values = outputs[name]
                least, most = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
                if not np.isfinite(least + most):
                    node = makers[name]
                    raise ExportError(
                        f"the FP32 network itself computes NaN or infinity on a calibration picture: in {name}, by "
                        f"node {node.name} ({node.op_type}); remove the picture, or check the weights"
                    )
                low[name], high[name] = min(low[name], least), max(high[name], most)
                flat = values.ravel()
                samples[name].append(flat if flat.size <= _SAMPLE else flat[rng.integers(0, flat.size, _SAMPLE)])
                second, last = _mean(values, min(1, values.ndim - 1)), _mean(values, values.ndim - 1)
                before = sums.get(name, (0.0, 0.0))
                sums[name] = (before[0] + second, before[1] + last)
    return {
        name: Observed(
            low[name], high[name], np.concatenate(samples[name]), sums[name][0] / len(runs), sums[name][1] / len(runs)
        )
        for name in tensors
    }


def _mean(values: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    others = tuple(place for place in range(values.ndim) if place != axis)
    mean: NDArray[np.float64] = np.atleast_1d(values.mean(axis=others, dtype=np.float64))
    return mean


def with_outputs(proto: onnx.ModelProto, tensors: Iterable[str]) -> bytes:
    """Return the graph with additional outputs."""
    extended = onnx.ModelProto()
    extended.CopyFrom(proto)
    there = {output.name for output in extended.graph.output}
    for name in tensors:
        if name not in there:
            extended.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    content: bytes = extended.SerializeToString()
    return content
