"""Export a fitted PyTorch module on maps to a head's ONNX graph, and verify it against the module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from edgebone.core.compare import HEAD, compare, comparison_of, fault, nearest_score, values_within
from edgebone.core.tensors import Array, TensorSpec
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone_export.errors import ParityError
from edgebone_export.graphs.passes.fold_constants import FoldConstants
from edgebone_export.graphs.passes.slim import Slim
from edgebone_export.graphs.trace import BATCH, write_onnx
from edgebone_export.heads.maps.feature_maps import Maps, finest_first, read

# One picture, as from a camera, and several; never the two that the graph was traced with.
_PROVED_BATCHES = (1, 3)


@dataclass(frozen=True)
class DenseGraph:
    """A head's graph.

    Attributes:
        content: The ONNX file.
        outputs: Outputs of the graph, in order.
    """

    content: bytes
    outputs: tuple[TensorSpec, ...]


def write_graph(net: nn.Module, maps: Maps, outputs: Sequence[str], box_score: float | None = None) -> DenseGraph:
    """Write a module as ONNX with batch norms folded, and verify the file in onnxruntime.

    Args:
        net: Takes the maps of every tap, finest first, as float32 (batch, channels, height, width) each; returns a
            tensor or a tuple of tensors. It is set to eval mode.
        maps: Maps by tap; the graph is verified on the first rows.
        outputs: Names of the module's outputs.
        box_score: For a module that returns boxes: the score threshold for shown boxes.

    Raises:
        ExportError: torch cannot export the module.
        ParityError: The graph does not match the module.
    """
    net = net.eval().requires_grad_(False)
    taps = finest_first(maps)
    # torch.export treats sizes 0 and 1 as constants, so the dynamic batch is traced with another size.
    example = tuple(item.contiguous() for item in read(maps, [0, 0]))
    free = tuple({0: torch.export.Dim(BATCH)} for _ in taps)
    _, model = write_onnx(net, example, (free,), taps, outputs, "the head")
    model = Slim(0).apply(FoldConstants(0).apply(model))
    specs = _name_batch(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    _prove(content, net, maps, outputs, box_score)
    return DenseGraph(content, specs)


def _name_batch(model: ir.Model) -> tuple[TensorSpec, ...]:
    """Name the dynamic axis ``batch`` in inputs and outputs, where torch numbers its symbols; return the outputs."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        assert value.shape is not None, "torch.export knows the shape of inputs and outputs"
        value.shape = ir.Shape([BATCH, *value.shape[1:]])
    specs = []
    for value in model.graph.outputs:
        assert value.shape is not None and value.dtype is not None, "the shape was set above"
        sizes = [size for size in value.shape[1:] if isinstance(size, int)]
        assert len(sizes) == len(value.shape) - 1, f"only the batch of {value.name} is dynamic"
        specs.append(TensorSpec(str(value.name), value.dtype.numpy().name, (BATCH, *sizes)))
    return tuple(specs)


def _prove(content: bytes, net: nn.Module, maps: Maps, outputs: Sequence[str], box_score: float | None) -> None:
    with OnnxRuntimeEngine(content) as engine:
        for batch in _PROVED_BATCHES:
            rows = np.arange(batch) % len(next(iter(maps.values())))
            taken = read(maps, rows)
            feeds = zip(finest_first(maps), taken, strict=True)
            given = engine.run({tap: item.contiguous().numpy() for tap, item in feeds})
            for name, wanted in zip(outputs, run(net, taken), strict=True):
                _compare(given[name], wanted.numpy(), box_score, f"output {name}, batch {batch}")


def run(net: nn.Module, taken: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Run a module in eval mode without gradients; always returns a tuple of outputs."""
    net.eval()
    with torch.inference_mode():
        given = net(*taken)
    return tuple(given) if isinstance(given, (tuple, list)) else (given,)


def _compare(have: Array, wanted: Array, box_score: float | None, where: str) -> None:
    """Compare the graph's output with the module's: boxes are matched, classes counted, numbers compared."""
    if have.shape != wanted.shape:
        raise ParityError(f"{where}: expected shape {list(wanted.shape)}, found {list(have.shape)}")
    for row in range(len(wanted)):
        given, fitted = have[row : row + 1], wanted[row : row + 1]
        if box_score is None:
            found = compare(given, fitted, comparison_of(None, fitted.dtype), HEAD)
        else:
            found = compare(given, fitted, "boxes", HEAD, nearest_score(fitted, box_score))
        wrong = fault(found, HEAD)
        if wrong:
            raise ParityError(f"{where}: the graph differs from the fitted module: {wrong}")
        if not values_within(found, HEAD):
            raise ParityError(
                f"{where}: the graph differs from the fitted module by {found.max_abs:.3g}; the tolerance is "
                f"{HEAD.max_abs:g}, times the largest value if that is above one"
            )
