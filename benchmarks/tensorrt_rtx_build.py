"""Compile an ONNX file with TensorRT-RTX, which needs no GPU for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgebone.engines.tensorrt.builder import compile_engine
from edgebone.engines.tensorrt.settings import CompileSettings, Target


@dataclass(frozen=True)
class Built:
    """Size in bytes and compile time of an engine that was compiled and discarded."""

    size_bytes: int
    seconds: float


def build(path: str, capability: str = "SM86") -> Built:
    """Parse and compile for a GPU of one compute capability, with a dynamic batch of 1 to 4.

    Raises:
        EngineError: TensorRT rejects the graph; the message has its reason.
    """
    target = Target("tensorrt-rtx", (capability,))
    made = compile_engine(Path(path).read_bytes(), path, target, CompileSettings(), (1, 4))
    return Built(len(made.content), made.seconds)
