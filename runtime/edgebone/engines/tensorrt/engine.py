"""The TensorRT and TensorRT-RTX engines.

Not run on a GPU by this project yet. Everything here is tested against a computing double of CUDA and of TensorRT's
runtime, and the names used against the packages themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from edgebone.core.errors import DeviceLostError, DeviceOutOfMemoryError, EngineError
from edgebone.core.machine import Machine
from edgebone.core.tensors import Array, check_feeds
from edgebone.engines.protocol import Outputs
from edgebone.engines.request import EngineRequest
from edgebone.engines.tensorrt.builder import compile_engine
from edgebone.engines.tensorrt.cuda import Cuda, CudaBindings, Device
from edgebone.engines.tensorrt.plan import plan_for
from edgebone.engines.tensorrt.runtime import Network, Shapes, import_runtime, shapes_of
from edgebone.engines.tensorrt.settings import CompileSettings, Target
from edgebone.engines.tensorrt.slot import Graphs, Slot
from edgebone.engines.threads import EngineThreads


class TensorRTEngine:
    """Runs an engine that ``edgebone compile`` made, on the default GPU.

    Each context has its own stream and pinned memory, so that one run's copies overlap with another's compute. After
    the device ran out of memory or was lost, every run raises that error: close the engine and open another.

    Attributes:
        name: ``tensorrt`` or ``tensorrt-rtx``.
        precision: The network's precision according to its bundle.
        inputs: The network's inputs.
        outputs: The network's outputs.
        in_flight: The number of simultaneous runs that it benefits from.
        overlaps: True: it leaves the host's cores alone.
        device: The GPU.
        notes: Limitations found, such as why there is no CUDA graph.

    Args:
        plan: The engine's bytes.
        target: ``tensorrt`` or ``tensorrt-rtx``.
        precision: The network's precision.
        batch_range: Smallest and largest batch of a free batch axis; None for the engine's own range.
        contexts: The number of simultaneous runs on the device; each needs the network's working memory.
        graphs: Whether runs of one shape become CUDA graphs. TensorRT-RTX creates its own.
        host_code: Whether the engine may contain code that runs on the host, as version-compatible ones do.
        dla_core: The deep learning accelerator that it was compiled for; None for the GPU.
        cuda: CUDA; None for cuda.bindings.
        trt: TensorRT's module; None imports it, or else the lean runtime or the dispatcher.

    Raises:
        MissingDependencyError: TensorRT or cuda-python is not installed.
        DeviceOutOfMemoryError: The device has too little memory.
        EngineError: No GPU, or not one for this target, or TensorRT does not load the engine.
    """

    def __init__(
        self,
        plan: bytes,
        *,
        target: str = "tensorrt",
        precision: str = "fp32",
        batch_range: tuple[int, int] | None = None,
        contexts: int = 2,
        graphs: bool = True,
        host_code: bool = False,
        dla_core: int | None = None,
        cuda: Cuda | None = None,
        trt: Any = None,
    ) -> None:
        self.name = target
        self.precision = precision
        self.overlaps = True
        self.in_flight = contexts
        self.notes: list[str] = []
        trt = import_runtime(target) if trt is None else trt
        cuda = CudaBindings() if cuda is None else cuda
        self._batch_range = batch_range
        self._threads = EngineThreads(self.name, contexts, self._free)
        self._held = ExitStack()
        self._threads.open(self._open, plan, trt, cuda, contexts, graphs, host_code, dla_core)

    def _open(
        self, plan: bytes, trt: Any, cuda: Cuda, contexts: int, graphs: bool, host_code: bool, dla_core: int | None
    ) -> None:
        self.device = cuda.device()
        _check_device(self.name, self.device)
        how: Graphs = "none" if not graphs else ("own" if self.name == "tensorrt-rtx" else "captured")
        self._taking = threading.Lock()
        self._broken: type[EngineError] | None = None
        self._why = ""
        self._network = Network(trt, cuda, plan, self.name, host_code=host_code, dla_core=dla_core)
        self._held.callback(self._network.close)
        self._slots: list[Slot] = []
        for _ in range(contexts):
            slot = Slot(self._network, cuda, self.device.integrated, how, self._note)
            self._held.callback(slot.close)
            self._slots.append(slot)
        self._idle = list(self._slots)
        self.inputs, self.outputs = self._network.inputs, self._network.outputs
        self._batch_range = self._batch_range or self._network.batch_range

    def run(self, feeds: Mapping[str, Array]) -> Outputs:
        """Run once and wait; see :class:`edgebone.engines.protocol.Engine`.

        Raises:
            TensorError: A feed's name, dtype or shape does not fit.
            DeviceOutOfMemoryError: The device is out of memory; every further run raises it too.
            DeviceLostError: The device no longer responds; every further run raises it too.
            EngineError: The engine failed, or is closed.
        """
        return self._threads.call(self._run, feeds)

    def submit(self, feeds: Mapping[str, Array]) -> Future[Outputs]:
        """Start a run; see :class:`edgebone.engines.protocol.AsyncEngine`."""
        return self._threads.submit(self._run, feeds)

    def _run(self, feeds: Mapping[str, Array]) -> Outputs:
        check_feeds(feeds, self.inputs, self._batch_range)
        shapes = shapes_of(feeds, self.inputs)
        profile = self._network.profile_for(shapes)
        slot = self._take(shapes)
        try:
            return slot.run(feeds, shapes, profile)
        except (DeviceOutOfMemoryError, DeviceLostError) as error:
            # Not the exception itself, whose traceback would keep everything alive.
            self._broken, self._why = type(error), str(error)
            raise
        finally:
            self._idle.append(slot)

    def close(self) -> None:
        """Wait for the runs in flight and free everything; a second call does nothing.

        Raises:
            EngineError: Something could not be freed although the engine was not broken; the rest is freed.
        """
        self._threads.close()

    def _free(self) -> None:
        try:
            self._held.close()
        except EngineError:
            # Freeing fails on a lost device, which was already reported.
            if self._broken is None:
                raise

    def __enter__(self) -> TensorRTEngine:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _take(self, shapes: Shapes) -> Slot:
        """Take an idle slot, preferably one that has run these shapes: another would discard its graph.

        One is always idle: there are as many slots as threads.
        """
        with self._taking:
            if self._broken is not None:
                raise self._broken(f"{self.name}: the engine is broken, close it and open another: {self._why}")
            found = next((slot for slot in self._idle if slot.shapes == shapes), self._idle[0])
            self._idle.remove(found)
            return found

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def open_tensorrt(request: EngineRequest) -> TensorRTEngine:
    """Load a network, compiling it if needed; see :class:`edgebone.engines.spec.EngineSpec`."""
    target, precision = request.candidate.engine, request.candidate.precision
    if request.bundle is None:
        made = compile_engine(request.read(), "the network", Target(target), CompileSettings(), request.batch_range)
        return TensorRTEngine(made.content, target=target, precision=precision, batch_range=request.batch_range)
    cuda = CudaBindings()
    variant = request.candidate.variant
    plan = plan_for(request.bundle, variant, target, cuda.device(), Machine.probe(), request.notice)
    return TensorRTEngine(
        plan.content,
        target=target,
        precision=precision,
        batch_range=request.batch_range,
        host_code=plan.host_code,
        dla_core=plan.dla_core,
        cuda=cuda,
    )


def _check_device(target: str, device: Device) -> None:
    if target != "tensorrt-rtx":
        return
    major, minor = device.capability
    if device.capability < (7, 5) or device.capability == (8, 7):
        raise EngineError(
            f"tensorrt-rtx runs on desktop GPUs from Turing on (compute capability 7.5), not on {device.name} "
            f"({major}.{minor}); the engine tensorrt does"
        )
