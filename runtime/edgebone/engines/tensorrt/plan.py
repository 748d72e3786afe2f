"""Finds the engine for this device: in the bundle, in the user's cache, or by compiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgebone.core.bundle import Bundle
from edgebone.core.machine import Machine
from edgebone.engines.tensorrt.compile import cached_engine, may_run
from edgebone.engines.tensorrt.cuda import Device
from edgebone.engines.tensorrt.provenance import differences, provenance_of
from edgebone.engines.tensorrt.runtime import import_runtime
from edgebone.engines.tensorrt.settings import CompileSettings, Target

# The user's choices when compiling: the engine runs regardless of them.
_SETTINGS = frozenset({"workspace_mb", "level", "version_compatible", "hardware", "dla_core"})
_DEVICE = frozenset({"gpu", "driver", "l4t"})


@dataclass(frozen=True)
class EnginePlan:
    """An engine, and what is needed to load it.

    Attributes:
        content: Its bytes.
        host_code: Whether it contains code that runs on the host.
        dla_core: The deep learning accelerator that it was compiled for; None for the GPU.
    """

    content: bytes
    host_code: bool = False
    dla_core: int | None = None


def plan_for(
    bundle: Bundle, variant: str, target: str, device: Device, machine: Machine, notice: Callable[[str], None]
) -> EnginePlan:
    """The engine for this device.

    The bundle's engine is used if everything that it depends on matches; one compiled for a kind of GPU (``--target
    tensorrt-rtx:sm86``), for several (``--hardware``), or also for later versions (``--version-compatible``) depends on
    less. Otherwise it comes from the user's cache, or is compiled now.

    Args:
        bundle: An open bundle.
        variant: The variant's name.
        target: ``tensorrt`` or ``tensorrt-rtx``.
        device: The GPU.
        machine: The machine.
        notice: Called with a line before compiling, which may take minutes, with the reason.

    Raises:
        MissingDependencyError: The runtime, or a required compiler, is not installed.
        EngineError: TensorRT cannot compile it.
    """
    item = bundle.manifest.graph(variant)
    sha256 = bundle.manifest.files[item.file].sha256
    here = provenance_of(import_runtime(target), sha256, Target(target), CompileSettings(), item.batch, machine)
    fits = [
        record
        for record in bundle.manifest.engines.values()
        if (record.target, record.variant) == (target, variant) and _fits(record.provenance, here, device)
    ]
    brings_code = [record for record in fits if not may_run(bundle.manifest, record)]
    if brings_code:
        notice(
            f"{bundle.path}, variant {variant}: its version-compatible engine contains code that runs on the host, and "
            "was not compiled by you on this device; it is not used"
        )
        fits = [record for record in fits if record not in brings_code]
    # The GPU before a DLA, which only offloads it.
    fits.sort(key=lambda record: record.provenance["dla_core"] != "None")
    if not fits:
        return EnginePlan(cached_engine(bundle, variant, Target(target), notice=notice))
    made = fits[0].provenance
    return EnginePlan(
        bundle.read(fits[0].file),
        host_code=made["version_compatible"] == "True",
        dla_core=None if made["dla_core"] == "None" else int(made["dla_core"]),
    )


def _fits(made: Mapping[str, str], here: Mapping[str, str], device: Device) -> bool:
    ignored = set(_SETTINGS)
    if made.get("version_compatible") == "True":
        ignored.add("version")
    kind = f"SM{device.capability[0]}{device.capability[1]}"
    if made.get("hardware") != "none" or kind in made.get("gpu", "").split(","):
        ignored |= _DEVICE
    return not differences(
        {name: value for name, value in made.items() if name not in ignored},
        {name: value for name, value in here.items() if name not in ignored},
    )
