"""Tensors that stay on the device between a backbone and the heads behind it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol, runtime_checkable

import numpy as np

from edgebone.core.manifest import Manifest
from edgebone.core.tensors import Array
from edgebone.engines.protocol import AsyncEngine


@runtime_checkable
class KeepsOnDevice(Protocol):
    """An engine that can leave outputs on the device, and take inputs that another engine left there."""

    def keep(self, names: Collection[str]) -> None:
        """Leave these outputs on the device from now on: each is a :class:`DeviceTensor` instead of an array.

        Args:
            names: Outputs. An engine on the CPU returns arrays as before.
        """


class DeviceTensor:
    """An output in the device's memory; ``np.asarray`` copies it to the host.

    Attributes:
        value: The engine's own handle.
        shape: The array's shape.
        dtype: The array's dtype.
    """

    def __init__(self, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.value = value
        self.shape = shape
        self.dtype = dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Copy it to the host."""
        return np.asarray(self.value.numpy(), dtype)


def keep_for_heads(engine: AsyncEngine, manifest: Manifest) -> None:
    """Make a backbone's engine leave outputs that only detached heads read on the device, if it can."""
    kept = _read_behind(manifest)
    if kept and isinstance(engine, KeepsOnDevice):
        engine.keep(kept)


def _read_behind(manifest: Manifest) -> frozenset[str]:
    """Return the network's outputs that only detached heads read."""
    detached = {name for name, head in manifest.heads.items() if head.detached}
    own = {output for name, head in manifest.heads.items() if name not in detached for output in head.outputs}
    return frozenset(tap.output for tap in manifest.taps.values() if detached and tap.output) - own
