"""The engine itself, imported when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from edgebone.core.tensors import Array, TensorSpec, check_feeds
from edgebone.engines.protocol import Outputs
from edgebone.engines.request import EngineRequest
from edgebone.engines.threads import EngineThreads


class ReferenceEngine:
    """Runs an ONNX graph with ONNX's reference evaluator.

    Args:
        model: The ONNX file's bytes.
        batch_range: Smallest and largest batch, where the batch is free.

    Raises:
        EngineError: The graph cannot be loaded.
    """

    def __init__(self, model: bytes, batch_range: tuple[int, int] | None = None) -> None:
        self.name = "onnx-reference"
        self.precision = "fp32"
        # One run at a time, on the cores that preprocessing wants.
        self.in_flight = 1
        self.overlaps = False
        self._batch_range = batch_range
        self._evaluator: ReferenceEvaluator | None = None
        # Its threads open, run and free the engine, and turn whatever is raised into an EngineError of one line.
        self._threads = EngineThreads(self.name, 1, self._free)
        self._threads.open(self._open, model)

    def _open(self, model: bytes) -> None:
        graph = onnx.load_from_string(model)
        onnx.checker.check_model(graph)
        self._evaluator = ReferenceEvaluator(graph)
        self.inputs = tuple(map(_spec, graph.graph.input))
        self.outputs = tuple(map(_spec, graph.graph.output))

    def run(self, feeds: Mapping[str, Array]) -> Outputs:
        """Run once and wait."""
        return self._threads.call(self._run, feeds)

    def submit(self, feeds: Mapping[str, Array]) -> Future[Outputs]:
        """Start a run."""
        return self._threads.submit(self._run, feeds)

    def _run(self, feeds: Mapping[str, Array]) -> Outputs:
        check_feeds(feeds, self.inputs, self._batch_range)
        assert self._evaluator is not None
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._evaluator.run(names, dict(feeds)), strict=True))

    def close(self) -> None:
        """Wait for the runs in flight and free the graph."""
        self._threads.close()

    def _free(self) -> None:
        self._evaluator = None

    def __enter__(self) -> ReferenceEngine:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def open_reference(request: EngineRequest) -> ReferenceEngine:
    """What the row's ``open`` names."""
    return ReferenceEngine(request.read(), request.batch_range)


def _spec(value: Any) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    sizes = [size.dim_value or size.dim_param or "any" for size in tensor.shape.dim]
    return TensorSpec(value.name, dtype, tuple(sizes))
