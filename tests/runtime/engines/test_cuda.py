"""CUDA behind its seam: the real cuda.bindings, with and without a GPU, and every kind of error it can return."""

from __future__ import annotations

import inspect
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from edgebone.core.errors import DeviceLostError, DeviceOutOfMemoryError, EngineError, MissingDependencyError
from edgebone.core.machine import Machine
from edgebone.engines.tensorrt import cuda as module
from edgebone.engines.tensorrt.cuda import Cuda, CudaBindings, Device
from support.cuda_double import CudaDouble

runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
NO_GPU = not (Machine.probe().gpus or Machine.probe().jetson)
# Every call of the protocol, with arguments that mean nothing.
CALLS: dict[str, tuple[int, ...]] = {
    "device": (), "create_stream": (), "destroy_stream": (1,), "synchronize_stream": (1,), "create_event": (),
    "record_event": (1, 2), "synchronize_event": (1,), "destroy_event": (1,), "allocate": (8,), "free": (1,),
    "allocate_host": (8,), "free_host": (1,), "device_address": (1,), "copy_to_device": (1, 2, 3, 4),
    "copy_to_host": (1, 2, 3, 4), "begin_capture": (1,), "end_capture": (1,), "instantiate": (1,),
    "destroy_graph": (1,), "launch": (1, 2), "destroy_executable": (1,),
}  # fmt: skip


class Returns:
    """cuda.bindings' runtime with its own words, whose calls are recorded and return what they are told to."""

    def __init__(self, error: str = "cudaSuccess", *values: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._answer = (getattr(runtime.cudaError_t, error), *values)

    def __getattr__(self, name: str) -> Any:
        real = getattr(runtime, name)
        if not callable(real) or name.endswith("_t") or isinstance(real, type):
            return real
        if name in ("cudaGetErrorString", "cudaGetErrorName"):
            return real

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            return self._answer

        return call


def over(fake: Returns) -> CudaBindings:
    made = CudaBindings()
    made._runtime = fake
    return made


def test_the_protocol_the_bindings_and_the_double_have_the_same_calls() -> None:
    wanted = {name for name in vars(Cuda) if not name.startswith("_")}
    assert wanted == {*CALLS, "last_error"}
    for kind in (CudaBindings, CudaDouble):
        for name in wanted:
            own = inspect.signature(getattr(kind, name)).parameters
            assert list(own) == list(inspect.signature(getattr(Cuda, name)).parameters), (kind, name)


def test_every_name_and_number_of_arguments_is_the_real_packages() -> None:
    source = inspect.getsource(module)
    names = set(re.findall(r'_(?:call|value)\(\s*"(cuda\w+)"', source)) | set(
        re.findall(r"[_ ]runtime\.(cuda\w+)", source)
    )
    assert len(names) > 25
    assert not [name for name in names if not hasattr(runtime, name)]
    for name, arguments in CALLS.items():
        fake = Returns("cudaSuccess", 7)
        if name in ("device",):
            continue
        if name.startswith(("destroy", "free", "record", "synchronize", "copy", "begin", "launch")):
            fake._answer = fake._answer[:1]
            assert getattr(over(fake), name)(*arguments) is None
        else:
            assert getattr(over(fake), name)(*arguments) == 7
        ((call, *given),) = fake.calls
        signature = getattr(runtime, call).__doc__.split("\n")[0]
        wanted = signature[signature.index("(") + 1 : -1].split(", ")
        assert len(given) == len(wanted), signature


def test_flags_and_directions_are_the_right_ones() -> None:
    fake = Returns("cudaSuccess", 1)
    cuda = over(fake)
    cuda.create_stream()
    cuda.create_event()
    cuda.allocate_host(8)
    cuda.end_capture(5)
    fake._answer = fake._answer[:1]
    cuda.copy_to_device(10, 20, 8, 5)
    cuda.copy_to_host(20, 10, 8, 5)
    cuda.begin_capture(5)
    kinds, modes = runtime.cudaMemcpyKind, runtime.cudaStreamCaptureMode
    assert fake.calls == [
        ("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking),
        ("cudaEventCreateWithFlags", runtime.cudaEventBlockingSync | runtime.cudaEventDisableTiming),
        ("cudaHostAlloc", 8, runtime.cudaHostAllocMapped),
        ("cudaStreamEndCapture", 5),
        ("cudaMemcpyAsync", 10, 20, 8, kinds.cudaMemcpyHostToDevice, 5),
        ("cudaMemcpyAsync", 20, 10, 8, kinds.cudaMemcpyDeviceToHost, 5),
        ("cudaStreamBeginCapture", 5, modes.cudaStreamCaptureModeThreadLocal),
    ]


@pytest.mark.parametrize("integrated", [0, 1])
def test_the_device_is_described(integrated: int) -> None:
    properties = SimpleNamespace(name=b"Orin\0\0\0", major=8, minor=7, integrated=integrated)
    fake = Returns("cudaSuccess", properties)
    assert over(fake).device() == Device("Orin", (8, 7), bool(integrated))
    assert [call[0] for call in fake.calls] == ["cudaGetDevice", "cudaGetDeviceProperties"]
    real = vars(runtime.cudaDeviceProp)
    assert {"name", "major", "minor", "integrated"} <= set(real)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ("cudaErrorMemoryAllocation", DeviceOutOfMemoryError, "a smaller batch, fewer contexts"),
        ("cudaErrorIllegalAddress", DeviceLostError, "open the engine again"),
        ("cudaErrorLaunchFailure", DeviceLostError, "restart the process"),
        ("cudaErrorECCUncorrectable", DeviceLostError, "restart the process"),
        ("cudaErrorInsufficientDriver", EngineError, r'pip install "cuda-python<13"'),
        ("cudaErrorNoDevice", EngineError, "needs an NVIDIA GPU and its driver"),
        ("cudaErrorInvalidValue", EngineError, "invalid argument"),
    ],
)
def test_every_error_is_named_with_its_call_and_of_its_own_type(error: str, kind: type, words: str) -> None:
    with pytest.raises(EngineError, match=rf"CUDA: cudaMalloc failed with {error}: .*{words}") as caught:
        over(Returns(error, None)).allocate(8)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_every_error_that_is_told_apart_exists() -> None:
    known = set(dir(runtime.cudaError_t))
    assert known >= module._LOST | module._NO_DRIVER
    assert not module._LOST & module._NO_DRIVER


