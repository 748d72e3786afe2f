"""onnxruntime on an NVIDIA GPU: its providers' options, and runs on buffers that stay on the device.

Not run on a GPU by this project yet: the runs are tested on the CPU's own device, the options not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgebone.core.tensors import Array, TensorSpec
from edgebone.engines.protocol import Outputs

# By default CUDA rounds FP32 factors to TF32's ten bits: what is called fp32 should be it.
_CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})


def providers(
    device: str, inputs: Sequence[TensorSpec], batch_range: tuple[int, int] | None, cache: Path | None
) -> list[tuple[str, dict[str, str]]]:
    """Providers with their options, the wanted one first.

    TensorRT gets CUDA beside it for the operators that it lacks. From Ampere on it rounds FP32 factors to TF32, which
    onnxruntime gives no option against.

    Args:
        device: ``cuda`` or ``tensorrt``.
        inputs: What the network takes.
        batch_range: Smallest and largest batch, where it is free.
        cache: The folder of what TensorRT compiles and measures; None for none.
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
        # Else it compiles again, for minutes, at the first batch that is larger than all before.
        low, high = (
            ",".join(f"{spec.name}:{'x'.join(map(str, (batch, *spec.shape[1:])))}" for spec in free)
            for batch in batch_range
        )
        options |= {"trt_profile_min_shapes": low, "trt_profile_opt_shapes": high, "trt_profile_max_shapes": high}
    return [("TensorrtExecutionProvider", options), _CUDA]


class BoundRuns:
    """Runs a session on input and output buffers on the device, kept for the next run of the same shapes.

    May be used from several threads at once: each run has buffers of its own.

    Args:
        session: onnxruntime's session.
        device: onnxruntime's name of the device: ``cuda``; tests take ``cpu``.
        inputs: What the network takes.
        outputs: What it gives.
    """

    def __init__(self, session: Any, device: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        from onnxruntime import OrtValue

        self._value: Any = OrtValue
        self._session = session
        self._device = device
        self._inputs = [spec.name for spec in inputs]
        self._outputs = [spec.name for spec in outputs]
        known = {size for spec in inputs for size in spec.shape}
        # Where only the data decides an output's size, its buffer fits one run.
        self._open_ended = [
            spec.name for spec in outputs if any(isinstance(size, str) and size not in known for size in spec.shape)
        ]
        self._idle: dict[tuple[tuple[int, ...], ...], list[tuple[Any, dict[str, Any]]]] = {}
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Array]) -> Outputs:
        """Copy the feeds in, run and copy the results out: arrays of the caller's own."""
        shapes = tuple(feeds[name].shape for name in self._inputs)
        with self._lock:
            idle = self._idle.setdefault(shapes, [])
            kept = idle.pop() if idle else None
        arrays = {name: np.ascontiguousarray(feeds[name]) for name in self._inputs}
        binding, values = self._bind(arrays) if kept is None else kept
        if kept is not None:
            for name, array in arrays.items():
                values[name].update_inplace(array)
        for name in self._open_ended:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        found = dict(zip(self._outputs, binding.get_outputs(), strict=True))
        results = {name: _own(value.numpy()) for name, value in found.items()}
        if kept is None:
            for name in self._outputs:
                if name not in self._open_ended:
                    binding.bind_ortvalue_output(name, found[name])
        with self._lock:
            idle.append((binding, values))
        return results

    def _bind(self, arrays: Mapping[str, Array]) -> tuple[Any, dict[str, Any]]:
        binding = self._session.io_binding()
        values = {name: self._value.ortvalue_from_numpy(array, self._device, 0) for name, array in arrays.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, self._device)
        return binding, values


def _own(array: Array) -> Array:
    """An array that no later run overwrites: on the CPU onnxruntime gives a view of its buffer."""
    return array if array.flags.owndata else array.copy()
