"""Which of the detached heads run on which frame."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from edgebone.core.errors import BundleError
from edgebone.core.manifest import Manifest
from edgebone.core.near import did_you_mean


def check_rates(every: Mapping[str, int], manifest: Manifest) -> dict[str, int]:
    """How often each detached head runs: 1 where nothing is said.

    Args:
        every: By head: one frame out of so many; 0 for on demand only.
        manifest: The bundle's manifest.

    Raises:
        BundleError: There is no such head, or it is part of the network's graph, which runs whole.
    """
    for name, rate in every.items():
        head = manifest.heads.get(name)
        if head is None:
            hint = did_you_mean(name, manifest.heads)
            raise BundleError(f"there is no head {name}; {hint}the bundle has {', '.join(manifest.heads)}")
        if rate < 0:
            raise BundleError(f"head {name} runs every frame (1), every so many (2, 3, …) or on demand (0), not {rate}")
        if rate != 1 and not head.detached:
            raise BundleError(
                f"head {name} is part of the network's graph, which runs whole; attached with `edgebone attach "
                "--detached` it would have a rate of its own"
            )
    return {name: every.get(name, 1) for name, head in manifest.heads.items() if head.detached}


class HeadTurns:
    """Whose turn it is of the detached heads, over one source's frames; may be asked from any thread.

    Of a live source a newer result takes the place of one that nobody took yet. A head that was on the older one and is
    not on the newer runs on every frame from then on, until the caller has got one with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames = 0
        self._asked: set[str] = set()
        # By head the last frame that it was due on, as long as no result since was delivered.
        self._due: dict[str, int] = {}
        self._lost: set[str] = set()

    def ask(self, heads: Collection[str]) -> None:
        """Have heads run on the next frame."""
        with self._lock:
            self._asked.update(heads)

    def next(self, every: Mapping[str, int]) -> tuple[int, list[str]]:
        """The number of the next frame, and the heads that run on it.

        Args:
            every: By head: one frame out of so many; 0 for on demand only.
        """
        with self._lock:
            number = self._frames
            self._frames += 1
            due = rates_due(every, number, self._asked)
            self._asked.difference_update(due)
            self._due.update(dict.fromkeys(due, number))
            return number, [name for name in every if name in due or name in self._lost]

    def replaced(self, heads: Collection[str], by: Collection[str]) -> None:
        """A result with these heads was dropped for one with others."""
        with self._lock:
            self._lost.update(name for name in heads if name in self._due and name not in by)

    def delivered(self, number: int, heads: Collection[str]) -> None:
        """The caller has a frame's result with these heads."""
        with self._lock:
            for name in heads:
                # One that was due on a later frame, or was asked for since, is still to come.
                if self._due.get(name, number + 1) <= number:
                    del self._due[name]
                    self._lost.discard(name)


def rates_due(every: Mapping[str, int], count: int, asked: Collection[str] = ()) -> list[str]:
    """The heads that run on a source's frame number ``count``, which begins with 0."""
    return [name for name, rate in every.items() if name in asked or (rate and count % rate == 0)]
