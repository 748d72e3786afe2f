"""The table rows of TensorRT, for data-centre GPUs and Jetsons, and of TensorRT-RTX, for desktop GPUs."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from edgebone.engines.spec import Candidate, EngineSpec, Fit, Reject, TritonBackend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgebone.core.machine import Machine
    from edgebone.core.manifest import Variant

# The modules that load engines; the first also compiles them. The lean runtime and the dispatcher only load.
RUNTIMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"tensorrt": ("tensorrt", "tensorrt_lean", "tensorrt_dispatch"), "tensorrt-rtx": ("tensorrt_rtx",)}
)
_OPEN = "edgebone.engines.tensorrt.engine:open_tensorrt"
_COMPILE = "edgebone.engines.tensorrt.compile:compile_target"
_SETTINGS = frozenset({"workspace_mb", "level", "timing_cache", "version_compatible", "hardware", "dla_core"})


def _packages(engine: str) -> dict[str, tuple[str, ...]]:
    found = {name: (name, f"{name}-cu13", f"{name}-cu12") for name in RUNTIMES[engine]}
    return {**found, "cuda.bindings": ("cuda-bindings",)}


def _check(candidate: Candidate, machine: Machine, variant: Variant | None) -> Fit | Reject:
    if not (machine.gpus or machine.jetson):
        return Reject(candidate, "this machine has no NVIDIA GPU")
    if candidate.engine == "tensorrt-rtx" and machine.jetson:
        return Reject(candidate, "it is for desktop GPUs from Turing (SM75) on; a Jetson has tensorrt")
    found = next((name for name in RUNTIMES[candidate.engine] if name in machine.packages), None)
    if found is None:
        how = "it comes with JetPack" if machine.jetson else f'pip install "edgebone[{candidate.engine}]"'
        return Reject(candidate, f"{RUNTIMES[candidate.engine][0]} is not installed: {how}")
    if "cuda.bindings" not in machine.packages:
        return Reject(candidate, 'cuda.bindings is not installed: pip install "cuda-python>=12"')
    return Fit(candidate, f"{found} {machine.packages[found]} on {', '.join(machine.gpus) or machine.jetson}")


TENSORRT = EngineSpec(
    name="tensorrt",
    packages=_packages("tensorrt"),
    on_cpu=False,
    rank=lambda _: 10,
    check=_check,
    open=_OPEN,
    compile=_COMPILE,
    compile_settings=_SETTINGS,
    compiles_for_minutes=True,
    may_skip_file=True,
    dialects=("tensorrt",),
    triton=TritonBackend("KIND_GPU", compiled=True),
    aliases=("gpu", "cuda", "cuda:0", "gpu:0", "0", "trt", "engine"),
)

TENSORRT_RTX = EngineSpec(
    name="tensorrt-rtx",
    packages=_packages("tensorrt-rtx"),
    on_cpu=False,
    rank=lambda _: 20,
    check=_check,
    open=_OPEN,
    compile=_COMPILE,
    compile_settings=_SETTINGS,
    compiles_for_minutes=True,
    may_skip_file=True,
    dialects=("tensorrt",),
)
