"""OpenVINO as an engine, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgebone.core.errors import EngineError, missing, raise_interrupt
from edgebone.core.machine import usable_cores
from edgebone.core.tensors import Array, TensorSpec, check_feeds
from edgebone.engines.protocol import Outputs
from edgebone.engines.threads import EngineThreads

_OPENVINO_NAMES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoEngine:
    """Runs an ONNX graph with OpenVINO.

    Args:
        model: The ONNX file's path or bytes.
        precision: ``fp32`` or ``bf16`` is asked for explicitly and checked afterwards; ``auto`` leaves it to
            OpenVINO, which computes in BF16 or FP16 where the processor is fast at it, unasked. ``int8`` and
            ``int8+bf16`` are for graphs that are quantized: what they left in FP32 is computed in FP32, or BF16.
        hint: ``latency`` gives one run every core; ``throughput`` has several in flight.
        threads: Inference threads; None lets OpenVINO take every core.
        batch_range: Smallest and largest batch, where the batch is free. Where both are the same, the graph is
            compiled for that one.
        cache: A folder in which compiled networks are kept, so that the next start is shorter; None for none.

    Raises:
        MissingDependencyError: openvino is not installed.
        EngineError: The graph cannot be loaded, or OpenVINO does not take the precision.
    """

    def __init__(
        self,
        model: bytes | Path,
        *,
        precision: str = "fp32",
        hint: str = "latency",
        threads: int | None = None,
        batch_range: tuple[int, int] | None = None,
        cache: Path | None = None,
    ) -> None:
        self.name = "openvino"
        self.overlaps = True
        self._batch_range = batch_range
        ov = _import_openvino()
        # What it computes at a time it says once it is open: no more than there are cores.
        self._threads = EngineThreads(self.name, max(2, usable_cores()), self._free, _last_line)
        self._threads.open(self._open, ov, model, precision, hint, threads, cache)

    def _open(
        self,
        ov: Any,
        model: bytes | Path,
        precision: str,
        hint: str,
        threads: int | None,
        cache: Path | None,
    ) -> None:
        self._tensor = ov.Tensor
        quantized, _, rest = precision.partition("+") if precision.startswith("int8") else ("", "", precision)
        rest = rest or "fp32"
        batch_range = self._batch_range
        batch = batch_range[0] if batch_range and batch_range[0] == batch_range[1] else None
        config: dict[str, Any] = {"PERFORMANCE_HINT": hint.upper()}
        if rest != "auto":
            config["INFERENCE_PRECISION_HINT"] = _OPENVINO_NAMES[rest]
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        graph = _read(ov, model, batch)
        self._compiled: Any = _compile(ov, graph, config, cache)
        self.from_cache = cache is not None and bool(self._compiled.get_property("LOADED_FROM_CACHE"))
        self.compiled_into = None if self.from_cache else cache
        used = _precision_used(self._compiled)
        if rest not in ("auto", used):
            raise EngineError(
                f"openvino took precision {used} where {rest} was asked for; ask for --precision auto to let it choose"
            )
        self.precision = precision if quantized else used
        self.inputs = tuple(_spec(port, port.get_any_name()) for port in self._compiled.inputs)
        # Compiled, an output answers to the name of whatever it was fused with, too.
        names = [port.get_any_name() for port in graph.outputs]
        self.outputs = tuple(_spec(port, name) for port, name in zip(self._compiled.outputs, names, strict=True))
        self.in_flight = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._threads.limit = min(self._threads.limit, max(2, self.in_flight))
        # A request runs one inference at a time: each thread that runs takes one from here. All are made now, since
        # OpenVINO may crash where one is made while another runs.
        self._idle: list[Any] = [self._compiled.create_infer_request() for _ in range(self._threads.limit)]

    def run(self, feeds: Mapping[str, Array]) -> Outputs:
        """Run once and wait; see :class:`edgebone.engines.protocol.Engine`."""
        return self._threads.call(self._run, feeds)

    def submit(self, feeds: Mapping[str, Array]) -> Future[Outputs]:
        """Start a run; see :class:`edgebone.engines.protocol.AsyncEngine`."""
        return self._threads.submit(self._run, feeds)

    def _run(self, feeds: Mapping[str, Array]) -> Outputs:
        check_feeds(feeds, self.inputs, self._batch_range)
        request = self._idle.pop()
        try:
            for index, spec in enumerate(self.inputs):
                # OpenVINO shares the caller's memory, for which it asks that it can be written to.
                array = np.require(feeds[spec.name], requirements=["C", "W"])
                request.set_input_tensor(index, self._tensor(array, shared_memory=True))
            request.infer()
            return {
                # The request overwrites its own output memory at its next run: the caller gets a copy.
                spec.name: request.get_output_tensor(index).data.copy()
                for index, spec in enumerate(self.outputs)
            }
        finally:
            self._idle.append(request)

    def close(self) -> None:
        """Wait for the runs in flight and free the network."""
        self._threads.close()

    def _free(self) -> None:
        self._idle = []
        self._compiled = None

    def __enter__(self) -> OpenVinoEngine:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _import_openvino() -> Any:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise missing("openvino", "openvino", "the engine openvino") from error
    except ImportError as error:
        raise_interrupt(error)
        raise EngineError(f"openvino is installed but cannot be imported: {_last_line(error)}") from error
    return openvino


def _read(ov: Any, model: bytes | Path, batch: int | None) -> Any:
    try:
        graph = ov.Core().read_model(model if isinstance(model, bytes) else str(model))
        shapes = {port.get_any_name(): port.partial_shape for port in graph.inputs if port.partial_shape[0].is_dynamic}
        if batch is not None and shapes:
            # A known batch is computed faster than one that may change.
            for shape in shapes.values():
                shape[0] = batch
            graph.reshape(shapes)
    except RuntimeError as error:
        raise EngineError(f"openvino cannot load the network: {_last_line(error)}") from error
    return graph


def _compile(ov: Any, graph: Any, config: dict[str, Any], cache: Path | None) -> Any:
    try:
        core = ov.Core()
        if cache is None:
            return core.compile_model(graph, "CPU", config)
        try:
            return core.compile_model(graph, "CPU", {**config, "CACHE_DIR": str(cache)})
        except RuntimeError:
            # A cache that is damaged or on a full disk must not be worse than none.
            return core.compile_model(graph, "CPU", config)
    except RuntimeError as error:
        raise EngineError(f"openvino cannot load the network: {_last_line(error)}") from error


def _precision_used(compiled: Any) -> str:
    used = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    return {name: ours for ours, name in _OPENVINO_NAMES.items()}.get(used, used)


def _spec(port: Any, name: str) -> TensorSpec:
    shape = tuple(
        int(size.get_length()) if size.is_static else ("batch" if axis == 0 else "any")
        for axis, size in enumerate(port.get_partial_shape())
    )
    return TensorSpec(name, np.dtype(port.get_element_type().to_dtype()).name, shape)


def _last_line(error: BaseException) -> str:
    # OpenVINO puts the C++ check that failed first, and what a person wants to know last.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
