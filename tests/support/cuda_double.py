"""A double of CUDA and of TensorRT's runtime that computes, records, and finds what a GPU would not tell.

Nothing that is put into a stream happens before someone waits for it, so that a missing synchronisation gives wrong
numbers: memory that a copy will fill holds noise until then. Device addresses are made up, so that host code that
touches them crashes. Networks are run by onnxruntime on the memory behind the addresses, when their stream comes to
them. What is against the rules without leading to an error on a GPU is collected in ``problems``; what is never freed
is in ``alive``.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import re
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgebone.core.errors import DeviceLostError, EngineError
from edgebone.engines.tensorrt.cuda import Device

NOISE, UNTOUCHED = 0xA5, 0xCD


@dataclass
class Work:
    """Something in a stream: ``run`` when the stream comes to it, ``put`` each time it is put into one."""

    kind: str
    run: Callable[[], None]
    put: Callable[[], None] = lambda: None
    size: int = 0


@dataclass
class Capture:
    thread: int
    work: list[Work] = field(default_factory=list)
    spoilt: str = ""


@dataclass
class Memory:
    bytes: np.ndarray
    host: bool
    fresh: bool = False
    alias: int = 0


class CudaDouble:
    """Implements :class:`edgebone.engines.tensorrt.cuda.Cuda` in the host's memory."""

    def __init__(self, integrated: bool = False, capability: tuple[int, int] = (8, 6)) -> None:
        self.calls: Counter[str] = Counter()
        self.work: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()
        self.problems: list[str] = []
        self.alive: dict[int, str] = {}
        self.lost: DeviceLostError | None = None
        self.left_behind: EngineError | None = None
        self._device = Device("a double", capability, integrated)
        self._handles = itertools.count(1)
        self._addresses = itertools.count(0x7F00_0000_0000, 0x10_0000_0000)
        self._memory: dict[int, Memory] = {}
        self._streams: dict[int, list[Work]] = {}
        self._captures: dict[int, Capture] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._faults: dict[str, list[Any]] = {}
        self._lock = threading.RLock()
        # What is freed stays, full of noise: a late read shall be wrong, not crash.
        self._graveyard: list[Any] = []

    # Faults

    def fail(self, call: str, error: EngineError, after: int = 0) -> None:
        """Let one call fail, the first one or a later one; a lost device fails all that come then."""
        self._faults[call] = [after, error]

    @contextmanager
    def _call(self, name: str, frees: int | None = None, captured: bool = False) -> Iterator[None]:
        with self._lock:
            self.calls[name] += 1
            if frees is not None and self.alive.pop(frees, None) is None:
                self.problems.append(f"{name}: {frees} is not there, or was freed before")
            fault = self._faults.get(name)
            if fault is not None:
                fault[0] -= 1
                if fault[0] < 0:
                    del self._faults[name]
                    self.lost = fault[1] if isinstance(fault[1], DeviceLostError) else self.lost
                    self.left_behind = fault[1]
                    # A new one: the same one raised twice would keep the frames of the first time alive.
                    raise type(fault[1])(str(fault[1]))
            if self.lost is not None:
                raise DeviceLostError(str(self.lost))
            for capture in self._captures.values():
                if not captured and capture.thread == threading.get_ident():
                    capture.spoilt = name
                    raise EngineError(f"CUDA: {name} failed with cudaErrorStreamCaptureUnsupported")
            yield

    # The protocol

    def device(self) -> Device:
        with self._call("device"):
            return self._device

    def _new(self, kind: str) -> int:
        handle = next(self._handles)
        self.alive[handle] = kind
        return handle

    def create_stream(self) -> int:
        with self._call("create_stream"):
            stream = self._new("stream")
            self._streams[stream] = []
            return stream

    def destroy_stream(self, stream: int) -> None:
        with self._call("destroy_stream", frees=stream):
            if self._streams.pop(stream):
                self.problems.append(f"stream {stream} was destroyed with work in it")

    def synchronize_stream(self, stream: int) -> None:
        with self._call("synchronize_stream"):
            self._advance(stream, None)

    def create_event(self) -> int:
        with self._call("create_event"):
            return self._new("event")

    def record_event(self, event: int, stream: int) -> None:
        with self._call("record_event", captured=True):
            self.put(stream, Work(f"event {event}", lambda: None))

    def synchronize_event(self, event: int) -> None:
        with self._call("synchronize_event"):
            for stream, work in self._streams.items():
                if any(item.kind == f"event {event}" for item in work):
                    self._advance(stream, f"event {event}")
                    return
            self.problems.append(f"event {event} was waited for, but not recorded")

    def destroy_event(self, event: int) -> None:
        with self._call("destroy_event", frees=event):
            pass

    def allocate(self, size: int) -> int:
        with self._call("allocate"):
            address = next(self._addresses)
            self.alive[address] = "device memory"
            self._memory[address] = Memory(np.full(size, UNTOUCHED, np.uint8), host=False)
            return address

    def free(self, address: int) -> None:
        with self._call("free", frees=address):
            self._bury(address)

    def allocate_host(self, size: int) -> int:
        with self._call("allocate_host"):
            buffer = (ctypes.c_uint8 * (size + 256))()
            address = -(-ctypes.addressof(buffer) // 256) * 256
            content = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
            content[:] = UNTOUCHED
            self._graveyard.append(buffer)
            self.alive[address] = "host memory"
            self._memory[address] = Memory(content, host=True)
            return address

    def free_host(self, address: int) -> None:
        with self._call("free_host", frees=address):
            if address in self._memory:
                self._memory.pop(self._memory[address].alias, None)
            self._bury(address)

    def _bury(self, address: int) -> None:
        memory = self._memory.pop(address, None)
        if memory is not None:
            memory.bytes[:] = NOISE
            self._graveyard.append(memory)

    def device_address(self, host: int) -> int:
        with self._call("device_address"):
            alias = next(self._addresses)
            self._memory[host].alias = alias
            self._memory[alias] = Memory(self._memory[host].bytes, host=True, fresh=True)
            return alias

    def copy_to_device(self, device: int, host: int, size: int, stream: int) -> None:
        self._copy("copy_to_device", device, host, size, stream)

    def copy_to_host(self, host: int, device: int, size: int, stream: int) -> None:
        self._copy("copy_to_host", host, device, size, stream)

    def _copy(self, kind: str, to: int, source: int, size: int, stream: int) -> None:
        seen: list[bytes] = []

        def put() -> None:
            if kind == "copy_to_host":
                self.view(to, size)[:] = NOISE
            else:
                seen.append(self.view(source, size).tobytes())

        def run() -> None:
            content = self.view(source, size)
            if kind == "copy_to_device" and seen.pop(0) != content.tobytes():
                self.problems.append("pinned input was overwritten before it was copied")
            self.view(to, size)[:] = content
            self.find(to)[1].fresh = True

        with self._call(kind, captured=True):
            if self.find(to)[1].host == (kind == "copy_to_device"):
                self.problems.append(f"{kind} was given its addresses the wrong way round")
            self.put(stream, Work(kind, run, put, size))

    def begin_capture(self, stream: int) -> None:
        with self._call("begin_capture"):
            if self._streams[stream]:
                self.problems.append("a capture began in a stream with work in it")
            self._captures[stream] = Capture(threading.get_ident())

    def end_capture(self, stream: int) -> int:
        # It ends whatever is returned.
        capture = self._captures.pop(stream)
        with self._call("end_capture", captured=True):
            if capture.spoilt:
                raise EngineError("CUDA: cudaStreamEndCapture failed with cudaErrorStreamCaptureInvalidated")
            graph = self._new("graph")
            self._graphs[graph] = capture.work
            return graph

    def instantiate(self, graph: int) -> int:
        with self._call("instantiate"):
            executable = self._new("executable")
            self._graphs[executable] = self._graphs[graph]
            return executable

    def destroy_graph(self, graph: int) -> None:
        with self._call("destroy_graph", frees=graph):
            del self._graphs[graph]

    def launch(self, executable: int, stream: int) -> None:
        with self._call("launch"):
            for work in self._graphs[executable]:
                self.put(stream, work)

    def destroy_executable(self, executable: int) -> None:
        with self._call("destroy_executable", frees=executable):
            del self._graphs[executable]

    def last_error(self) -> EngineError | None:
        error, self.left_behind = self.left_behind, None
        return error

    # What TensorRT's double needs

    def put(self, stream: int, work: Work) -> None:
        with self._lock:
            if stream not in self._streams:
                self.problems.append(f"{work.kind} went into stream {stream}, which is not there")
                return
            capture = self._captures.get(stream)
            if capture is not None:
                capture.work.append(work)
                return
            work.put()
            self.work[work.kind] += 1
            self.moved[work.kind] += work.size
            self._streams[stream].append(work)

    def capturing(self, stream: int) -> bool:
        return stream in self._captures

    def _advance(self, stream: int, until: str | None) -> None:
        queue = self._streams[stream]
        while queue:
            work = queue.pop(0)
            work.run()
            if work.kind == until:
                return

    def advance(self, stream: int) -> None:
        with self._lock:
            self._advance(stream, None)

    def find(self, address: int) -> tuple[int, Memory]:
        for start, memory in self._memory.items():
            if start <= address < start + len(memory.bytes):
                return start, memory
        raise AssertionError(f"{address:#x} is no memory, or was freed")

    def view(self, address: int, size: int) -> np.ndarray:
        start, memory = self.find(address)
        assert address + size <= start + len(memory.bytes), "beyond the end of the memory"
        return memory.bytes[address - start : address - start + size]

    # What tests ask

    @contextmanager
    def account(self) -> Iterator[SimpleNamespace]:
        """What happens inside: ``calls`` made, ``work`` put into streams, also by graphs, and bytes ``moved``."""
        before = [Counter(counted) for counted in (self.calls, self.work, self.moved)]
        found = SimpleNamespace(calls=Counter(), work=Counter(), moved=Counter())
        yield found
        found.calls, found.work, found.moved = (
            counted - old for counted, old in zip((self.calls, self.work, self.moved), before, strict=True)
        )


def make_plan(onnx: bytes, profiles: list[dict[str, list[list[int]]]] | None = None) -> bytes:
    """An "engine" for the double: a network, and least, best and largest shapes by input, one entry a profile."""
    return json.dumps(profiles or []).encode() + b"\0" + onnx


def _words(name: str, *words: str) -> Any:
    return SimpleNamespace(**{word: SimpleNamespace(name=word, value=f"{name}.{word}") for word in words})


class TensorRTDouble:
    """Stands for the module ``tensorrt``: a runtime whose engines are ONNX networks behind :func:`make_plan`."""

    __version__ = "10.99"
    DataType = _words("DataType", "FLOAT", "HALF", "INT8", "UINT8", "INT32", "INT64", "BOOL", "BF16")
    TensorIOMode = _words("TensorIOMode", "NONE", "INPUT", "OUTPUT")
    TensorLocation = _words("TensorLocation", "DEVICE", "HOST")
    TensorFormat = _words("TensorFormat", "LINEAR", "CHW32")
    CudaGraphStrategy = _words("CudaGraphStrategy", "DISABLED", "WHOLE_GRAPH_CAPTURE")

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING, INFO = range(4)

    class IOutputAllocator:
        pass

    def __init__(self, cuda: CudaDouble) -> None:
        self.cuda = cuda
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self.faults: dict[str, list[Any]] = {}
        self.refuses_capture = False
        self.runtimes: list[RuntimeDouble] = []
        self.contexts: list[Any] = []

    def Runtime(self, logger: Any) -> RuntimeDouble:
        made = RuntimeDouble(self, logger)
        self.runtimes.append(weakref.proxy(made))
        return made

    def fail(self, call: str, log: str = "", after: int = 0, left_behind: EngineError | None = None) -> None:
        """Let one call return False or None, with a line in the log, the first one or a later one."""
        self.faults[call] = [after, log, left_behind]

    def fails(self, call: str, logger: Any) -> bool:
        fault = self.faults.get(call)
        if fault is None:
            return False
        fault[0] -= 1
        if fault[0] >= 0:
            return False
        del self.faults[call]
        logger.log(self.ILogger.ERROR, fault[1])
        self.cuda.left_behind = fault[2] or self.cuda.left_behind
        return True


class RuntimeDouble:
    engine_host_code_allowed = False
    DLA_core = -1

    def __init__(self, trt: TensorRTDouble, logger: Any) -> None:
        self.trt, self.logger = trt, logger
        trt.alive.add(self)

    def deserialize_cuda_engine(self, plan: bytes) -> EngineDouble | None:
        if self.trt.fails("deserialize_cuda_engine", self.logger):
            return None
        head, _, onnx = plan.partition(b"\0")
        try:
            return EngineDouble(self, json.loads(head), onnx)
        except Exception:
            self.logger.log(self.trt.ILogger.ERROR, "Serialization assertion magicTag failed")
            return None


class EngineDouble:
    def __init__(self, runtime: RuntimeDouble, profiles: list[dict[str, list[list[int]]]], onnx: bytes) -> None:
        import onnxruntime

        self.trt, self.logger, self.profiles = runtime.trt, runtime.logger, profiles
        self.trt.alive.add(self)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.given = {node.name: node for node in self.session.get_inputs()}
        self.asked = {node.name: node for node in self.session.get_outputs()}
        self.nodes = {**self.given, **self.asked}

    @property
    def num_io_tensors(self) -> int:
        return len(self.nodes)

    @property
    def num_optimization_profiles(self) -> int:
        return max(len(self.profiles), 1)

    def get_tensor_name(self, index: int) -> str:
        return list(self.nodes)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name in self.given else self.trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        kinds = {"float": "FLOAT", "float16": "HALF", "bfloat16": "BF16"}
        kind = re.sub(r"tensor\((\w+)\)", r"\1", self.nodes[name].type)
        return getattr(self.trt.DataType, kinds.get(kind, kind.upper()))

    def dtype(self, name: str) -> np.dtype[Any]:
        names = {"FLOAT": "float32", "HALF": "float16"}
        kind = self.get_tensor_dtype(name).name
        return np.dtype(names.get(kind, kind.lower()))

    def get_tensor_location(self, name: str) -> Any:
        return self.trt.TensorLocation.DEVICE

    def get_tensor_format(self, name: str) -> Any:
        return self.trt.TensorFormat.LINEAR

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self.nodes[name].shape)

    def get_tensor_profile_shape(self, name: str, index: int) -> list[list[int]]:
        return self.profiles[index][name]

    def create_runtime_config(self) -> Any:
        return SimpleNamespace(cuda_graph_strategy=self.trt.CudaGraphStrategy.DISABLED)

    def create_execution_context(self, config: Any = None) -> ContextDouble | None:
        if self.trt.fails("create_execution_context", self.logger):
            return None
        return ContextDouble(self, config)