def test_what_an_earlier_call_left_behind_is_asked_for_and_forgotten() -> None:
    assert over(Returns("cudaSuccess")).last_error() is None
    fake = Returns("cudaErrorIllegalAddress")
    assert isinstance(over(fake).last_error(), DeviceLostError)
    assert fake.calls == [("cudaGetLastError",)]


@pytest.mark.skipif(not NO_GPU, reason="a GPU is here")
@pytest.mark.parametrize("name", CALLS)
def test_without_a_gpu_every_call_says_what_is_missing(name: str) -> None:
    with pytest.raises(EngineError, match=r"CUDA: cuda\w+ failed with cudaError\w+: .+ driver.*nvidia-smi"):
        getattr(CudaBindings(), name)(*CALLS[name])


def test_a_missing_package_is_told_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "edgebone\[tensorrt\]"'):
        CudaBindings()


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
def test_on_a_gpu_bytes_come_back_and_everything_is_freed() -> None:
    import ctypes

    cuda = CudaBindings()
    stream, event = cuda.create_stream(), cuda.create_event()
    host, device = cuda.allocate_host(64), cuda.allocate(64)
    memory = (ctypes.c_uint8 * 64).from_address(host)
    memory[:] = bytes(range(64))
    cuda.begin_capture(stream)
    cuda.copy_to_device(device, host, 64, stream)
    graph = cuda.end_capture(stream)
    executable = cuda.instantiate(graph)
    cuda.launch(executable, stream)
    cuda.synchronize_stream(stream)
    memory[:] = bytes(64)
    cuda.copy_to_host(host, device, 64, stream)
    cuda.record_event(event, stream)
    cuda.synchronize_event(event)
    assert bytes(memory) == bytes(range(64))
    cuda.destroy_executable(executable)
    cuda.destroy_graph(graph)
    cuda.free(device)
    cuda.free_host(host)
    cuda.destroy_event(event)
    cuda.destroy_stream(stream)
    assert cuda.last_error() is None
