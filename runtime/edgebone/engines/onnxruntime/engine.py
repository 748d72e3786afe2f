"""The onnxruntime engine, on the CPU or on an NVIDIA GPU, directly or through TensorRT."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgebone.core.caches import CachedFolder, NetworkCache, cached_folder
from edgebone.core.errors import EngineError, missing, raise_interrupt
from edgebone.core.machine import usable_cores
from edgebone.core.tensors import Array, TensorSpec, check_feeds
from edgebone.engines.onnxruntime.gpu import BoundRuns, providers
from edgebone.engines.onnxruntime.spec import device_of
from edgebone.engines.protocol import Outputs
from edgebone.engines.request import EngineRequest
from edgebone.engines.table import this_machine
from edgebone.engines.threads import EngineThreads, first_line

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class OnnxRuntimeEngine:
    """Runs an ONNX graph with onnxruntime.

    Args:
        model: The ONNX file's bytes, or the path of a private copy.
        device: ``cpu``, ``cuda``, or ``tensorrt``: the last two have not been run on hardware by this project yet.
        precision: The graph's precision according to its bundle.
        hint: ``latency`` uses every core for one run; ``throughput`` keeps one run per core in flight, each on one
            thread.
        threads: Threads for one operator; None for every core, or for the hint's choice.
        batch_range: Smallest and largest batch of a free batch axis.
        as_written: Run each operator as the graph says, without fusing or rewriting: slower, but it shows the results
            of engines that are not installed here.
        cache: The cache for engines that TensorRT compiles, which takes minutes; None for none.
        spins: Whether idle threads spin for a while, ready for the next run. If another engine runs next on the same
            cores, its threads wait for them: 6 of 13 ms per frame, for a head behind a backbone.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        EngineError: The graph cannot be loaded, or the device is missing: onnxruntime would silently fall back to the
            CPU, edgebone does not.
    """

    def __init__(
        self,
        model: bytes | Path,
        *,
        device: str = "cpu",
        precision: str = "fp32",
        hint: str = "latency",
        threads: int | None = None,
        batch_range: tuple[int, int] | None = None,
        as_written: bool = False,
        cache: NetworkCache | None = None,
        spins: bool = True,
    ) -> None:
        self.name = "onnxruntime" if device == "cpu" else f"onnxruntime-{device}"
        self.precision = precision
        self.in_flight = 1
        if hint == "throughput" and device == "cpu":
            threads = threads or 1
            self.in_flight = max(1, usable_cores() // threads)
        # On the CPU the idle threads of a run that has every core spin, on cores that preprocessing needs.
        self.overlaps = device != "cpu" or self.in_flight > 1
        self._batch_range = batch_range
        self._kept = None if cache is None or device != "tensorrt" else _place(cache, batch_range)
        ort = _import_onnxruntime(device)
        self._threads = EngineThreads(self.name, max(2, self.in_flight), self._free)
        self._threads.open(self._open, ort, model, device, threads, as_written, spins)

    def _open(
        self, ort: Any, model: bytes | Path, device: str, threads: int | None, as_written: bool, spins: bool
    ) -> None:
        self._session: Any = _open_session(
            ort, model, device, threads, as_written, self._batch_range, self._kept, spins
        )
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]
        self._bound = None if device == "cpu" else BoundRuns(self._session, "cuda", self.inputs, self.outputs)

    def run(self, feeds: Mapping[str, Array]) -> Outputs:
        """Run once and wait; see :class:`edgebone.engines.protocol.Engine`."""
        return self._threads.call(self._run, feeds)

    def submit(self, feeds: Mapping[str, Array]) -> Future[Outputs]:
        """Start a run; see :class:`edgebone.engines.protocol.AsyncEngine`."""
        return self._threads.submit(self._run, feeds)

    def _run(self, feeds: Mapping[str, Array]) -> Outputs:
        check_feeds(feeds, self.inputs, self._batch_range)
        if self._bound is not None:
            return self._bound.run(feeds)
        return dict(zip(self._output_names, self._session.run(self._output_names, feeds), strict=True))

    def keep(self, names: Collection[str]) -> None:
        """Leave outputs on the device; see :class:`edgebone.engines.on_device.KeepsOnDevice`."""
        self._threads.call(self._keep, names)

    def _keep(self, names: Collection[str]) -> None:
        if self._bound is not None:
            self._bound = BoundRuns(self._session, "cuda", self.inputs, self.outputs, names)

    def close(self) -> None:
        """Wait for the runs in flight and free the session."""
        self._threads.close()

    def _free(self) -> None:
        self._session = self._bound = None
        if self._kept is not None:
            # TensorRT may have compiled further shapes since.
            self._kept.seal()

    def __enter__(self) -> OnnxRuntimeEngine:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def open_onnxruntime(request: EngineRequest) -> OnnxRuntimeEngine:
    """Load a network; see :class:`edgebone.engines.spec.EngineSpec`."""
    candidate = request.candidate
    device = device_of(candidate.engine)
    with request.file() as model:
        return OnnxRuntimeEngine(
            model,
            device=device,
            precision=candidate.precision,
            hint=candidate.hint,
            threads=candidate.threads,
            batch_range=request.batch_range,
            cache=request.cache() if device == "tensorrt" else None,
            spins=not request.behind_another,
        )


def _import_onnxruntime(device: str) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        extra = "cpu" if device == "cpu" else "gpu"
        raise missing("onnxruntime", extra, f"the engine onnxruntime on {device}") from error
    except ImportError as error:
        raise_interrupt(error)
        raise EngineError(f"onnxruntime is installed but cannot be imported: {first_line(error)}") from error
    return onnxruntime


def _open_session(
    ort: Any,
    model: bytes | Path,
    device: str,
    threads: int | None,
    as_written: bool,
    batch_range: tuple[int, int] | None,
    cache: CachedFolder | None,
    spins: bool,
) -> Any:
    provider = _PROVIDERS[device]
    if provider not in ort.get_available_providers():
        raise EngineError(
            f"onnxruntime {ort.__version__} has no {provider}, only {ort.get_available_providers()}; "
            'for a GPU: pip uninstall onnxruntime && pip install "edgebone[gpu]"'
        )
    options = ort.SessionOptions()
    # onnxruntime's logs below "error" are for its own developers.
    options.log_severity_level = 3
    if as_written:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if threads is not None:
        options.intra_op_num_threads = threads
    if not spins:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The format is not guessed from the bytes: onnxruntime has its own format, which it checks less.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    source = model if isinstance(model, bytes) else str(model)
    if device == "cpu":
        session = ort.InferenceSession(source, options, providers=[provider])
        # The session would keep them for its lifetime, to restart with other providers.
        session._model_bytes = None
        return session
    inputs = _inputs_of(ort, source) if device == "tensorrt" else ()
    wanted = providers(device, inputs, batch_range, None if cache is None else cache.path)
    if cache is not None:
        # onnxruntime reads the engines there itself and runs them unchecked.
        cache.clean()
    # With fallback enabled it would print on stdout that it continues on the CPU, at loading and at any run.
    session = ort.InferenceSession(source, options, providers=wanted, enable_fallback=0)
    session._model_bytes = None
    if cache is not None:
        cache.seal()
    session.disable_fallback()
    if session.get_providers()[0] != provider:
        needs = "CUDA, cuDNN or TensorRT" if device == "tensorrt" else "CUDA or cuDNN"
        raise EngineError(
            f"onnxruntime took {session.get_providers()[0]} instead of {provider}: the driver, {needs} "
            "that this onnxruntime was built for is missing"
        )
    return session


def _place(cache: NetworkCache, batch_range: tuple[int, int] | None) -> CachedFolder:
    """Return the folder of a network's TensorRT engines, keyed by everything that they depend on."""
    machine = this_machine("onnxruntime")
    packages = [machine.packages.get(name) for name in ("onnxruntime", "tensorrt")]
    device = (machine.gpus, machine.driver, machine.jetson, machine.l4t)
    return cached_folder(cache.folder, cache.sha256, batch_range, packages, device)


def _inputs_of(ort: Any, model: bytes | str) -> tuple[TensorSpec, ...]:
    """Return a network's inputs, read without preparing it to run."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=[_PROVIDERS["cpu"]])
    return tuple(_spec(node) for node in session.get_inputs())


def _spec(node: Any) -> TensorSpec:
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    name = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    if name not in np.sctypeDict:
        raise EngineError(f"onnxruntime: {node.name} is a {node.type}; inputs and outputs must be arrays of numbers")
    shape = tuple(size if isinstance(size, int) else str(size or "any") for size in node.shape)
    return TensorSpec(node.name, np.dtype(name).name, shape)
