"""Compiles an ONNX file with TensorRT-RTX, which needs no GPU for it."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Built:
    """An engine that was compiled, and thrown away: its size in bytes, and how long it took."""

    size_bytes: int
    seconds: float


def build(path: str, capability: str = "SM86") -> Built:
    """Parse and compile for a GPU of one compute capability.

    Raises:
        RuntimeError: TensorRT refuses the graph; says why.
    """
    import tensorrt_rtx as trt

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: object, message: str) -> None:
            # Without a driver it also complains about that, which stops nothing.
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR) and "cudaError" not in message:
                self.errors.append(message)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    started = time.monotonic()
    if not parser.parse_from_file(path):
        problems = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise RuntimeError(f"{path}: TensorRT-RTX cannot read it: {problems[0] if problems else log.errors}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    value = network.get_input(0)
    if value.shape[0] == -1:
        profile = builder.create_optimization_profile()
        rest = tuple(value.shape)[1:]
        profile.set_shape(value.name, (1, *rest), (2, *rest), (4, *rest))
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RuntimeError(f"{path}: TensorRT-RTX cannot compile it: {log.errors}")
    return Built(len(bytes(engine)), round(time.monotonic() - started, 2))
