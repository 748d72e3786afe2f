"""Quantization recipes: each makes a variant, with some layers optionally in FP32, that can be evaluated."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone.core.errors import EngineError
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.engines.opening import open_model
from edgebone.engines.protocol import AsyncEngine
from edgebone.engines.spec import Candidate
from edgebone.engines.table import readers_of
from edgebone_export.errors import ExportError
from edgebone_export.graphs.edit import float_activations, prepare
from edgebone_export.quantization.calibration import Calibration
from edgebone_export.quantization.casts import (
    HALVES,
    LEAST_OPSET,
    find_half_layers,
    half_points,
    lower_to_half,
    simulate_half,
)
from edgebone_export.quantization.dialects import ONNXRUNTIME, TENSORRT, TENSORRT_FP8, TENSORRT_INT4, Dialect
from edgebone_export.quantization.emulation import Emulation, cast_rounding, emulate_dialect
from edgebone_export.quantization.insert import Ranges, quantize_graph
from edgebone_export.quantization.layers import Layer, find_layers, inner_nodes
from edgebone_export.quantization.nncf_openvino import quantize_with_nncf
from edgebone_export.quantization.observe import Observed, observe
from edgebone_export.quantization.ranges import METHODS, Method, find_range
from edgebone_export.quantization.stem import Stem, integer_stem

# Pictures for ranking layers: a few are enough for the order.
_PICTURES_A_LAYER = 4

Progress = Callable[[str], None]


class Recipe(Protocol):
    """One way to a lower precision."""

    @property
    def name(self) -> str:
        """The variant's name."""

    @property
    def precision(self) -> str:
        """The lowest precision that it computes in."""

    @property
    def dialect(self) -> str:
        """The dialect that it is written in."""

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that can run it."""

    @property
    def method(self) -> str:
        """How ranges were chosen."""

    @property
    def proof(self) -> str:
        """Where it is evaluated, in words."""

    @property
    def timed(self) -> bool:
        """Whether it can be timed on this machine."""

    @property
    def layers(self) -> list[str]:
        """Names of the layers that can be lowered."""

    def make(self, kept: Collection[str]) -> bytes:
        """Return the ONNX file with all layers lowered except those kept."""

    def open(self, content: bytes, kept: Collection[str]) -> AsyncEngine:
        """Return an engine that computes the variant as its target will."""

    def costs(self) -> dict[str, float]:
        """Return the cost of lowering each layer alone: noise over signal at the last layers, worst first."""


@dataclass(frozen=True)
class Source:
    """The common input of all recipes of a bundle.

    Attributes:
        content: The FP32 ONNX file.
        where: Name of the bundle, for messages.
        calibration: Calibration pictures.
        batch: Smallest and largest batch size.
        method: How to choose ranges; None tries all and takes the one with the least error.
        progress: Called with one line as each step starts.
        graphs: Measured graphs, so that recipes of the same form measure once.
    """

    content: bytes
    where: str
    calibration: Calibration
    batch: tuple[int, int]
    method: Method | None
    progress: Progress
    graphs: dict[tuple[int, bool], _Measured] = field(default_factory=dict, compare=False)

    def graph(self, opset: int, stem: bool) -> _Measured:
        """Return the measured graph at an opset or newer, with or without an integer stem."""
        return self.graphs.setdefault((opset, stem), _Measured(self, opset, stem))

    @cached_property
    def twin(self) -> QdqRecipe:
        """The INT8 recipe for onnxruntime, whose layers and costs NNCF's recipe shares."""
        return QdqRecipe(self, ONNXRUNTIME)

    @property
    def few(self) -> NDArray[np.uint8]:
        """Some calibration pictures, evenly spaced."""
        inputs = self.calibration.inputs
        return inputs[:: max(1, len(inputs) // _PICTURES_A_LAYER)][:_PICTURES_A_LAYER]


class _Measured:
    """A graph and its observations, measured on first use."""

    def __init__(self, source: Source, opset: int, stem: bool) -> None:
        self._source = source
        self._opset = opset
        self._has_stem = stem

    @cached_property
    def stem(self) -> Stem:
        proto = prepare(self._source.content, self._source.where, self._opset)
        return integer_stem(proto) if self._has_stem else Stem(proto, {}, frozenset())

    @cached_property
    def activations(self) -> list[str]:
        return float_activations(self.stem.proto)

    @cached_property
    def observed(self) -> dict[str, Observed]:
        source = self._source
        return observe(self.stem.proto, self.activations, source.calibration.inputs, source.batch[0], source.progress)


class QdqRecipe:
    """Integers or FP8, with QuantizeLinear and DequantizeLinear in a dialect's form."""

    def __init__(self, source: Source, dialect: Dialect) -> None:
        self.precision = dialect.precision
        self.dialect = dialect.name
        self.name = f"{dialect.precision}-{dialect.name}"
        self.engines = dialect.engines
        self.timed = dialect.outputs
        self.proof = "onnxruntime" if self.timed else "onnxruntime, as written"
        self._source = source
        self._dialect = dialect
        self._graph = source.graph(dialect.opset, dialect.outputs)

    @cached_property
    def _layers(self) -> list[Layer]:
        stem = self._graph.stem
        found = find_layers(ir.from_proto(stem.proto), self._dialect, set(self._graph.activations), stem.nodes)
        if not found:
            raise ExportError(
                f"{self._source.where}: no operator of the network can be lowered to {self.name}; it needs one of "
                f"{', '.join(sorted(self._dialect.ops & {'Conv', 'Gemm', 'MatMul'}))} with constant weights"
            )
        constant = [name for name, item in self._graph.observed.items() if item.constant and name not in stem.ranges]
        if constant:
            self._source.progress(
                f"{len(constant)} activations never change over the calibration pictures, such as {constant[0]}"
            )
        return found

    @property
    def layers(self) -> list[str]:
        """Names of the layers that can be lowered, except those that move the picture's bytes without loss."""
        return [layer.name for layer in self._layers if layer.name not in self._graph.stem.nodes]

    @cached_property
    def _chosen(self) -> tuple[Method, Ranges]:
        methods = METHODS if self._source.method is None else (self._source.method,)
        if self._dialect.activation is None:
            return "minmax", {}
        tried: list[tuple[float, Method, Ranges]] = []
        for method in methods:
            ranges = self._ranges(method)
            if len(methods) == 1:
                return method, ranges
            self._source.progress(f"{self.name}: ranges with {method}")
            emulation = self._emulate(ranges)
            tried.append((emulation.error(set(self.layers)), method, ranges))
            emulation.close()
        _, method, ranges = min(tried, key=lambda item: item[0])
        return method, ranges

    def _ranges(self, method: Method) -> Ranges:
        found = {name: find_range(item, method) for name, item in self._graph.observed.items()}
        return {**found, **self._graph.stem.ranges}

    def _emulate(self, ranges: Ranges) -> Emulation:
        proto, few = self._graph.stem.proto, self._source.few
        return emulate_dialect(proto, self._layers, self._dialect, ranges, few, self._source.batch[0])

    @property
    def method(self) -> str:
        """How ranges were chosen."""
        return self._chosen[0]

    def make(self, kept: Collection[str]) -> bytes:
        """Return the ONNX file with all layers lowered except those kept."""
        lowered = [layer for layer in self._layers if layer.name not in kept]
        return quantize_graph(self._graph.stem.proto, lowered, self._dialect, self._chosen[1], self._graph.observed)

    def open(self, content: bytes, kept: Collection[str]) -> AsyncEngine:
        """Open in onnxruntime: with integer kernels for its own dialect, operator by operator for others."""
        return OnnxRuntimeEngine(
            content, precision=self.precision, batch_range=self._source.batch, as_written=not self.timed
        )

    def costs(self) -> dict[str, float]:
        """Return the cost of lowering each layer alone."""
        return self._costs

    @cached_property
    def _costs(self) -> dict[str, float]:
        found = _each(self._emulate(self._chosen[1]), self.name, len(self._layers), self._source.progress)
        return {name: cost for name, cost in found.items() if name not in self._graph.stem.nodes}


class CastRecipe:
    """FP16 or BF16, with casts."""

    dialect = "casts"
    method = "measured"
    timed = False

    def __init__(self, source: Source, precision: str) -> None:
        self.name = self.precision = precision
        self.engines = (*readers_of("tensorrt"), *(("onnxruntime-cuda",) if precision == "fp16" else ()))
        self.proof = f"onnxruntime, rounded to {precision} after each operator"
        self._source = source
        self._graph = source.graph(LEAST_OPSET[precision], False)

    @cached_property
    def layers(self) -> list[str]:
        """Names of the nodes that can be lowered."""
        found, _ = find_half_layers(self._graph.stem.proto, self._graph.observed, self.precision)
        if not found:
            raise ExportError(f"{self._source.where}: no operator of the network can compute in {self.precision}")
        return found

    def make(self, kept: Collection[str]) -> bytes:
        """Return the ONNX file."""
        return lower_to_half(self._graph.stem.proto, self._lowered(kept), self.precision)

    def open(self, content: bytes, kept: Collection[str]) -> AsyncEngine:
        """Open in onnxruntime in FP32, rounding where the variant does."""
        simulated = simulate_half(self._graph.stem.proto, self._lowered(kept), self.precision)
        return OnnxRuntimeEngine(simulated, precision=self.precision, batch_range=self._source.batch, as_written=True)

    def _lowered(self, kept: Collection[str]) -> list[str]:
        return [name for name in self.layers if name not in kept]

    def costs(self) -> dict[str, float]:
        """Return the cost of lowering each node alone."""
        proto = self._graph.stem.proto
        emulation = Emulation(
            proto,
            half_points(proto, self.layers, self.precision),
            cast_rounding(HALVES[self.precision]),
            self._source.few,
            self._source.batch[0],
        )
        return _each(emulation, self.name, len(self.layers), self._source.progress)


class NncfRecipe:
    """INT8 for OpenVINO, with Intel's NNCF."""

    name = "int8-openvino"
    precision = "int8"
    dialect = "openvino"
    engines = readers_of("openvino")
    method = "nncf"
    proof = "openvino"
    timed = True

    def __init__(self, source: Source) -> None:
        self._source = source
        # onnxruntime's dialect has the same layers, with similar costs.
        self._twin = source.twin
        self._graph = source.graph(TENSORRT.opset, False)

    @property
    def layers(self) -> list[str]:
        """Names of the layers that can be lowered."""
        return self._twin.layers

    @cached_property
    def _outside(self) -> frozenset[str]:
        """Nodes that NNCF would also round without any gain: those that decode boxes."""
        model = ir.from_proto(self._graph.stem.proto)
        inner = inner_nodes(model)
        return frozenset(str(node.name) for node in model.graph if node not in inner)

    def make(self, kept: Collection[str]) -> bytes:
        """Return the ONNX file with all layers lowered except those kept."""
        inputs = self._source.calibration.inputs
        return quantize_with_nncf(self._graph.stem.proto, inputs, {*kept, *self._outside}, self._source.batch[0])

    def open(self, content: bytes, kept: Collection[str]) -> AsyncEngine:
        """Open in OpenVINO."""
        low = self._source.batch[0]
        return open_model(Candidate("openvino", "int8", self.name), content, (low, low))

    def costs(self) -> dict[str, float]:
        """Return the cost of lowering each layer alone."""
        return self._twin.costs()


def _each(emulation: Emulation, name: str, count: int, progress: Progress) -> dict[str, float]:
    progress(f"{name}: measuring the cost of each of {count} layers")
    try:
        return emulation.each()
    finally:
        emulation.close()


def make_recipe(source: Source, precision: str, target: str) -> Recipe:
    """Return the recipe for a precision on a target.

    Args:
        source: The bundle's source.
        precision: ``int8``, ``fp16``, ``bf16``, ``fp8`` or ``int4``.
        target: ``onnxruntime``, ``openvino`` or ``tensorrt``.

    Raises:
        EngineError: The target does not support the precision; the message names targets that do.
    """
    if precision in HALVES and target == "tensorrt":
        return CastRecipe(source, precision)
    if (precision, target) == ("int8", "openvino"):
        return NncfRecipe(source)
    if (precision, target) == ("int8", "onnxruntime"):
        return source.twin
    dialects = {
        ("int8", "tensorrt"): TENSORRT,
        ("fp8", "tensorrt"): TENSORRT_FP8,
        ("int4", "tensorrt"): TENSORRT_INT4,
    }
    if (precision, target) not in dialects:
        able = sorted({name for own, name in RECIPES if own == precision})
        raise EngineError(f"{target} does not support {precision}; these do: {', '.join(able) or 'none'}")
    return QdqRecipe(source, dialects[precision, target])


# Every precision with each of its targets.
RECIPES: tuple[tuple[str, str], ...] = (
    ("int8", "onnxruntime"),
    ("int8", "openvino"),
    ("int8", "tensorrt"),
    ("fp16", "tensorrt"),
    ("bf16", "tensorrt"),
    ("fp8", "tensorrt"),
    ("int4", "tensorrt"),
)
KNOWN = ", ".join(f"{precision} for {target}" for precision, target in RECIPES)
