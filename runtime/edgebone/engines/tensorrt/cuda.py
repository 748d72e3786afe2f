"""The few CUDA calls that an engine needs, and their implementation with NVIDIA's cuda.bindings.

Tests replace it by a recording double that also computes. ``CudaBindings`` itself has not been run on a GPU by this
project; without one, each of its calls ends in an error that names the missing driver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from edgebone.core.errors import DeviceLostError, DeviceOutOfMemoryError, EngineError, missing, raise_interrupt


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name: Its name, such as ``Orin``.
        capability: Its compute capability, such as (8, 7).
        integrated: Whether it shares the host's memory, as on a Jetson.
    """

    name: str
    capability: tuple[int, int]
    integrated: bool


class Cuda(Protocol):
    """CUDA's runtime, on the current device. Streams, events, graphs and addresses are plain integers.

    Every call raises ``DeviceOutOfMemoryError``, ``DeviceLostError``, or ``EngineError`` for any other failure.
    Thread-safe.
    """

    def device(self) -> Device:
        """Return the current device."""

    def create_stream(self) -> int:
        """Create a stream that does not wait for the default stream."""

    def destroy_stream(self, stream: int) -> None:
        """Free a stream."""

    def synchronize_stream(self, stream: int) -> None:
        """Wait until everything in a stream is done."""

    def create_event(self) -> int:
        """Create an event whose waiting thread sleeps instead of spinning: a camera's pipeline needs the cores."""

    def record_event(self, event: int, stream: int) -> None:
        """Record an event in a stream: it completes when all earlier work in the stream is done."""

    def synchronize_event(self, event: int) -> None:
        """Wait for a recorded event."""

    def destroy_event(self, event: int) -> None:
        """Free an event."""

    def allocate(self, size: int) -> int:
        """Allocate memory on the device; return its address there."""

    def free(self, address: int) -> None:
        """Free memory on the device."""

    def allocate_host(self, size: int) -> int:
        """Allocate pinned host memory that is mapped on the device; return its host address."""

    def free_host(self, address: int) -> None:
        """Free pinned host memory."""

    def device_address(self, host: int) -> int:
        """Return the device address of pinned host memory."""

    def copy_to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """Copy bytes from the host, in stream order."""

    def copy_to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """Copy bytes to the host, in stream order."""

    def begin_capture(self, stream: int) -> None:
        """Capture this thread's work in a stream instead of running it; other threads are not affected."""

    def end_capture(self, stream: int) -> int:
        """End the capture; return a graph, or 0 if the capture was invalidated."""

    def instantiate(self, graph: int) -> int:
        """Instantiate a graph for launching."""

    def destroy_graph(self, graph: int) -> None:
        """Free a graph; its instances stay valid."""

    def launch(self, executable: int, stream: int) -> None:
        """Launch an instantiated graph in a stream."""

    def destroy_executable(self, executable: int) -> None:
        """Free an instantiated graph."""

    def last_error(self) -> EngineError | None:
        """Return and clear this thread's last error; None if there is none."""


# After these errors the device, or this process's context on it, no longer responds.
_LOST = frozenset(
    f"cudaError{name}"
    for name in (
        "Assert", "Contained", "ContextIsDestroyed", "DeviceUninitialized", "DevicesUnavailable", "ECCUncorrectable",
        "ExternalDevice", "HardwareStackError", "IllegalAddress", "IllegalInstruction", "InvalidAddressSpace",
        "InvalidPc", "LaunchFailure", "LaunchTimeout", "MisalignedAddress", "MpsClientTerminated", "MpsRpcFailure",
        "NvlinkUncorrectable", "TensorMemoryLeak", "Unknown",
    )
)  # fmt: skip
_NO_DRIVER = frozenset(
    f"cudaError{name}"
    for name in (
        "CompatNotSupportedOnDevice", "InitializationError", "InsufficientDriver", "NoDevice", "StubLibrary",
        "SystemDriverMismatch", "SystemNotReady",
    )
)  # fmt: skip


