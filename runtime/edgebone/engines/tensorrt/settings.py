"""The target and the settings of compiling."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgebone.core.errors import EngineError

HARDWARE_LEVELS = ("none", "ampere-plus", "same-compute-capability")


@dataclass(frozen=True)
class Target:
    """Where an engine will run.

    Attributes:
        name: ``tensorrt`` or ``tensorrt-rtx``.
        capabilities: Compute capabilities, such as ``SM86``, for TensorRT-RTX, which compiles for other GPUs. Empty for
            this machine's GPU.
    """

    name: str
    capabilities: tuple[str, ...] = ()

    def __str__(self) -> str:
        """``tensorrt-rtx:sm86,sm89``."""
        return self.name + (f":{','.join(self.capabilities).lower()}" if self.capabilities else "")


@dataclass(frozen=True)
class CompileSettings:
    """Settings of TensorRT's compiler.

    Attributes:
        workspace_mb: The limit of a kernel's memory at run time, in 1024² bytes; None leaves it to TensorRT, which may
            use all of the device's.
        level: 0 to 5: how long to search for fast kernels; None leaves it to TensorRT (3).
        version_compatible: Whether later versions of TensorRT can load the engine.
        hardware: One of ``HARDWARE_LEVELS``: which other GPUs can load the engine.
        dla_core: The deep learning accelerator to use, with the GPU as fallback; None for the GPU alone.
    """

    workspace_mb: int | None = None
    level: int | None = None
    version_compatible: bool = False
    hardware: str = "none"
    dla_core: int | None = None

    def __post_init__(self) -> None:
        """Reject values that no TensorRT supports."""
        if self.workspace_mb is not None and self.workspace_mb < 1:
            raise EngineError(f"a workspace must be 1 MB or more, not {self.workspace_mb}")
        if self.level is not None and not 0 <= self.level <= 5:
            raise EngineError(f"the builder's level must be 0 to 5, not {self.level}")
        if self.hardware not in HARDWARE_LEVELS:
            raise EngineError(f"hardware compatibility must be {' or '.join(HARDWARE_LEVELS)}, not {self.hardware!r}")
        if self.dla_core is not None and self.dla_core < 0:
            raise EngineError(f"a DLA core must be 0 or more, not {self.dla_core}")


def parse_target(text: str) -> Target:
    """Parse ``tensorrt``, ``tensorrt-rtx`` or ``tensorrt-rtx:sm86,sm89``.

    Raises:
        EngineError: The target takes no compute capabilities, or they are invalid.
    """
    name, colon, rest = text.partition(":")
    capabilities = tuple(dict.fromkeys(item.strip().upper() for item in rest.split(","))) if colon else ()
    if capabilities and name != "tensorrt-rtx":
        raise EngineError(f"{name} compiles only for this device; tensorrt-rtx:sm86 compiles for others")
    wrong = [item for item in capabilities if not re.fullmatch(r"SM\d{2,3}", item)]
    if wrong:
        raise EngineError(f"a compute capability is written sm86, not {wrong[0].lower() or 'nothing'!r}")
    return Target(name, capabilities)
