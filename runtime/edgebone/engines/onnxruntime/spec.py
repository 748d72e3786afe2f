"""The table rows of onnxruntime's engines: on the CPU, on CUDA, and through its TensorRT provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgebone.engines.spec import Candidate, EngineSpec, Fit, Reject, TritonBackend

if TYPE_CHECKING:
    from edgebone.core.machine import Machine
    from edgebone.core.manifest import Variant

_OPEN = "edgebone.engines.onnxruntime.engine:open_onnxruntime"
_PACKAGES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}
_TITLES = {"cuda": "CUDA", "tensorrt": "TensorRT"}


def device_of(engine: str) -> str:
    """Return the device of an engine of this family: ``cpu``, ``cuda`` or ``tensorrt``."""
    return engine.partition("-")[2] or "cpu"


def _check_cpu(candidate: Candidate, machine: Machine, variant: Variant | None) -> Fit | Reject:
    if "onnxruntime" not in machine.packages:
        return Reject(candidate, 'onnxruntime is not installed: pip install "edgebone[cpu]"')
    return Fit(candidate, f"onnxruntime {machine.packages['onnxruntime']} on {machine.arch}")


def _check_gpu(candidate: Candidate, machine: Machine, variant: Variant | None) -> Fit | Reject:
    provider = device_of(candidate.engine)
    if "onnxruntime" not in machine.packages:
        return Reject(candidate, 'onnxruntime is not installed: pip install "edgebone[gpu]"')
    if not (machine.gpus or machine.jetson):
        return Reject(candidate, "this machine has no NVIDIA GPU")
    if provider not in machine.onnxruntime_providers:
        return Reject(
            candidate,
            f"the installed onnxruntime has no {_TITLES[provider]} provider: "
            'pip uninstall onnxruntime && pip install "edgebone[gpu]"',
        )
    # onnxruntime-gpu includes the provider, but not the library that it loads.
    if provider == "tensorrt" and "tensorrt" not in machine.packages:
        return Reject(candidate, 'tensorrt is not installed: pip install "edgebone[tensorrt]"')
    rounded = "; FP32 factors are rounded to TF32 from Ampere on" if provider == "tensorrt" else ""
    return Fit(candidate, f"onnxruntime {machine.packages['onnxruntime']} on {machine.arch}{rounded}")


ONNXRUNTIME = EngineSpec(
    name="onnxruntime",
    packages=_PACKAGES,
    on_cpu=True,
    rank=lambda _: 60,
    check=_check_cpu,
    open=_OPEN,
    dialects=("onnxruntime",),
    triton=TritonBackend(),
    aliases=("cpu", "intel", "ort", "onnx"),
)

ONNXRUNTIME_CUDA = EngineSpec(
    name="onnxruntime-cuda",
    packages=_PACKAGES,
    on_cpu=False,
    rank=lambda _: 40,
    check=_check_gpu,
    open=_OPEN,
    aliases=("gpu", "cuda", "cuda:0", "gpu:0", "0"),
)

ONNXRUNTIME_TENSORRT = EngineSpec(
    name="onnxruntime-tensorrt",
    packages=_PACKAGES,
    on_cpu=False,
    rank=lambda _: 30,
    check=_check_gpu,
    open=_OPEN,
    compiles_for_minutes=True,
)
