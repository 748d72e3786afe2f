"""onnxruntime on an NVIDIA GPU: provider options, and runs on buffers that stay on the device.

Not run on a GPU by this project yet: the runs are tested on the CPU's own device, the options not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgebone.core.tensors import Array, TensorSpec
from edgebone.engines.on_device import DeviceTensor
from edgebone.engines.protocol import Outputs

# By default CUDA rounds FP32 factors to TF32's ten bits; fp32 must be FP32.
_CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})


def providers(
    device: str, inputs: Sequence[TensorSpec], batch_range: tuple[int, int] | None, cache: Path | None
) -> list[tuple[str, dict[str, str]]]:
    """Return providers with their options, the wanted one first.

    TensorRT gets CUDA as a fallback for operators that it lacks. From Ampere on it rounds FP32 factors to TF32, which
    onnxruntime has no option to disable.

    Args:
        device: ``cuda`` or ``tensorrt``.
        inputs: The network's inputs.
        batch_range: Smallest and largest batch of a free batch axis.
        cache: The folder for TensorRT's engines and timings; None for none.
    """
    if device == "cuda":
        return [_CUDA]
    options: dict[str, str] = {}
    if cache is not None:
        options |= {
            "trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "1", "trt_timing_cache_path": str(cache),
        }  # fmt: skip
    free = [spec for spec in inputs if any(isinstance(size, str) for size in spec.shape)]
    if batch_range and free and all(isinstance(size, int) for spec in free for size in spec.shape[1:]):
        # Otherwise it compiles again, for minutes, at the first batch larger than all before.
        low, high = (
            ",".join(f"{spec.name}:{'x'.join(map(str, (batch, *spec.shape[1:])))}" for spec in free)
            for batch in batch_range
        )
        options |= {"trt_profile_min_shapes": low, "trt_profile_opt_shapes": high, "trt_profile_max_shapes": high}
    return [("TensorrtExecutionProvider", options), _CUDA]


class BoundRuns:
    """Runs a session on input and output buffers on the device, kept for the next run of the same shapes.

    Thread-safe: each run has its own buffers.

    Args:
        session: onnxruntime's session.
        device: onnxruntime's name of the device: ``cuda``; tests use ``cpu``.
        inputs: The network's inputs.
        outputs: The network's outputs.
        kept: Outputs that stay on the device, with separate memory for each run: a head may read them during the next
            frame.
    """

    def __init__(
        self,
        session: Any,
        device: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        kept: Collection[str] = (),
    ) -> None:
        from onnxruntime import OrtValue

        self._value: Any = OrtValue
        self._session = session
        self._device = device
        self._inputs = [spec.name for spec in inputs]
        self._outputs = [spec.name for spec in outputs]
        self._dtypes = {spec.name: spec.dtype for spec in outputs}
        known = {size for spec in inputs for size in spec.shape}
        self._kept = frozenset(kept)
        # The buffer of an output whose size depends on the data fits one run only.
        self._rebound = [
            spec.name
            for spec in outputs
            if spec.name in self._kept or any(isinstance(size, str) and size not in known for size in spec.shape)
        ]
        self._idle: dict[tuple[tuple[int, ...], ...], list[tuple[Any, dict[str, Any]]]] = {}
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Array]) -> Outputs:
        """Copy host inputs to the device, run, and copy the results to arrays that the caller owns."""
        shapes = tuple(feeds[name].shape for name in self._inputs)
        with self._lock:
            idle = self._idle.setdefault(shapes, [])
            kept = idle.pop() if idle else None
        binding, values = (self._session.io_binding(), {}) if kept is None else kept
        for name in self._inputs:
            self._feed(binding, values, name, feeds[name])
        for name in self._outputs if kept is None else self._rebound:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        found = dict(zip(self._outputs, binding.get_outputs(), strict=True))
        results = {name: self._result(name, value) for name, value in found.items()}
        if kept is None:
            for name in self._outputs:
                if name not in self._rebound:
                    binding.bind_ortvalue_output(name, found[name])
        with self._lock:
            idle.append((binding, values))
        return results

    def _feed(self, binding: Any, values: dict[str, Any], name: str, feed: Array | DeviceTensor) -> None:
        """Bind an input: to a tensor already on the device, or to a buffer that is refilled."""
        if isinstance(feed, DeviceTensor):
            values.pop(name, None)
            binding.bind_ortvalue_input(name, feed.value)
            return
        array = np.ascontiguousarray(feed)
        if name in values:
            values[name].update_inplace(array)
            return
        values[name] = self._value.ortvalue_from_numpy(array, self._device, 0)
        binding.bind_ortvalue_input(name, values[name])

    def _result(self, name: str, value: Any) -> Any:
        if name not in self._kept:
            return _own(value.numpy())
        return DeviceTensor(value, tuple(value.shape()), np.dtype(self._dtypes[name]))


def _own(array: Array) -> Array:
    """Return an array that no later run overwrites: on the CPU onnxruntime returns a view of its buffer."""
    return array if array.flags.owndata else array.copy()
