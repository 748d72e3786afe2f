"""Memory that host and device hand tensors over in."""

from __future__ import annotations

import ctypes
import math
from contextlib import ExitStack
from typing import Any

import numpy as np

from edgebone.core.tensors import Array
from edgebone.engines.tensorrt.cuda import Cuda

# What TensorRT aligns tensors to, and more than any dtype needs.
_ALIGNMENT = 256


def aligned(size: int) -> int:
    """The next multiple of the alignment."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def bytes_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """How much a tensor takes."""
    return math.prod(shape) * dtype.itemsize


class Block:
    """Pinned host memory and its counterpart on the device, or, where both share their memory, one for both.

    Attributes:
        device: The address on the device.
        size: Bytes.

    Args:
        cuda: CUDA.
        size: Bytes.
        shared: Whether the device uses the host's memory, without a copy: it pays where they are one (a Jetson).
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
        """The host's side of a tensor."""
        return self._bytes[offset : offset + bytes_of(shape, dtype)].view(dtype).reshape(shape)

    def to_device(self, size: int, stream: int) -> None:
        """Copy the first bytes, when the stream comes to it."""
        if not self._shared:
            self._cuda.copy_to_device(self.device, self._host, size, stream)

    def to_host(self, size: int, stream: int) -> None:
        """Copy the first bytes back, when the stream comes to it."""
        if not self._shared:
            self._cuda.copy_to_host(self._host, self.device, size, stream)

    def close(self) -> None:
        """Free both sides; a second call does nothing."""
        self._held.close()
