"""Measures unresponsiveness by a clock that stops while the process is suspended."""

from __future__ import annotations

from collections.abc import Callable

_WAKES = 60


class Watchdog:
    """Counts its own wake-ups instead of the time.

    After SIGSTOP, ``docker pause``, a debugger or a virtual machine's sleep every clock has advanced and time-outs have
    expired; but the watchdog has woken up only once.

    Args:
        limit_s: The limit of running time.

    Attributes:
        tick_s: The time between wake-ups.
    """

    def __init__(self, limit_s: float) -> None:
        self.tick_s = limit_s / _WAKES
        self._waits_for: int | None = None
        self._wakes = 0

    def wait(self, answers: Callable[[float], bool]) -> bool:
        """Wait for one thing.

        Args:
            answers: Waits for it for at most the given seconds; returns whether it is done.

        Returns:
            Whether it was done before the limit.
        """
        return any(answers(self.tick_s) for _ in range(_WAKES))

    def wake(self, waits_for: int | None) -> bool:
        """Record a wake-up.

        Args:
            waits_for: The number of the item being waited for; None for nothing.

        Returns:
            Whether the same item was waited for at each wake-up up to the limit.
        """
        self._wakes = self._wakes + 1 if waits_for == self._waits_for else 0
        self._waits_for = waits_for
        return waits_for is not None and self._wakes >= _WAKES
