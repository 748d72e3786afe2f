"""How long something has not answered, by a clock that stands still while the process does."""

from __future__ import annotations

from collections.abc import Callable

_WAKES = 60


class Watchdog:
    """Counts its own wake-ups instead of the time.

    After SIGSTOP, ``docker pause``, a debugger or a virtual machine's sleep every clock has gone on, and whatever
    waits finds its time-out over; but it has woken up once.

    Args:
        limit_s: How long is too long, of a process that runs.

    Attributes:
        tick_s: From one wake-up to the next.
    """

    def __init__(self, limit_s: float) -> None:
        self.tick_s = limit_s / _WAKES
        self._waits_for: int | None = None
        self._wakes = 0

    def wait(self, answers: Callable[[float], bool]) -> bool:
        """Wait for one thing.

        Args:
            answers: Waits for it so many seconds at most; returns whether it is there.

        Returns:
            Whether it came before the limit.
        """
        return any(answers(self.tick_s) for _ in range(_WAKES))

    def wake(self, waits_for: int | None) -> bool:
        """Note a wake-up.

        Args:
            waits_for: A number of what is waited for now; None for nothing.

        Returns:
            Whether the same thing was waited for at each wake-up up to the limit.
        """
        self._wakes = self._wakes + 1 if waits_for == self._waits_for else 0
        self._waits_for = waits_for
        return waits_for is not None and self._wakes >= _WAKES
