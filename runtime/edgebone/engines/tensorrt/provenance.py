"""Everything that a compiled engine depends on: it is rebuilt if anything differs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from edgebone.core.machine import Machine
from edgebone.engines.tensorrt.settings import CompileSettings, Target


def provenance_of(
    trt: Any, onnx_sha256: str, target: Target, settings: CompileSettings, batch: tuple[int, int], machine: Machine
) -> dict[str, str]:
    """Return the provenance of an engine compiled here and now.

    Args:
        trt: TensorRT's module.
        onnx_sha256: The ONNX file's hash.
        target: The target.
        settings: How.
        batch: Smallest and largest batch.
        machine: The machine.
    """
    here = not target.capabilities
    return {
        "backend": target.name,
        "version": str(trt.__version__),
        "onnx_sha256": onnx_sha256,
        "batch": f"{batch[0]}-{batch[1]}",
        # An engine compiled for named GPUs does not depend on this machine's.
        "gpu": ",".join(machine.gpus) or machine.jetson if here else ",".join(sorted(target.capabilities)),
        "driver": machine.driver if here else "",
        "l4t": machine.l4t if here else "",
        "system": f"{machine.system.split()[0]} {machine.arch}",
        "workspace_mb": str(settings.workspace_mb),
        "level": str(settings.level),
        "version_compatible": str(settings.version_compatible),
        "hardware": settings.hardware,
        "dla_core": str(settings.dla_core),
    }


def key_of(provenance: Mapping[str, str]) -> str:
    """Return an engine's key: a hash of exactly its provenance."""
    return hashlib.sha256(msgspec.json.encode(sorted(provenance.items()))).hexdigest()[:16]


def differences(made: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the differences, in words; empty if there are none."""
    return [
        f"{name} was {made.get(name) or 'unknown'}, is {now.get(name) or 'unknown'}"
        for name in sorted({*made, *now})
        if made.get(name) != now.get(name)
    ]