class CudaBindings:
    """CUDA through ``cuda.bindings.runtime``, of cuda-bindings 12 or 13.

    Raises:
        MissingDependencyError: cuda-python is not installed.
        EngineError: It is installed but cannot be imported.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime  # type: ignore[import-untyped, unused-ignore]
        except ModuleNotFoundError as error:
            raise missing("cuda.bindings", "tensorrt", "an engine of TensorRT") from error
        except ImportError as error:
            raise_interrupt(error)
            line = str(error).strip().split("\n", 1)[0]
            raise EngineError(f"cuda.bindings is installed but cannot be imported: {line}") from error
        self._runtime: Any = runtime
        self._success = runtime.cudaError_t.cudaSuccess
        self._to_device = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._to_host = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._thread_local = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._event_flags = runtime.cudaEventBlockingSync | runtime.cudaEventDisableTiming

    def device(self) -> Device:
        """See :class:`Cuda`."""
        properties = self._value("cudaGetDeviceProperties", self._value("cudaGetDevice"))
        name = properties.name.split(b"\0")[0].decode(errors="replace")
        return Device(name, (properties.major, properties.minor), bool(properties.integrated))

    def create_stream(self) -> int:
        """See :class:`Cuda`."""
        return int(self._value("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaStreamDestroy", stream)

    def synchronize_stream(self, stream: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaStreamSynchronize", stream)

    def create_event(self) -> int:
        """See :class:`Cuda`."""
        return int(self._value("cudaEventCreateWithFlags", self._event_flags))

    def record_event(self, event: int, stream: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaEventRecord", event, stream)

    def synchronize_event(self, event: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaEventSynchronize", event)

    def destroy_event(self, event: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaEventDestroy", event)

    def allocate(self, size: int) -> int:
        """See :class:`Cuda`."""
        return int(self._value("cudaMalloc", size))

    def free(self, address: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaFree", address)

    def allocate_host(self, size: int) -> int:
        """See :class:`Cuda`."""
        return int(self._value("cudaHostAlloc", size, self._runtime.cudaHostAllocMapped))

    def free_host(self, address: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaFreeHost", address)

    def device_address(self, host: int) -> int:
        """See :class:`Cuda`."""
        return int(self._value("cudaHostGetDevicePointer", host, 0))

    def copy_to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaMemcpyAsync", device, host, size, self._to_device, stream)

    def copy_to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaMemcpyAsync", host, device, size, self._to_host, stream)

    def begin_capture(self, stream: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaStreamBeginCapture", stream, self._thread_local)

    def end_capture(self, stream: int) -> int:
        """See :class:`Cuda`."""
        return int(self._value("cudaStreamEndCapture", stream))

    def instantiate(self, graph: int) -> int:
        """See :class:`Cuda`."""
        return int(self._value("cudaGraphInstantiate", graph, 0))

    def destroy_graph(self, graph: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaGraphDestroy", graph)

    def launch(self, executable: int, stream: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaGraphLaunch", executable, stream)

    def destroy_executable(self, executable: int) -> None:
        """See :class:`Cuda`."""
        self._call("cudaGraphExecDestroy", executable)

    def last_error(self) -> EngineError | None:
        """See :class:`Cuda`."""
        (error,) = self._runtime.cudaGetLastError()
        return None if error == self._success else self._error("an earlier call", error)

    def _value(self, name: str, *arguments: Any) -> Any:
        (value,) = self._call(name, *arguments)
        return value

    def _call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        error, *results = getattr(self._runtime, name)(*arguments)
        if error != self._success:
            raise self._error(name, error)
        return tuple(results)

    def _error(self, call: str, error: Any) -> EngineError:
        _, text = self._runtime.cudaGetErrorString(error)
        said = f"CUDA: {call} failed with {error.name}: {text.decode(errors='replace')}"
        if error.name == "cudaErrorMemoryAllocation":
            return DeviceOutOfMemoryError(
                f"{said}; a smaller batch, fewer contexts, or fewer programs on the device may help"
            )
        if error.name in _LOST:
            return DeviceLostError(f"{said}; open the engine again; if that also fails, restart the process")
        if error.name in _NO_DRIVER:
            older = (
                ' (a driver for CUDA 12 needs: pip install "cuda-python<13")' if "Insufficient" in error.name else ""
            )
            return EngineError(f"{said}; it needs an NVIDIA GPU and its driver: check with nvidia-smi{older}")
        return EngineError(said)