class ContextDouble:
    def __init__(self, engine: EngineDouble, config: Any) -> None:
        self._engine, self._trt, self._cuda, self.config = engine, engine.trt, engine.trt.cuda, config
        self._trt.alive.add(self)
        self._trt.contexts.append(weakref.proxy(self))
        self.active_optimization_profile = 0
        self._shapes = {name: engine.get_tensor_shape(name) for name in engine.given}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        # A captured graph holds for the context as it was then.
        self._version = 0
        self._settled = -1

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        if self._trt.fails("set_optimization_profile_async", self._engine.logger):
            return False
        self._cuda.put(stream, Work("profile", lambda: None))
        self.active_optimization_profile = index
        self._shapes = {name: self._engine.get_tensor_shape(name) for name in self._engine.given}
        self._version += 1
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._trt.fails("set_input_shape", self._engine.logger):
            return False
        low, _, high = self._engine.get_tensor_profile_shape(name, self.active_optimization_profile)
        if not all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
            self._engine.logger.log(self._trt.ILogger.ERROR, f"{name} {shape} is out of the profile's range")
            return False
        self._version += self._shapes[name] != tuple(shape)
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        if self._trt.fails("infer_shapes", self._engine.logger):
            return list(self._shapes)
        return [name for name, shape in self._shapes.items() if -1 in shape]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        known = {
            word: size
            for own, node in self._engine.given.items()
            for word, size in zip(node.shape, self._shapes[own], strict=True)
        }
        return tuple(known.get(size, size if isinstance(size, int) else -1) for size in self._engine.asked[name].shape)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self._trt.fails("set_tensor_address", self._engine.logger):
            return False
        self._version += self._addresses.get(name) != memory
        self._addresses[name] = memory
        return True

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        if self._trt.fails("set_output_allocator", self._engine.logger):
            return False
        self._allocators[name] = allocator
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self._cuda.calls["execute_async_v3"] += 1
        log = self._engine.logger
        if self._trt.fails("execute_async_v3", log):
            return False
        if self._cuda.capturing(stream):
            if self._trt.refuses_capture or self._allocators:
                log.log(self._trt.ILogger.ERROR, "operation not permitted when stream is capturing")
                return False
            if self._settled != self._version:
                self._cuda.problems.append("captured the work that follows a change of shape")
        missing = self._engine.nodes.keys() - self._addresses.keys() - self._allocators.keys()
        if missing or self.infer_shapes():
            log.log(self._trt.ILogger.ERROR, f"without address or shape: {sorted(missing)}")
            return False
        if self._allocators:
            return self._execute_now(stream)
        self._settled = version = self._version
        fixed = {name: (self._addresses[name], self.get_tensor_shape(name)) for name in self._engine.asked}

        def run() -> None:
            if self._version != version:
                self._cuda.problems.append("a graph was launched after its context had changed")
            for name, value in self._compute().items():
                address, shape = fixed[name]
                assert value.shape == shape
                self._cuda.view(address, value.nbytes)[:] = value.ravel().view(np.uint8)

        def put() -> None:
            # Where the host can look at once, it shall see noise until the network has run.
            for name, (address, shape) in fixed.items():
                if self._cuda.find(address)[1].host:
                    self._cuda.view(address, int(np.prod(shape)) * self._engine.dtype(name).itemsize)[:] = NOISE

        self._cuda.put(stream, Work("execute", run, put))
        return True

    def _execute_now(self, stream: int) -> bool:
        """Sizes that the data decides are known only when it has run: so TensorRT waits for the stream itself."""
        self._settled = self._version
        self._cuda.advance(stream)
        for name, value in self._compute().items():
            address = self._addresses.get(name)
            allocator = self._allocators.get(name)
            if allocator is not None:
                try:
                    address = allocator.reallocate_output_async(name, None, max(value.nbytes, 1), 256, stream)
                    allocator.notify_shape(name, value.shape)
                except Exception as error:
                    # Python's binding only prints it.
                    self._cuda.problems.append(f"a callback raised {error!r}, which nobody hears")
                if not address:
                    self._engine.logger.log(self._trt.ILogger.ERROR, f"the allocator of {name} gave nothing")
                    return False
            content = value.ravel().view(np.uint8)

            def run(address: int = address, content: np.ndarray = content) -> None:
                if len(content):
                    self._cuda.view(address, len(content))[:] = content

            self._cuda.put(stream, Work("execute", run))
        return True

    def _compute(self) -> dict[str, np.ndarray]:
        feeds = {}
        for name, shape in self._shapes.items():
            dtype = self._engine.dtype(name)
            memory = self._cuda.find(self._addresses[name])[1]
            if not memory.fresh:
                self._cuda.problems.append(f"the network ran before {name} was copied")
            content = self._cuda.view(self._addresses[name], int(np.prod(shape)) * dtype.itemsize)
            feeds[name] = content.view(dtype).reshape(shape).copy()
        for name in self._shapes:
            memory = self._cuda.find(self._addresses[name])[1]
            # Each run wants its own copy; what host and device share needs none.
            memory.fresh = memory.host
        values = self._engine.session.run(list(self._engine.asked), feeds)
        return dict(zip(self._engine.asked, values, strict=True))
