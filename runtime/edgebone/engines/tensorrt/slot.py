"""One execution context with its own stream and memory, for one run at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any, Literal

import numpy as np

from edgebone.core.errors import DeviceLostError, EngineError
from edgebone.core.tensors import Array
from edgebone.engines.protocol import Outputs
from edgebone.engines.tensorrt.cuda import Cuda
from edgebone.engines.tensorrt.memory import Block, aligned, bytes_of
from edgebone.engines.tensorrt.outputs import output_allocator
from edgebone.engines.tensorrt.runtime import Network, Shapes

Graphs = Literal["captured", "own", "none"]


class Slot:
    """Copies the feeds in, runs, and copies the results out, all in its own stream.

    Inputs are in one block of memory and outputs in another, so that each needs one copy, whatever their number. A run
    is captured as a CUDA graph when a shape occurs a second time in a row, and from then on launched in one call; if it
    cannot be captured, runs continue without a graph.

    Not thread-safe.

    Attributes:
        shapes: The input shapes that it is set up for; None before the first run and after a failure.

    Args:
        network: The deserialised engine.
        cuda: CUDA.
        shared: Whether the device uses the host's memory, without a copy.
        graphs: ``captured`` here; ``own`` leaves them to TensorRT-RTX, which follows the changes of its kernels;
            ``none``.
        note: Called with limitations found.

    Raises:
        EngineError: TensorRT or CUDA fails; everything created before is freed.
    """

    def __init__(self, network: Network, cuda: Cuda, shared: bool, graphs: Graphs, note: Callable[[str], None]) -> None:
        self.shapes: Shapes | None = None
        self._network = network
        self._cuda = cuda
        self._captures = graphs == "captured"
        self._note = note
        self._executable: int | None = None
        self._has_run = False
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in (*network.inputs, *network.outputs)}
        self._feeds: list[tuple[str, Array]] = []
        self._results: list[tuple[str, Array]] = []
        self._bytes_in = self._bytes_out = 0
        with ExitStack() as stack:
            self._stream = cuda.create_stream()
            stack.callback(cuda.destroy_stream, self._stream)
            self._done = cuda.create_event()
            stack.callback(cuda.destroy_event, self._done)
            self._context: Any = network.create_context(own_graphs=graphs == "own")
            stack.callback(self._forget_context)
            bytes_in, bytes_out, open_ended = self._most()
            self._in = Block(cuda, bytes_in, shared)
            stack.callback(self._in.close)
            self._out = Block(cuda, bytes_out, shared)
            stack.callback(self._out.close)
            self._allocators = {name: output_allocator(network.trt, cuda, shared) for name in open_ended}
            for name, allocator in self._allocators.items():
                stack.callback(allocator.close)
                network.checked(self._context.set_output_allocator(name, allocator), "set_output_allocator", name)
            if self._allocators and self._captures:
                self._captures = False
                note(f"no CUDA graph: the data determines the size of {', '.join(self._allocators)}")
            stack.callback(self._forget_graph)
            self._held = stack.pop_all()

    def run(self, feeds: Mapping[str, Array], shapes: Shapes, profile: int | None) -> Outputs:
        """Run once and wait.

        Args:
            feeds: Every input by name, checked.
            shapes: Their shapes, in the inputs' order.
            profile: The optimisation profile that covers them; None if all sizes are fixed.

        Raises:
            DeviceOutOfMemoryError: The device is out of memory.
            DeviceLostError: The device no longer responds.
            EngineError: Any other call failed.
        """
        try:
            if shapes != self.shapes:
                self._set_up(shapes, profile)
            for name, pinned in self._feeds:
                np.copyto(pinned, feeds[name])
            self._start()
            for name, allocator in self._allocators.items():
                if size := bytes_of(allocator.shape, self._dtypes[name]):
                    allocator.block.to_host(size, self._stream)
            self._cuda.record_event(self._done, self._stream)
            self._cuda.synchronize_event(self._done)
        except BaseException as error:
            lost = self._recover()
            if lost is not None and isinstance(error, EngineError):
                raise lost from error
            raise
        # The next run overwrites the memory: return copies.
        found = {name: pinned.copy() for name, pinned in self._results}
        for name, allocator in self._allocators.items():
            empty = np.empty(allocator.shape, self._dtypes[name])
            found[name] = allocator.block.view(0, empty.shape, empty.dtype).copy() if empty.size else empty
        return {spec.name: found[spec.name] for spec in self._network.outputs}

    def close(self) -> None:
        """Free everything, also if a part cannot be freed. A second call does nothing.

        Raises:
            EngineError: The error of the last part that could not be freed.
        """
        self._held.close()

    def _most(self) -> tuple[int, int, list[str]]:
        """Return the largest bytes of all inputs and of all outputs, and the outputs of data-dependent size."""
        most_in = most_out = 0
        open_ended: list[str] = []
        for profile, shapes in self._network.largest:
            self._shape_context(shapes, profile)
            sizes = [
                bytes_of(shape, self._dtypes[spec.name])
                for spec, shape in zip(self._network.inputs, shapes, strict=True)
            ]
            most_in = max(most_in, sum(map(aligned, sizes)))
            given = {spec.name: tuple(self._context.get_tensor_shape(spec.name)) for spec in self._network.outputs}
            open_ended = [name for name, shape in given.items() if min(shape, default=0) < 0]
            sizes = [bytes_of(shape, self._dtypes[name]) for name, shape in given.items() if name not in open_ended]
            most_out = max(most_out, sum(map(aligned, sizes)))
        return most_in, most_out, open_ended

    def _set_up(self, shapes: Shapes, profile: int | None) -> None:
        """Set the context's shapes and addresses; a graph of other shapes is discarded."""
        self._forget_graph()
        self.shapes = None
        self._has_run = False
        self._shape_context(shapes, profile)
        names = [spec.name for spec in self._network.inputs]
        self._feeds, self._bytes_in = self._place(self._in, dict(zip(names, shapes, strict=True)))
        fixed = [spec.name for spec in self._network.outputs if spec.name not in self._allocators]
        given = {name: tuple(self._context.get_tensor_shape(name)) for name in fixed}
        self._results, self._bytes_out = self._place(self._out, given)
        self.shapes = shapes

    def _shape_context(self, shapes: Shapes, profile: int | None) -> None:
        if profile is None:
            return
        checked = self._network.checked
        if self._context.active_optimization_profile != profile:
            done = self._context.set_optimization_profile_async(profile, self._stream)
            checked(done, f"set_optimization_profile_async({profile})")
        for spec, shape in zip(self._network.inputs, shapes, strict=True):
            checked(self._context.set_input_shape(spec.name, shape), f"set_input_shape({list(shape)})", spec.name)
        try:
            unknown = self._context.infer_shapes()
        except RuntimeError as error:
            raise self._network.failure("infer_shapes") from error
        checked(not unknown, "infer_shapes", ", ".join(unknown))

    def _place(self, block: Block, given: Mapping[str, tuple[int, ...]]) -> tuple[list[tuple[str, Array]], int]:
        """Place tensors side by side and set their addresses.

        Returns:
            The host's view of each, and the total bytes.
        """
        views: list[tuple[str, Array]] = []
        start = end = 0
        for name, shape in given.items():
            view = block.view(start, shape, self._dtypes[name])
            done = self._context.set_tensor_address(name, block.device + start)
            self._network.checked(done, "set_tensor_address", name)
            views.append((name, view))
            end = start + view.nbytes
            start = aligned(end)
        return views, end

    def _start(self) -> None:
        # TensorRT does internal work in the first run after a change, which must not be captured.
        if self._captures and self._has_run and self._executable is None:
            self._capture()
        if self._executable is not None:
            self._cuda.launch(self._executable, self._stream)
        else:
            self._enqueue()
            self._has_run = True

    def _enqueue(self) -> None:
        self._in.to_device(self._bytes_in, self._stream)
        for allocator in self._allocators.values():
            allocator.shape = None
        done = self._context.execute_async_v3(self._stream)
        for allocator in self._allocators.values():
            failure, allocator.failure = allocator.failure, None
            if failure is not None:
                raise failure
        self._network.checked(done, "execute_async_v3")
        for name, allocator in self._allocators.items():
            self._network.checked(allocator.shape is not None, "notify_shape", name)
        if self._bytes_out:
            self._out.to_host(self._bytes_out, self._stream)

    def _capture(self) -> None:
        """Capture the graph; on failure, note the reason and never try again."""
        graph = 0
        try:
            self._cuda.begin_capture(self._stream)
            try:
                self._enqueue()
            except BaseException:
                with suppress(EngineError):
                    graph = self._cuda.end_capture(self._stream)
                raise
            graph = self._cuda.end_capture(self._stream)
            self._executable = self._cuda.instantiate(graph)
        except DeviceLostError:
            raise
        except EngineError as error:
            self._captures = False
            # Otherwise the attempt's error would be attributed to the next call.
            self._cuda.last_error()
            self._note(f"no CUDA graph: {error}")
        finally:
            if graph:
                self._cuda.destroy_graph(graph)

    def _recover(self) -> DeviceLostError | None:
        """After a failure, wait for pending work, and set everything up again at the next run.

        Returns:
            The error of a lost device, which TensorRT does not distinguish from others.
        """
        self.shapes = None
        try:
            self._cuda.synchronize_stream(self._stream)
        except DeviceLostError as error:
            return error
        except EngineError:
            pass
        return None

    def _forget_graph(self) -> None:
        executable, self._executable = self._executable, None
        if executable is not None:
            self._cuda.destroy_executable(executable)

    def _forget_context(self) -> None:
        self._context = None
