"""Outputs whose size depends on the data: TensorRT requests their memory while it runs."""

from __future__ import annotations

from typing import Any

from edgebone.engines.tensorrt.cuda import Cuda
from edgebone.engines.tensorrt.memory import Block, aligned


def output_allocator(trt: Any, cuda: Cuda, shared: bool) -> Any:
    """Return an ``IOutputAllocator`` for one output, which keeps its memory and only enlarges it.

    Its attributes: ``block``, the memory, None before the first run; ``shape``, of the last run, None until known;
    ``failure``, a callback's exception: TensorRT only prints it, so the caller must raise it.

    Args:
        trt: TensorRT's module.
        cuda: CUDA.
        shared: Whether host and device share their memory.
    """

    class Allocator(trt.IOutputAllocator):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self.block: Block | None = None
            self.shape: tuple[int, ...] | None = None
            self.failure: BaseException | None = None

        def reallocate_output_async(
            self, tensor_name: str, memory: int | None, size: int, alignment: int, stream: int
        ) -> int | None:
            try:
                if self.block is None or self.block.size < size:
                    # Twice as much, so that a filling scene does not allocate at every frame.
                    wanted = aligned(size if self.block is None else max(size, 2 * self.block.size))
                    self.close()
                    self.block = Block(cuda, wanted, shared)
                return self.block.device
            except BaseException as error:
                self.failure = error
                return None

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            try:
                self.shape = tuple(shape)
            except BaseException as error:
                self.failure = error

        def close(self) -> None:
            block, self.block = self.block, None
            if block is not None:
                block.close()

    return Allocator()
