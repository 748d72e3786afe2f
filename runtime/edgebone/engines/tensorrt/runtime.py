"""TensorRT's runtime: its module, its log, and the network of a compiled engine."""

from __future__ import annotations

import importlib
import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from edgebone.core.errors import (
    DeviceLostError,
    DeviceOutOfMemoryError,
    EngineError,
    TensorError,
    missing,
    raise_interrupt,
)
from edgebone.core.tensors import Array, TensorSpec
from edgebone.engines.tensorrt.cuda import Cuda
from edgebone.engines.tensorrt.spec import RUNTIMES

# Other element types have no equivalent in NumPy.
_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "UINT8": "uint8", "INT32": "int32", "INT64": "int64",
    "BOOL": "bool",
}  # fmt: skip
_MOST_LINES = 20

Shapes = tuple[tuple[int, ...], ...]


def import_runtime(target: str) -> Any:
    """Import the Python module that loads a target's engines.

    Args:
        target: ``tensorrt`` or ``tensorrt-rtx``.

    Raises:
        MissingDependencyError: None is installed.
        EngineError: One is installed but its libraries do not load.
    """
    for name in RUNTIMES[target]:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError) as error:
            raise_interrupt(error)
            line = str(error).strip().split("\n", 1)[0]
            raise EngineError(f"{name} is installed but cannot be imported: {line}") from error
        # Mere type stubs have no runtime.
        if hasattr(module, "Runtime"):
            return module
    raise missing(RUNTIMES[target][0], target, f"the engine {target}")


