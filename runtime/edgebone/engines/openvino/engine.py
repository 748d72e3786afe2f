"""The OpenVINO engine, on the CPU."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import numpy as np

from edgebone.core.caches import Cached, NetworkCache, cached
from edgebone.core.errors import EngineError, missing, raise_interrupt
from edgebone.core.machine import Machine, usable_cores
from edgebone.core.tensors import Array, TensorSpec, check_feeds
from edgebone.engines.protocol import Outputs
from edgebone.engines.request import EngineRequest
from edgebone.engines.threads import EngineThreads

_OPENVINO_NAMES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoEngine:
    """Runs an ONNX graph with OpenVINO.

    Args:
        model: The ONNX file's bytes, or a function that returns them if the network is not cached.
        precision: ``fp32`` or ``bf16`` is requested explicitly and checked afterwards: by default OpenVINO computes in
            BF16 or FP16 where the processor is fast at it. ``int8`` and ``int8+bf16`` are for quantized graphs: their
            FP32 parts run in FP32 or BF16.
        hint: ``latency`` uses every core for one run; ``throughput`` keeps several in flight.
        threads: Inference threads; None for every core.
        batch_range: Smallest and largest batch of a free batch axis. If they are equal, the graph is compiled for that
            batch.
        cache: The cache for the compiled network, which shortens the next start; None for none.

    Attributes:
        cached: Its place in the cache; None if it is not cached.
        from_cache: Whether it was already cached.

    Raises:
        MissingDependencyError: openvino is not installed.
        EngineError: The graph cannot be loaded, or OpenVINO does not use the precision.
    """

    def __init__(
        self,
        model: bytes | Callable[[], bytes],
        *,
        precision: str = "fp32",
        hint: str = "latency",
        threads: int | None = None,
        batch_range: tuple[int, int] | None = None,
        cache: NetworkCache | None = None,
    ) -> None:
        self.name = "openvino"
        self.overlaps = True
        self._batch_range = batch_range
        ov = _import_openvino()
        # The number of parallel runs is known once it is open: at most the number of cores.
        self._threads = EngineThreads(self.name, max(2, usable_cores()), self._free, _last_line)
        self._threads.open(self._open, ov, model, precision, hint, threads, cache)

    def _open(
        self,
        ov: Any,
        model: bytes | Callable[[], bytes],
        precision: str,
        hint: str,
        threads: int | None,
        cache: NetworkCache | None,
    ) -> None:
        self._tensor = ov.Tensor
        quantized, _, rest = precision.partition("+") if precision.startswith("int8") else ("", "", precision)
        rest = rest or "fp32"
        batch_range = self._batch_range
        batch = batch_range[0] if batch_range and batch_range[0] == batch_range[1] else None
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": hint.upper(),
            "INFERENCE_PRECISION_HINT": _OPENVINO_NAMES[rest],
        }
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        place = None if cache is None else _place(ov, cache, batch, config)
        found = None if place is None else _load(ov, place, config)
        self.from_cache = found is not None
        if found is None:
            graph = _read(ov, model if isinstance(model, bytes) else model(), batch)
            found = ov.Core().compile_model(graph, "CPU", config), [port.get_any_name() for port in graph.outputs]
            place = place if place is not None and _keep(place, *found) else None
        self.cached = place
        self._compiled: Any = found[0]
        used = _precision_used(self._compiled)
        if used != rest:
            raise EngineError(f"openvino uses precision {used}, but {rest} was requested; use --precision {used}")
        self.precision = precision if quantized else used
        self.inputs = tuple(_spec(port, port.get_any_name()) for port in self._compiled.inputs)
        # A compiled output also has the names of everything that it was fused with.
        self.outputs = tuple(_spec(port, name) for port, name in zip(self._compiled.outputs, found[1], strict=True))
        self.in_flight = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._threads.limit = min(self._threads.limit, max(2, self.in_flight))
        # A request runs one inference at a time: each running thread takes one from here. All are created now, since
        # OpenVINO may crash if one is created while another runs.
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
                # OpenVINO shares the caller's memory, which it requires to be writable.
                array = np.require(feeds[spec.name], requirements=["C", "W"])
                request.set_input_tensor(index, self._tensor(array, shared_memory=True))
            request.infer()
            return {
                # The request reuses its output memory in its next run: return a copy.
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


def open_openvino(request: EngineRequest) -> OpenVinoEngine:
    """Load a network; see :class:`edgebone.engines.spec.EngineSpec`."""
    candidate = request.candidate
    return OpenVinoEngine(
        request.read,
        precision=candidate.precision,
        hint=candidate.hint,
        threads=candidate.threads,
        batch_range=request.batch_range,
        cache=request.cache() if request.keeps else None,
    )


def _import_openvino() -> Any:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise missing("openvino", "openvino", "the engine openvino") from error
    except ImportError as error:
        raise_interrupt(error)
        raise EngineError(f"openvino is installed but cannot be imported: {_last_line(error)}") from error
    return openvino


def _read(ov: Any, model: bytes, batch: int | None) -> Any:
    from openvino.frontend import FrontEndManager

    # The front end is named explicitly: otherwise OpenVINO guesses among its seven formats.
    reader = FrontEndManager().load_by_framework("onnx")
    graph = reader.convert(reader.load(io.BytesIO(model), False))
    shapes = {port.get_any_name(): port.partial_shape for port in graph.inputs if port.partial_shape[0].is_dynamic}
    if batch is not None and shapes:
        # A fixed batch runs faster than a dynamic one.
        for shape in shapes.values():
            shape[0] = batch
        graph.reshape(shapes)
    if not graph.outputs:
        raise EngineError("openvino cannot load the network: it has no outputs")
    return graph


def _place(ov: Any, cache: NetworkCache, batch: int | None, config: dict[str, Any]) -> Cached:
    """Return a network's place in the cache, keyed by everything that its compiled form depends on.

    OpenVINO's own cache (CACHE_DIR) checks no weights: of 40 files with flipped bits, it answered wrongly from 24.
    """
    core = ov.Core()
    plugin = {name: version.build_number for name, version in core.get_versions("CPU").items()}
    device = [str(core.get_property("CPU", name)) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    return cached(cache.folder, cache.sha256, batch, config, ov.__version__, plugin, device, Machine.probe().key)


def _load(ov: Any, place: Cached, config: dict[str, Any]) -> tuple[Any, list[str]] | None:
    """Load the cached network and the names of its outputs."""
    kept = place.load()
    if kept is None:
        return None
    try:
        return ov.Core().import_model(kept[0], "CPU", config), json.loads(kept[1])
    except Exception:
        # A cached network that it cannot read is compiled again.
        return None


def _keep(place: Cached, compiled: Any, names: list[str]) -> bool:
    exported = io.BytesIO()
    try:
        compiled.export_model(exported)
        place.keep(exported.getvalue(), json.dumps(names).encode())
    except (RuntimeError, OSError):
        # A full disk, or a network that cannot be exported: compiled again at the next start.
        return False
    return True


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
    # OpenVINO puts the failed C++ check first and the useful message last.
    lines = [line.strip("- ") for line in str(error).splitlines() if line.strip()]
    operators = [line for line in lines if "No conversion rule found" in line]
    return (operators or lines or [type(error).__name__])[-1]
