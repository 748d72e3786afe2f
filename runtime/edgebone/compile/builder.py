"""From an ONNX file to a TensorRT engine: one way for TensorRT and TensorRT-RTX."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgebone.compile.compat import configure, default_capability, import_tensorrt, network_flags
from edgebone.compile.settings import CompileSettings, Target
from edgebone.compile.timing_cache import load_timing_cache, save_timing_cache
from edgebone.core.errors import EngineError

Progress = Callable[[str, float], None]
# Given to a builder to stop, before the process ends without it.
_STOP_S = 10.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Compiled:
    """An engine.

    Attributes:
        content: Its bytes.
        seconds: How long it took, parsing included.
    """

    content: bytes
    seconds: float


@dataclass
class _Build:
    """What the thread that builds shares with the one that waits."""

    trt: Any
    log: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None
    engine: bytes | None = None


def compile_engine(
    content: bytes,
    where: str,
    target: Target,
    settings: CompileSettings,
    batch: tuple[int, int] = (1, 1),
    timing_cache: Path | None = None,
    progress: Progress = lambda _, __: None,
    notice: Callable[[str], None] = lambda _: None,
) -> Compiled:
    """Compile an ONNX file.

    Args:
        content: The file's bytes.
        where: What it is, for messages.
        target: ``tensorrt`` or ``tensorrt-rtx``.
        settings: How.
        batch: Smallest and largest batch, where it is free; the largest is what kernels are chosen for.
        timing_cache: A file that builds share; None for none.
        progress: Called with a phase and its share that is done, 0 to 1. From another thread.
        notice: Called with what the user should know.

    Raises:
        MissingDependencyError: The target's package is not installed.
        EngineError: TensorRT refuses the graph or the settings, or runs out of memory.
        OutputError: The timing cache cannot be written.
    """
    trt = import_tensorrt(target)
    build = _Build(trt)
    started = time.monotonic()
    logger = _logger(build)
    builder = trt.Builder(logger)
    if builder is None:
        raise EngineError(f"{target.name} cannot start: {_reasons(build)}")
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    _parse(parser, content, where, target, build)
    config = builder.create_builder_config()
    target = default_capability(trt, config, target)
    configure(trt, builder, config, target, settings)
    _add_profile(builder, network, config, where, batch)
    if timing_cache is not None:
        load_timing_cache(config, timing_cache, notice)
    if hasattr(config, "progress_monitor") and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(build, progress)
    _run(build, builder, network, config)
    if build.failure is not None:
        raise build.failure
    if build.engine is None:
        raise EngineError(f"{where}: {target.name} cannot compile it: {_reasons(build)}")
    if timing_cache is not None:
        save_timing_cache(config, timing_cache)
    return Compiled(build.engine, round(time.monotonic() - started, 2))


def _logger(build: _Build) -> Any:
    trt = build.trt

    class Log(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            # Without a driver it complains about that, which stops no compiling.
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR) and "cudaError" not in message:
                build.log.append(message.strip())

    return Log()


def _parse(parser: Any, content: bytes, where: str, target: Target, build: _Build) -> None:
    if parser.parse(content):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        raise EngineError(f"{where}: {target.name} cannot read it: {_reasons(build)}")
    error = errors[0]
    module, slash, _ = error.node_name().rpartition("/")
    origin = f", of the PyTorch module {module}" if slash and module else ""
    said = error.desc().strip().splitlines()[0]
    advice = "onnxruntime and openvino run it"
    if error.node_operator() in ("QuantizeLinear", "DequantizeLinear"):
        advice = "TensorRT takes int8 with a zero-point of 0 only: edgebone quantize BUNDLE --target tensorrt"
    raise EngineError(
        f"{where}: {target.name} does not support node {error.node_name() or '(unnamed)'} "
        f"({error.node_operator()}){origin}: {said}; {advice}"
    )


def _add_profile(builder: Any, network: Any, config: Any, where: str, batch: tuple[int, int]) -> None:
    """Say which batches will come, where the graph leaves it free."""
    value = network.get_input(0)
    shape = tuple(value.shape)
    if shape[0] != -1:
        return
    low, high = batch
    profile = builder.create_optimization_profile()
    profile.set_shape(value.name, *((size, *shape[1:]) for size in (low, high, high)))
    # A profile that contradicts itself raises nothing: it only is false.
    if not profile or config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{where}: TensorRT refuses a batch of {low} to {high} for {value.name} {list(shape)}")


def _monitor(build: _Build, progress: Progress) -> Any:
    trt = build.trt

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = max(steps, 1)
            self._tell(phase, 0.0)

        def step_complete(self, phase: str, step: int) -> bool:
            self._tell(phase, min((step + 1) / self.steps.get(phase, 1), 1.0))
            return not build.stop.is_set()

        def phase_finish(self, phase: str) -> None:
            self._tell(phase, 1.0)

        def _tell(self, phase: str, share: float) -> None:
            # TensorRT only prints what a callback raises: it is kept, and raised where the build was asked for.
            try:
                progress(phase, share)
            except BaseException as error:
                build.failure = build.failure or error
                build.stop.set()

    return Monitor()


def _run(build: _Build, builder: Any, network: Any, config: Any) -> None:
    """Build in a thread: here, Ctrl-C is heard, and tells the builder to stop at its next step."""

    def work() -> None:
        try:
            serialized = builder.build_serialized_network(network, config)
            build.engine = None if serialized is None else bytes(serialized)
        except MemoryError:
            build.log.append("out of memory; a smaller --workspace or --level may do")
        except BaseException as error:
            build.failure = build.failure or error

    thread = threading.Thread(target=work, name="edgebone-compile", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_S)
    except BaseException:
        build.stop.set()
        thread.join(_STOP_S)
        raise


def _reasons(build: _Build) -> str:
    lines = [line for message in build.log for line in message.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines[:3])) or "it does not say why"
