"""Detects other load on a machine during a measurement: figures from a busy machine mean little."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

# An idle desktop stays below these.
_OTHERS_CORES, _STOLEN, _HELD_S = 0.25, 0.02, 0.05


class Disturbed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Other load on a machine during a measurement.

    Attributes:
        cores: The number of cores.
        others_cores: The number of cores that other processes kept busy, on average.
        stolen: The share of the cores' time that the hypervisor gave to other machines, 0 to 1.
        throttled: How often a core was throttled because of heat.
        held_s: How long the container's limit of CPU time stopped its processes, in seconds.
    """

    cores: int
    others_cores: float
    stolen: float
    throttled: int
    held_s: float

    @property
    def is_quiet(self) -> bool:
        """Whether none of it matters."""
        return not self._reasons()

    def __str__(self) -> str:
        """``other processes kept 1.4 of 2 cores busy`` and further reasons; empty if it was quiet."""
        return ", ".join(self._reasons())

    def _reasons(self) -> list[str]:
        reasons = []
        if self.others_cores > _OTHERS_CORES:
            reasons.append(f"other processes kept {self.others_cores:.1f} of {self.cores} cores busy")
        if self.stolen > _STOLEN:
            reasons.append(f"the hypervisor took {100 * self.stolen:.0f} % of the cores' time")
        if self.throttled:
            reasons.append(f"cores were throttled by heat {self.throttled} times")
        if self.held_s > _HELD_S:
            reasons.append(f"the container's limit of CPU time stopped its processes for {self.held_s:.1f} s")
        return reasons


@dataclass(frozen=True)
class _Counted:
    at_s: float
    own_s: float
    busy_s: float
    stolen_s: float
    throttled: int
    held_s: float


class Watch:
    """Counts the machine's other load from its creation on.

    Args:
        root: The root of the system's files.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._before = self._count()

    def until_now(self) -> Disturbed | None:
        """Return the other load so far; None if the system does not report it (not Linux) or no time has passed.

        Child processes count as own load once they have been waited for.
        """
        before, after = self._before, self._count()
        if before is None or after is None or after.at_s <= before.at_s:
            return None
        seconds, cores = after.at_s - before.at_s, os.cpu_count() or 1
        others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
        return Disturbed(
            cores,
            round(max(0.0, others_s / seconds), 2),
            round((after.stolen_s - before.stolen_s) / seconds / cores, 4),
            after.throttled - before.throttled,
            round(after.held_s - before.held_s, 2),
        )

    def _count(self) -> _Counted | None:
        try:
            # proc(5): user, nice, system, idle, iowait, irq, softirq, steal, in ticks.
            line = (self._root / "proc/stat").read_text().split("\n", 1)[0]
        except OSError:
            return None
        ticks = [int(text) / os.sysconf("SC_CLK_TCK") for text in line.split()[1:9]]
        own = os.times()
        return _Counted(
            time.monotonic(),
            own.user + own.system + own.children_user + own.children_system,
            sum(ticks[:3]) + sum(ticks[5:7]),
            ticks[7],
            sum(map(_number, self._root.glob("sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"))),
            self._held_s(),
        )

    def _held_s(self) -> float:
        try:
            text = (self._root / "sys/fs/cgroup/cpu.stat").read_text()
        except OSError:
            return 0.0
        rows = dict(line.split(maxsplit=1) for line in text.splitlines() if " " in line)
        return int(rows.get("throttled_usec", 0)) / 1e6


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
