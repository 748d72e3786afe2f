"""Memory for exchanging tensors between host and device."""

from __future__ import annotations

import ctypes
import math
from contextlib import ExitStack
from typing import Any

import numpy as np

from edgebone.core.tensors import Array
from edgebone.engines.tensorrt.cuda import Cuda

# TensorRT's alignment of tensors; more than any dtype needs.
_ALIGNMENT = 256


def aligned(size: int) -> int:
    """Round up to a multiple of the alignment."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def bytes_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the size of a tensor in bytes."""
    return math.prod(shape) * dtype.itemsize


class Block:
    """Pinned host memory and its counterpart on the device, or one block for both if they share memory.

    Attributes:
        device: The address on the device.
        size: The size in bytes.

    Args:
        cuda: CUDA.
        size: The size in bytes.
        shared: Whether the device uses the host's memory without a copy, which pays on shared memory (a Jetson).
    """

    def __init__(self, cuda: Cuda, size: int, shared: bool) -> None:
        self._cuda = cuda
        self._shared = shared
        self.size = max(size, 1)
        with ExitStack() as stack:
            self._host = cuda.allocate_host(self.size)
            stack.callback(cuda.free_host, self._host)
            if shared:
                self.device = cuda.device_address(self._host)
            else:
                self.device = cuda.allocate(self.size)
                stack.callback(cuda.free, self.device)
            self._held = stack.pop_all()
        self._bytes = np.ctypeslib.as_array((ctypes.c_uint8 * self.size).from_address(self._host))

    def view(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return the host's view of a tensor."""
        return self._bytes[offset : offset + bytes_of(shape, dtype)].view(dtype).reshape(shape)

    def to_device(self, size: int, stream: int) -> None:
        """Copy the first bytes to the device, in stream order."""
        if not self._shared:
            self._cuda.copy_to_device(self.device, self._host, size, stream)

    def to_host(self, size: int, stream: int) -> None:
        """Copy the first bytes back, in stream order."""
        if not self._shared:
            self._cuda.copy_to_host(self._host, self.device, size, stream)

    def close(self) -> None:
        """Free both sides; a second call does nothing."""
        self._held.close()
