"""Engines that take the camera's own frames and preprocess them on the accelerator, opened at the first frame."""

from __future__ import annotations

import threading
from dataclasses import replace

from edgebone.core.bundle import Bundle
from edgebone.core.errors import BundleError, EdgeboneError
from edgebone.core.manifest import FrameLayout
from edgebone.engines.on_device import keep_for_heads
from edgebone.engines.opening import open_engine
from edgebone.engines.protocol import AsyncEngine
from edgebone.engines.spec import Candidate
from edgebone.engines.table import find


class FrameEngines:
    """The bundle's frame variants for one candidate, selected by a frame's size and layout.

    Thread-safe.

    Args:
        bundle: An open bundle.
        candidate: The ordinary engine's candidate: these engines are opened the same way.
        wanted: Whether frames go into the graph; None for yes unless the engine is on the CPU, which is slower at it.

    Raises:
        BundleError: They are wanted, but the bundle has none for the candidate's variant.
    """

    def __init__(self, bundle: Bundle, candidate: Candidate, wanted: bool | None) -> None:
        self._bundle = bundle
        self._candidate = candidate
        found = {
            (item.size_hw, item.layout): name
            for name, item in bundle.manifest.frame_variants.items()
            if item.variant == candidate.variant
        }
        if wanted and not found:
            raise BundleError(
                f"{bundle.path}: variant {candidate.variant} takes no frames; add their size with: "
                f"edgebone add-frame {bundle.path} --variant {candidate.variant} --frame 1920x1080"
            )
        # The host's preprocessing takes 1 to 10 ms, and an engine on the CPU shares its cores: inside the graph it
        # takes two to six times as long.
        spec = find(candidate.engine)
        pays = spec is not None and not spec.on_cpu
        self._names = found if wanted or (wanted is None and pays) else {}
        self._opened: dict[str, AsyncEngine] = {}
        self._lock = threading.Lock()
        self.failures: list[str] = []

    def get(self, size_hw: tuple[int, int], layout: FrameLayout) -> AsyncEngine | None:
        """Return the engine for frames of this size; the first call opens it, which may take a while.

        Returns:
            The engine; None if there is none or it did not open: ``failures`` then says why.
        """
        name = self._names.get((size_hw, layout))
        if name is None:
            return None
        with self._lock:
            if name not in self._opened and name in self._names.values():
                try:
                    opened = open_engine(self._bundle, replace(self._candidate, variant=name))
                    keep_for_heads(opened, self._bundle.manifest)
                    self._opened[name] = opened
                except EdgeboneError as error:
                    # Not fatal: the host's preprocessing has the same result.
                    del self._names[size_hw, layout]
                    self.failures.append(f"frames of {size_hw[1]}x{size_hw[0]} {layout} into the graph: {error}")
            return self._opened.get(name)

    def close(self) -> None:
        """Free the engines; no frame is accepted afterwards."""
        with self._lock:
            self._names.clear()
            for engine in self._opened.values():
                engine.close()
            self._opened.clear()


def size_and_layout(shape: tuple[int, ...]) -> tuple[tuple[int, int], FrameLayout]:
    """Return a frame's size and layout: three axes are BGR, two are NV12, whose luma is two thirds of the rows.

    Any other shape has size (0, 0), which no frame variant has.
    """
    if len(shape) == 3:
        return (shape[0], shape[1]), "bgr"
    if len(shape) == 2 and shape[0] % 3 == 0:
        return (shape[0] * 2 // 3, shape[1]), "nv12"
    return (0, 0), "bgr"
