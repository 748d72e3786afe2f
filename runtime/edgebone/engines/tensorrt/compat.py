"""Differences between TensorRT 10.3 to 11.4 and TensorRT-RTX, detected by features, never by version numbers.

TensorRT itself has not been run by this project: its libraries need a GPU. TensorRT-RTX compiles without one, through
the same code.
"""

from __future__ import annotations

import importlib
from typing import Any

from edgebone.core.errors import EngineError, missing, raise_interrupt
from edgebone.engines.tensorrt.settings import CompileSettings, Target
from edgebone.engines.tensorrt.spec import RUNTIMES


def import_tensorrt(target: Target) -> Any:
    """Import the Python module of a target.

    Raises:
        MissingDependencyError: It is not installed.
        EngineError: It is installed but its libraries do not load.
    """
    name = RUNTIMES[target.name][0]
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing(name, target.name, f"compiling for {target.name}") from error
    except (ImportError, OSError) as error:
        raise_interrupt(error)
        line = str(error).strip().split("\n", 1)[0]
        raise EngineError(f"{name} is installed but cannot be imported: {line}") from error
    if not hasattr(module, "Builder"):
        # Only type stubs, or a lean runtime, which loads engines but cannot build them.
        raise missing(name, target.name, f"compiling for {target.name}")
    return module


def network_flags(trt: Any) -> int:
    """Return the flags of a strongly typed network: an option in TensorRT 10, the only kind in 11."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def configure(trt: Any, builder: Any, config: Any, target: Target, settings: CompileSettings) -> None:
    """Set up a builder's configuration.

    Raises:
        EngineError: This TensorRT or this device does not support a setting.
    """
    if hasattr(trt.BuilderFlag, "TF32"):
        # TF32 is on by default and rounds FP32 factors to ten bits.
        config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt, "ProfilingVerbosity"):
        # Layers keep their names, for readable profiles.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if settings.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mb << 20)
    if settings.level is not None:
        config.builder_optimization_level = settings.level
    if settings.version_compatible:
        if not hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE"):
            raise EngineError(f"this {target.name} has no version compatibility; leave --version-compatible out")
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.hardware != "none":
        _set_hardware_level(trt, config, target, settings.hardware)
    if target.capabilities:
        _set_capabilities(trt, config, target)
    if settings.dla_core is not None:
        _use_dla(trt, builder, config, target, settings.dla_core)


def _set_hardware_level(trt: Any, config: Any, target: Target, level: str) -> None:
    known = getattr(trt, "HardwareCompatibilityLevel", None)
    found = getattr(known, level.upper().replace("-", "_"), None)
    if found is not None:
        config.hardware_compatibility_level = found
    # TensorRT-RTX has the names but does not accept them.
    if found is None or config.hardware_compatibility_level != found:
        instead = "; name the GPUs, as tensorrt-rtx:sm86,sm89" if hasattr(config, "set_compute_capability") else ""
        raise EngineError(f"this {target.name} has no hardware compatibility {level}{instead}")


def _set_capabilities(trt: Any, config: Any, target: Target) -> None:
    if not hasattr(config, "set_compute_capability"):
        raise EngineError(f"this {target.name} compiles only for this device")
    known = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
    unknown = [name for name in target.capabilities if name not in known]
    if unknown:
        raise EngineError(f"this {target.name} does not know {unknown[0].lower()}, only {', '.join(known).lower()}")
    config.num_compute_capabilities = len(target.capabilities)
    for index, name in enumerate(target.capabilities):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), index)


def _use_dla(trt: Any, builder: Any, config: Any, target: Target, core: int) -> None:
    cores = int(getattr(builder, "num_DLA_cores", 0))
    if core >= cores:
        have = f"has {cores} DLA cores" if cores else "has no DLA"
        raise EngineError(f"{target.name} on this device {have}; leave --dla out to compile for the GPU")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    # Without it one operator that the DLA lacks would stop the build.
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def default_capability(trt: Any, config: Any, target: Target) -> Target:
    """Return the target: TensorRT-RTX compiles for this machine's GPU by default; without one it needs a capability.

    Raises:
        EngineError: No GPU, and no compute capability was given.
    """
    if target.name != "tensorrt-rtx" or target.capabilities or not hasattr(config, "set_compute_capability"):
        return target
    from edgebone.core.machine import Machine

    if Machine.probe().gpus:
        return target
    known = [name.lower() for name in dir(trt.ComputeCapability) if name.startswith("SM")]
    raise EngineError(
        f"this machine has no GPU to compile for: name one, as in --target tensorrt-rtx:sm86 ({', '.join(known)})"
    )
