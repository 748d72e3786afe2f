"""Quantize to INT8 for OpenVINO with Intel's Neural Network Compression Framework (NNCF)."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgebone.core.errors import missing, raise_interrupt
from edgebone.engines.batches import in_batches
from edgebone_export.errors import ExportError


def quantize_with_nncf(
    proto: onnx.ModelProto, inputs: NDArray[np.uint8], kept: Collection[str], batch: int = 1
) -> bytes:
    """Quantize an FP32 graph with NNCF's fast bias correction.

    The result is ONNX: OpenVINO runs it as fast as its own format or faster, and a bundle has one format.

    Args:
        proto: The graph; not changed.
        inputs: Calibration pictures, uint8 (n, height, width, 3).
        kept: Names of nodes to leave in FP32.
        batch: Pictures per run.

    Raises:
        MissingDependencyError: nncf is not installed.
        ExportError: NNCF cannot quantize the graph.
    """
    # nncf imports torch if installed, which then warns about a missing GPU.
    logging.getLogger("torch").setLevel(logging.ERROR)
    try:
        import nncf
    except ModuleNotFoundError as error:
        raise missing("nncf", "quantize", "INT8 for OpenVINO") from error
    # Not with nncf.set_log_level, which also changes the levels of its handlers.
    logging.getLogger("nncf").setLevel(logging.CRITICAL)
    name = proto.graph.input[0].name
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    pictures = in_batches(inputs, batch)
    options: dict[str, Any] = {"subset_size": len(pictures)}
    if kept:
        options["ignored_scope"] = nncf.IgnoredScope(names=sorted(kept), validate=False)
    if any(node.op_type == "Softmax" for node in proto.graph.node) and any(
        node.op_type == "LayerNormalization" for node in proto.graph.node
    ):
        options["model_type"] = nncf.ModelType.TRANSFORMER
    try:
        # nncf draws progress bars on stdout.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = nncf.quantize(copy, nncf.Dataset(pictures, lambda one: {name: one}), **options)
    except Exception as error:
        raise_interrupt(error)
        line = (str(error).strip() or type(error).__name__).split("\n", 1)[0]
        raise ExportError(f"NNCF cannot quantize the network: {line}") from error
    content: bytes = made.SerializeToString()
    return content