class Network:
    """A deserialised engine with its inputs and outputs.

    Attributes:
        trt: TensorRT's module.
        engine: TensorRT's engine.
        inputs: The network's inputs; a free size is named ``batch`` on the first axis, ``any`` on others.
        outputs: The network's outputs.
        batch_range: Smallest and largest batch if the first input's is free; else None.

    Args:
        trt: TensorRT's module, or a double of it.
        cuda: CUDA, for the reason of a failed call.
        plan: The engine's bytes.
        target: ``tensorrt`` or ``tensorrt-rtx``, for messages.
        host_code: Whether host code in the engine is allowed: version-compatible engines contain their own runtime.
        dla_core: The deep learning accelerator to load it on; None for the GPU.

    Raises:
        EngineError: TensorRT cannot load it, or its inputs and outputs are not plain arrays on the device.
    """

    def __init__(
        self, trt: Any, cuda: Cuda, plan: bytes, target: str, *, host_code: bool = False, dla_core: int | None = None
    ) -> None:
        self.trt = trt
        self._cuda = cuda
        self._target = target
        self._errors: deque[str] = deque(maxlen=_MOST_LINES)
        self._warnings: deque[str] = deque(maxlen=_MOST_LINES)
        self._logger = _logger(trt, self._errors, self._warnings)
        # Kept alive: the engine must not outlive it.
        self._runtime: Any = trt.Runtime(self._logger)
        if host_code:
            self._runtime.engine_host_code_allowed = True
        if dla_core is not None:
            self._runtime.DLA_core = dla_core
        self.engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise EngineError(
                f"{target} {getattr(trt, '__version__', '')} cannot load the engine: {self.reasons()}; compile it on "
                f"this device: edgebone compile BUNDLE --target {target}"
            )
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        given = [name for name in names if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.inputs = tuple(self._spec(name) for name in given)
        self.outputs = tuple(self._spec(name) for name in names if name not in given)
        free = any(isinstance(size, str) for spec in self.inputs for size in spec.shape)
        self._profiles = (
            [self._profile(index) for index in range(self.engine.num_optimization_profiles)] if free else []
        )
        self.batch_range: tuple[int, int] | None = None
        if self.inputs and isinstance(self.inputs[0].shape[0], str):
            bounds = [(low[0][0], high[0][0]) for low, high in self._profiles]
            self.batch_range = (min(low for low, _ in bounds), max(high for _, high in bounds))

    @property
    def largest(self) -> list[tuple[int | None, Shapes]]:
        """Each optimisation profile with the inputs' largest shapes; profile None if all sizes are fixed."""
        if not self._profiles:
            return [(None, tuple(tuple(map(int, spec.shape)) for spec in self.inputs))]
        return [(index, high) for index, (_, high) in enumerate(self._profiles)]

    def profile_for(self, shapes: Shapes) -> int | None:
        """Return the first optimisation profile that covers the inputs' shapes; None if all sizes are fixed.

        Raises:
            TensorError: No profile covers them.
        """
        if not self._profiles:
            return None
        for index, (lowest, highest) in enumerate(self._profiles):
            if all(
                low <= size <= high
                for sizes, lows, highs in zip(shapes, lowest, highest, strict=True)
                for size, low, high in zip(sizes, lows, highs, strict=True)
            ):
                return index
        known = " or ".join(f"{list(map(list, low))} to {list(map(list, high))}" for low, high in self._profiles)
        raise TensorError(f"the engine was compiled for {known}, but was given {list(map(list, shapes))}")

    def create_context(self, own_graphs: bool) -> Any:
        """Create an execution context.

        Args:
            own_graphs: Whether TensorRT-RTX creates its own CUDA graphs.

        Raises:
            EngineError: TensorRT returns none, usually for lack of memory.
        """
        if own_graphs:
            config = self.engine.create_runtime_config()
            config.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            context = self.engine.create_execution_context(config)
        else:
            context = self.engine.create_execution_context()
        self.checked(context is not None, "create_execution_context")
        return context

    def checked(self, done: bool, call: str, tensor: str = "") -> None:
        """Raise an error if a TensorRT call returned failure."""
        if not done:
            raise self.failure(call, tensor)

    def failure(self, call: str, tensor: str = "") -> EngineError:
        """Return the error of a failed call, with the reason from CUDA or TensorRT's log."""
        what = f"{self._target}: {call}{f' for {tensor}' if tensor else ''} failed"
        from_cuda, said = self._cuda.last_error(), self.reasons()
        if isinstance(from_cuda, (DeviceOutOfMemoryError, DeviceLostError)):
            return type(from_cuda)(f"{what}: {from_cuda}")
        kind = DeviceOutOfMemoryError if re.search(r"out ?of ?memory|MemoryAllocation", said, re.I) else EngineError
        return kind(f"{what}: {said}")

    def reasons(self) -> str:
        """Return TensorRT's log since the last call: errors, or else warnings."""
        said = list(self._errors) or list(self._warnings)
        self._errors.clear()
        self._warnings.clear()
        lines = dict.fromkeys(line.strip() for message in said for line in message.splitlines() if line.strip())
        return "; ".join(list(lines)[:3]) or "it does not say why"

    def close(self) -> None:
        """Release the engine, then the runtime."""
        self.engine = None
        self._runtime = None

    def _spec(self, name: str) -> TensorSpec:
        trt, engine = self.trt, self.engine
        dtype = engine.get_tensor_dtype(name).name
        if dtype not in _DTYPES:
            raise EngineError(f"{self._target}: tensor {name} is {dtype}, which NumPy lacks; export it as float32")
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            raise EngineError(f"{self._target}: tensor {name} is a shape, not a picture or a result; export it again")
        if engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
            found = engine.get_tensor_format(name).name
            raise EngineError(f"{self._target}: tensor {name} has layout {found}, expected LINEAR; compile it again")
        sizes = tuple(engine.get_tensor_shape(name))
        shape = tuple(size if size >= 0 else ("any" if axis else "batch") for axis, size in enumerate(sizes))
        return TensorSpec(name, _DTYPES[dtype], shape)

    def _profile(self, index: int) -> tuple[Shapes, Shapes]:
        bounds = [self.engine.get_tensor_profile_shape(spec.name, index) for spec in self.inputs]
        return (
            tuple(tuple(low) for low, _, _ in bounds),
            tuple(tuple(high) for _, _, high in bounds),
        )


def shapes_of(feeds: Mapping[str, Array], inputs: Sequence[TensorSpec]) -> Shapes:
    """Return the shapes of feeds, in the inputs' order."""
    return tuple(feeds[spec.name].shape for spec in inputs)


def _logger(trt: Any, errors: deque[str], warnings: deque[str]) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(message)
            elif severity == trt.ILogger.WARNING:
                warnings.append(message)

    return Log()
