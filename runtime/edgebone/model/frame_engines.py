"""Engines that take the camera's own frames and preprocess them on the accelerator, opened when the first comes."""

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
    """The bundle's frame variants of one candidate; a frame's size and layout say which is meant.

    May be used from several threads at once.

    Args:
        bundle: An open bundle.
        candidate: What the ordinary engine was opened with: these are opened with the same.
        wanted: Whether frames go into the graph; None where the engine is not on the CPU, which is slower at it.

    Raises:
        BundleError: They are wanted, and the bundle has none of the candidate's variant.
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
        """The engine for frames of this size, opened at the first call, which may take a while.

        Returns:
            None where there is none, or where it did not open: ``failures`` then says why.
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
                    # The host's preprocessing leads to the same result: no reason to stop.
                    del self._names[size_hw, layout]
                    self.failures.append(f"frames of {size_hw[1]}x{size_hw[0]} {layout} into the graph: {error}")
            return self._opened.get(name)

    def close(self) -> None:
        """Free the engines; no frame is taken any more."""
        with self._lock:
            self._names.clear()
            for engine in self._opened.values():
                engine.close()
            self._opened.clear()


def size_and_layout(shape: tuple[int, ...]) -> tuple[tuple[int, int], FrameLayout]:
    """What a frame's array is: three axes are BGR, two are NV12, whose luma is two thirds of the rows.

    Of another shape no frame variant is: its size is (0, 0).
    """
    if len(shape) == 3:
        return (shape[0], shape[1]), "bgr"
    if len(shape) == 2 and shape[0] % 3 == 0:
        return (shape[0] * 2 // 3, shape[1]), "nv12"
    return (0, 0), "bgr"
