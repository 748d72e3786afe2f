"""Builds a TensorRT engine from an ONNX file, for TensorRT and TensorRT-RTX alike."""

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
# The time for a builder to stop before the process ends without it.
_STOP_S = 10.0
_POLL_S = 0.1
_QUANTIZE = "TensorRT accepts int8 only with a zero-point of 0: edgebone quantize BUNDLE --target tensorrt"
# Advice by patterns in a build's errors.
_ADVICE = (
    # First, since it also mentions the workspace.
    (r"out ?of ?memory|insufficient memory", "a smaller --workspace or --level may help"),
    (r"workspace", "a larger --workspace, or none, may help"),
    (r"nvinfer_lean", "leave --version-compatible out"),
)


@dataclass(frozen=True)
class Compiled:
    """A compiled engine.

    Attributes:
        content: Its bytes.
        seconds: The build time, including parsing.
    """

    content: bytes
    seconds: float


@dataclass
class _Build:
    """State shared by the building and the waiting thread.

    Attributes:
        trt: TensorRT's module.
        log: TensorRT's errors.
        device: CUDA's errors: without a driver there are some, which do not prevent compiling for other GPUs.
        warnings: TensorRT's warnings.
        stop: Set to end the build at its next step.
        failure: The exception of a callback or the build.
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
        where: The file, for messages.
        target: ``tensorrt`` or ``tensorrt-rtx``.
        settings: The compile settings.
        batch: Smallest and largest batch of a free batch axis; kernels are chosen for the largest.
        timing_cache: A file shared by builds; None for none.
        progress: Called from another thread with a phase and its progress, 0 to 1.
        notice: Called with notices for the user.

    Raises:
        MissingDependencyError: The target's package is not installed.
        EngineError: TensorRT rejects the graph or the settings, or runs out of memory.
        OutputError: The timing cache cannot be read or locked. A failure to save it is only a notice.
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
            # Building took minutes: the engine is not discarded for a cache.
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
        # pybind11 raises this if there is none: TensorRT needs a GPU, and a driver for its CUDA version, to start.
        builder = None
    if builder is None:
        raise EngineError(
            f"{target.name} cannot start: {_reasons(build)}; it needs an NVIDIA GPU, and a driver for its CUDA version"
        )
    return builder


def _parse(parser: Any, content: bytes, where: str, target: Target, build: _Build) -> None:
    if parser.parse(content):
        # TensorRT only warns, and then clips 0..255 to 127.
        if any("UINT8 zero_point" in line for line in build.warnings):
            raise EngineError(
                f"{where}: it is quantized to uint8, which {target.name} would compute as int8, with other values; "
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
    """Return the module that a node is named after, in words."""
    module, slash, _ = node.rpartition("/")
    return f", of the PyTorch module {module}" if slash and module else ""


def _at_fault(network: Any, build: _Build) -> tuple[str, str]:
    """Return the part that failed to compile, from the errors, and advice."""
    text = "\n".join((*build.log, *build.device))
    advice = next((f"; {advice}" for pattern, advice in _ADVICE if re.search(pattern, text, re.IGNORECASE)), "")
    layers = (network.get_layer(index) for index in range(network.num_layers))
    # Plain names such as "cast" may also be words of the message.
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
    """Declare the range of a free batch."""
    if network.num_inputs != 1:
        raise EngineError(f"{where}: it has {network.num_inputs} inputs, expected one, the pictures; export it again")
    value = network.get_input(0)
    shape = tuple(value.shape)
    if -1 in shape[1:]:
        raise EngineError(
            f"{where}: {value.name} {list(shape)} has free axes besides the batch; export it with a fixed size"
        )
    if shape[:1] != (-1,):
        return
    low, high = batch
    profile = builder.create_optimization_profile()
    profile.set_shape(value.name, *((size, *shape[1:]) for size in (low, high, high)))
    # A contradictory profile does not raise: it is only falsy.
    if not profile or config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{where}: TensorRT rejects a batch of {low} to {high} for {value.name} {list(shape)}")


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
            # TensorRT only prints a callback's exception: it is stored, and raised by the caller's thread.
            try:
                progress(phase, share)
            except BaseException as error:
                build.failure = build.failure or error
                build.stop.set()

    return Monitor()


def _run(build: _Build, builder: Any, network: Any, config: Any) -> None:
    """Build in a thread, so that Ctrl-C here stops the builder at its next step."""
    # Not Thread.join: Ctrl-C in it makes CPython 3.11 treat a running thread as ended, and a process that exits during
    # a build aborts.
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
    return "; ".join(list(lines)[:3]) or "no reason given"
