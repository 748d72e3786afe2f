"""From an ONNX file to a TensorRT engine: one way for TensorRT and TensorRT-RTX."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgebone.core.errors import EngineError, OutputError
from edgebone.core.writing import writing
from edgebone.engines.tensorrt.compat import configure, default_capability, import_tensorrt, network_flags
from edgebone.engines.tensorrt.settings import CompileSettings, Target
from edgebone.engines.tensorrt.timing_cache import load_timing_cache, save_timing_cache

Progress = Callable[[str, float], None]
# Given to a builder to stop, before the process ends without it.
_STOP_S = 10.0
_POLL_S = 0.1
_QUANTIZE = "TensorRT takes int8 with a zero-point of 0 only: edgebone quantize BUNDLE --target tensorrt"
# What a build's errors say, and what helps.
_ADVICE = (
    # First, since it also speaks of the workspace.
    (r"out ?of ?memory|insufficient memory", "a smaller --workspace or --level may do"),
    (r"workspace", "a larger --workspace, or none, may do"),
    (r"nvinfer_lean", "leave --version-compatible out"),
)


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
    """What the thread that builds shares with the one that waits.

    Attributes:
        trt: TensorRT's module.
        log: What went wrong, in TensorRT's words.
        device: The same of CUDA: without a driver it complains, which stops no compiling for other GPUs.
        warnings: What it warned of.
        stop: Set to end the build at its next step.
        failure: What a callback or the build raised.
        engine: The engine's bytes.
    """

    trt: Any
    log: list[str] = field(default_factory=list)
    device: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
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
        OutputError: The timing cache cannot be read or locked. One that cannot be saved is only a notice.
    """
    trt = import_tensorrt(target)
    build = _Build(trt)
    started = time.monotonic()
    logger = _logger(build)
    builder = _builder(build, logger, target)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    _parse(parser, content, where, target, build)
    config = builder.create_builder_config()
    target = default_capability(trt, config, target)
    configure(trt, builder, config, target, settings)
    _add_profile(builder, network, config, where, batch)
    if timing_cache is not None:
        with writing(timing_cache):
            load_timing_cache(config, timing_cache, notice)
    if hasattr(config, "progress_monitor") and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(build, progress)
    _run(build, builder, network, config)
    if build.failure is not None:
        raise build.failure
    if build.engine is None:
        what, advice = _at_fault(network, build)
        raise EngineError(f"{where}: {target.name} cannot compile {what}: {_reasons(build)}{advice}")
    if timing_cache is not None:
        try:
            save_timing_cache(config, timing_cache)
        except OutputError as error:
            # An engine took minutes: it is not given up for a cache.
            notice(f"{error}; the engine is kept")
    return Compiled(build.engine, round(time.monotonic() - started, 2))


def _logger(build: _Build) -> Any:
    trt = build.trt

    class Log(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                (build.device if "cudaError" in message else build.log).append(message.strip())
            elif severity == trt.ILogger.WARNING:
                build.warnings.append(message.strip())

    return Log()


def _builder(build: _Build, logger: Any, target: Target) -> Any:
    try:
        builder = build.trt.Builder(logger)
    except TypeError:
        # So pybind11 says that there is none: TensorRT wants a GPU, and a driver for its CUDA, to start at all.
        builder = None
    if builder is None:
        raise EngineError(
            f"{target.name} cannot start: {_reasons(build)}; it needs an NVIDIA GPU, and a driver for its CUDA version"
        )
    return builder


def _parse(parser: Any, content: bytes, where: str, target: Target, build: _Build) -> None:
    if parser.parse(content):
        # It only warns, and then clips 0..255 to 127.
        if any("UINT8 zero_point" in line for line in build.warnings):
            raise EngineError(
                f"{where}: it is quantized to uint8, which {target.name} would compute as int8, with other numbers; "
                f"{_QUANTIZE}"
            )
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        raise EngineError(f"{where}: {target.name} cannot read it: {_reasons(build)}")
    error = errors[0]
    said = error.desc().strip().splitlines()[0]
    if said == "false" or "Plugin not found" in said:
        said = "it has no such operator"
    advice = "onnxruntime and openvino run it"
    if error.node_operator() in ("QuantizeLinear", "DequantizeLinear"):
        advice = _QUANTIZE
    raise EngineError(
        f"{where}: {target.name} does not support node {error.node_name() or '(unnamed)'} "
        f"({error.node_operator()}){_origin(error.node_name())}: {said}; {advice}"
    )


def _origin(node: str) -> str:
    """The module that a node is named after, in words."""
    module, slash, _ = node.rpartition("/")
    return f", of the PyTorch module {module}" if slash and module else ""


def _at_fault(network: Any, build: _Build) -> tuple[str, str]:
    """What could not be compiled, as the errors name it, and what to do about it."""
    text = "\n".join((*build.log, *build.device))
    advice = next((f"; {advice}" for pattern, advice in _ADVICE if re.search(pattern, text, re.IGNORECASE)), "")
    layers = (network.get_layer(index) for index in range(network.num_layers))
    # Names without a mark of their own ("cast") may also be words of the message.
    named = [layer for layer in layers if re.search(r"[/_.]", layer.name) and _says(text, layer.name)]
    if not named:
        return "it", advice
    layer = max(named, key=lambda layer: len(layer.name))
    onnx = re.fullmatch(r"\[ONNX Layer: (.+)\]", getattr(layer, "metadata", ""))
    node = onnx[1] if onnx else layer.name
    return f"node {node} ({layer.type.name}){_origin(node)}", advice or "; onnxruntime and openvino run it"


def _says(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w./]){re.escape(name)}(?![\w./])", text) is not None


def _add_profile(builder: Any, network: Any, config: Any, where: str, batch: tuple[int, int]) -> None:
    """Say which batches will come, where the graph leaves it free."""
    if network.num_inputs != 1:
        raise EngineError(f"{where}: it has {network.num_inputs} inputs, expected one, the pictures; export it again")
    value = network.get_input(0)
    shape = tuple(value.shape)
    if -1 in shape[1:]:
        raise EngineError(
            f"{where}: {value.name} {list(shape)} leaves more open than the batch; export it with a fixed size"
        )
    if shape[:1] != (-1,):
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
    # Not the thread's own join: Ctrl-C in it makes CPython 3.11 take a running thread for one that has ended, and a
    # process that ends under a builder aborts.
    done = threading.Event()

    def work() -> None:
        try:
            serialized = builder.build_serialized_network(network, config)
            build.engine = None if serialized is None else bytes(serialized)
        except MemoryError:
            build.log.append("out of memory")
        except BaseException as error:
            build.failure = build.failure or error
        finally:
            done.set()

    try:
        threading.Thread(target=work, name="edgebone-compile", daemon=True).start()
        while not done.wait(_POLL_S):
            pass
    except BaseException:
        build.stop.set()
        done.wait(_STOP_S)
        raise


def _reasons(build: _Build) -> str:
    said = build.log or build.device or build.warnings
    lines = dict.fromkeys(line.strip() for message in said for line in message.splitlines() if line.strip())
    return "; ".join(list(lines)[:3]) or "it does not say why"
