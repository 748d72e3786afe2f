"""Decides which detached heads run on which frame."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from edgebone.core.errors import BundleError
from edgebone.core.manifest import Manifest
from edgebone.core.near import did_you_mean


def check_rates(every: Mapping[str, int], manifest: Manifest) -> dict[str, int]:
    """Return how often each detached head runs: 1 by default.

    Args:
        every: By head: every N-th frame; 0 for on demand only.
        manifest: The bundle's manifest.

    Raises:
        BundleError: No such head, or it is part of the network's graph, which always runs whole.
    """
    for name, rate in every.items():
        head = manifest.heads.get(name)
        if head is None:
            hint = did_you_mean(name, manifest.heads)
            raise BundleError(f"there is no head {name}; {hint}the bundle has {', '.join(manifest.heads)}")
        if rate < 0:
            raise BundleError(
                f"head {name} runs on every frame (1), on every N-th (2, 3, …) or on demand (0), not {rate}"
            )
        if rate != 1 and not head.detached:
            raise BundleError(
                f"head {name} is part of the network's graph, which always runs whole; for a rate of its own "
                "attach it with `edgebone attach --detached`"
            )
    return {name: every.get(name, 1) for name, head in manifest.heads.items() if head.detached}


class HeadTurns:
    """The turns of the detached heads over one source's frames; thread-safe.

    For a live source a newer result replaces one that was not taken yet. A head that ran for the older result but not
    for the newer runs on every frame from then on, until the caller has received a result with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames = 0
        self._asked: set[str] = set()
        # By head, the last frame that it was due on, until a result since then is delivered.
        self._due: dict[str, int] = {}
        self._lost: set[str] = set()

    def ask(self, heads: Collection[str]) -> None:
        """Run heads on the next frame."""
        with self._lock:
            self._asked.update(heads)

    def next(self, every: Mapping[str, int]) -> tuple[int, list[str]]:
        """Return the number of the next frame and the heads that run on it.

        Args:
            every: By head: every N-th frame; 0 for on demand only.
        """
        with self._lock:
            number = self._frames
            self._frames += 1
            due = rates_due(every, number, self._asked)
            self._asked.difference_update(due)
            self._due.update(dict.fromkeys(due, number))
            return number, [name for name in every if name in due or name in self._lost]

    def replaced(self, heads: Collection[str], by: Collection[str]) -> None:
        """Record that a result with these heads was dropped for one with others."""
        with self._lock:
            self._lost.update(name for name in heads if name in self._due and name not in by)

    def delivered(self, number: int, heads: Collection[str]) -> None:
        """Record that the caller received a frame's result with these heads."""
        with self._lock:
            for name in heads:
                # A head that was due on a later frame, or requested since, is still pending.
                if self._due.get(name, number + 1) <= number:
                    del self._due[name]
                    self._lost.discard(name)


def rates_due(every: Mapping[str, int], count: int, asked: Collection[str] = ()) -> list[str]:
    """Return the heads that run on a source's frame number ``count``, from 0."""
    return [name for name, rate in every.items() if name in asked or (rate and count % rate == 0)]
