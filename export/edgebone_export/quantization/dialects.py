"""Dialects of quantization: the form that each engine computes fast and correctly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from edgebone.engines.table import readers_of

# Operators with weights are worth lowering.
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# These move values without computing: one scale holds before and after.
MOVING = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten", "Gather", "Resize"}
)
# These clip, which an integer's range does for free.
CLIPPING = frozenset({"Clip", "Relu"})


@dataclass(frozen=True)
class Dialect:
    """How scales are chosen and where they are written.

    Attributes:
        name: Name in the manifest.
        precision: ``int8``, ``fp8`` or ``int4``.
        engines: Engines that read it.
        activation: Type of activations; None leaves them in FP32.
        weight: Type of weights.
        symmetric: Whether activations have a zero-point of 0.
        ops: Operators to lower.
        outputs: Whether an operator's output is quantized directly after it, so that its integer kernel fuses.
        bias: Whether the bias is quantized too.
        opset: The oldest opset that can express it.
    """

    name: str
    precision: str
    engines: tuple[str, ...]
    activation: ir.DataType | None
    weight: ir.DataType
    symmetric: bool
    ops: frozenset[str]
    outputs: bool
    bias: bool
    opset: int


# onnxruntime's kernels on x86 multiply uint8 by int8; int8 by int8 takes three times as long. An operator becomes an
# integer kernel only with quantized inputs and outputs and an int32 bias.
ONNXRUNTIME = Dialect(
    name="onnxruntime",
    precision="int8",
    engines=readers_of("onnxruntime"),
    activation=ir.DataType.UINT8,
    weight=ir.DataType.INT8,
    symmetric=False,
    ops=(WEIGHTED - {"ConvTranspose"})
    | MOVING
    | CLIPPING
    | {"Add", "Mul", "Sigmoid", "LeakyRelu", "AveragePool", "GlobalAveragePool", "Concat", "Softmax"},
    outputs=True,
    bias=True,
    opset=13,
)

# TensorRT takes int8 by int8 with zero-points of 0 only. It fuses the operators after a convolution itself: scales go
# before operators with weights, and on the branch of a residual addition that no convolution computes. Its bias is
# FP32. (NVIDIA, "Working with quantized types", TensorRT documentation.)
TENSORRT = Dialect(
    name="tensorrt",
    precision="int8",
    engines=readers_of("tensorrt"),
    activation=ir.DataType.INT8,
    weight=ir.DataType.INT8,
    symmetric=True,
    ops=WEIGHTED | {"Add"},
    outputs=False,
    bias=False,
    opset=13,
)

# For GPUs with FP8 (compute capability 8.9 and later).
TENSORRT_FP8 = replace(
    TENSORRT,
    precision="fp8",
    activation=ir.DataType.FLOAT8E4M3FN,
    weight=ir.DataType.FLOAT8E4M3FN,
    ops=frozenset({"Gemm", "MatMul"}),
    opset=19,
)

# Weights only, in blocks: for networks that are bound by reading them.
TENSORRT_INT4 = replace(TENSORRT_FP8, precision="int4", activation=None, weight=ir.DataType.INT4, opset=21)
