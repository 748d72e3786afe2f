"""Power, temperature and load of this machine, from the sensors that it has.

The Jetson's files follow NVIDIA's Jetson Linux Developer Guide (power monitors INA3221 in hwmon, GPU load); neither
they nor NVML have been read on hardware by this project yet.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reading:
    """One value.

    Attributes:
        quantity: The quantity with its unit: ``power_watts``, ``temperature_celsius``, ``load_ratio``,
            ``memory_bytes``, ``clock_hertz``, ``cpu_seconds``, ``threads``, ``open_files``.
        device: The device: ``cpu package-0``, ``gpu 0``, ``VDD_GPU_SOC``, ``process``.
        value: The value.
    """

    quantity: str
    device: str
    value: float


Sensor = Callable[[], list[Reading]]
"""Reads one sensor; returns nothing if it can no longer be read."""


def probe_sensors(root: Path = Path("/")) -> tuple[Sensor, ...]:
    """Find this machine's sensors; those that need missing permissions or packages are omitted.

    Args:
        root: The folder of ``sys`` and ``proc``.
    """
    found: list[Sensor] = [partial(read_process, root)]
    found += [partial(_thermal, zone) for zone in sorted(root.glob("sys/class/thermal/thermal_zone*"))]
    found += [
        PackagePower(folder)
        for folder in sorted(root.glob("sys/class/powercap/intel-rapl:*"))
        if folder.name.count(":") == 1 and os.access(folder / "energy_uj", os.R_OK)
    ]
    rails = sorted(root.glob("sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*/in*_label"))
    found += [partial(_rail, label) for label in rails]
    for load in ("sys/devices/gpu.0/load", "sys/devices/platform/gpu.0/load"):
        if (root / load).exists():
            found.append(partial(_jetson_gpu, root / load))
            break
    return (*found, *_nvml())


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def read_process(root: Path = Path("/")) -> list[Reading]:
    """Read this process's figures: those that grow with a leak."""
    own = root / "proc/self"
    try:
        fields = (own / "stat").read_text().rpartition(")")[2].split()
        pages = int((own / "statm").read_text().split()[1])
        files = len(list((own / "fd").iterdir()))
    except (OSError, ValueError, IndexError):
        return []
    ticks = os.sysconf("SC_CLK_TCK")
    return [
        Reading("cpu_seconds", "process", (int(fields[11]) + int(fields[12])) / ticks),
        Reading("memory_bytes", "process", float(pages * os.sysconf("SC_PAGE_SIZE"))),
        Reading("threads", "process", float(fields[17])),
        Reading("open_files", "process", float(files)),
    ]


def _thermal(zone: Path) -> list[Reading]:
    millicelsius = _number(zone / "temp")
    if millicelsius is None:
        return []
    with contextlib.suppress(OSError):
        return [Reading("temperature_celsius", (zone / "type").read_text().strip(), millicelsius / 1000)]
    return [Reading("temperature_celsius", zone.name, millicelsius / 1000)]


class PackagePower:
    """A processor package's mean power since the previous reading, from its energy counter (RAPL).

    Args:
        folder: Such as ``/sys/class/powercap/intel-rapl:0``; readable only by root on most systems.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = self._now()

    def _now(self) -> tuple[float, float | None]:
        return time.monotonic(), _number(self._folder / "energy_uj")

    def __call__(self) -> list[Reading]:
        """Read it; empty within a tenth of a second of the previous reading, in which the counter hardly moves."""
        before_s, before_uj = self._before
        now_s, now_uj = self._now()
        if now_uj is None or before_uj is None or now_s - before_s < 0.1:
            return []
        self._before = now_s, now_uj
        used_uj = now_uj - before_uj
        if used_uj < 0:
            # The counter wraps around.
            used_uj += _number(self._folder / "max_energy_range_uj") or 0.0
        name = self._folder.name
        with contextlib.suppress(OSError):
            name = (self._folder / "name").read_text().strip()
        return [Reading("power_watts", f"cpu {name}", used_uj / 1e6 / (now_s - before_s))]


def _rail(label: Path) -> list[Reading]:
    """Read one rail of a Jetson's power monitor: millivolts times milliamperes."""
    number = label.name.removeprefix("in").removesuffix("_label")
    millivolts = _number(label.with_name(f"in{number}_input"))
    milliamperes = _number(label.with_name(f"curr{number}_input"))
    if millivolts is None or milliamperes is None:
        return []
    return [Reading("power_watts", label.read_text().strip(), millivolts * milliamperes / 1e6)]


def _jetson_gpu(path: Path) -> list[Reading]:
    """Read a Jetson's GPU load, in tenths of a percent."""
    load = _number(path)
    return [] if load is None else [Reading("load_ratio", "gpu", load / 1000)]


def _nvml() -> Iterator[Sensor]:
    """Yield the NVIDIA cards of a PC, if nvidia-ml-py and the driver are installed."""
    try:
        import pynvml
    except ImportError:
        return
    try:
        pynvml.nvmlInit()
        cards = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return
    for index, card in enumerate(cards):
        yield partial(read_card, pynvml, f"gpu {index}", card)


def read_card(nvml: Any, name: str, card: Any) -> list[Reading]:
    """Read a card's values; some cards lack some values."""
    values: dict[str, Callable[[], float]] = {
        "power_watts": lambda: nvml.nvmlDeviceGetPowerUsage(card) / 1000,
        "temperature_celsius": lambda: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU),
        "load_ratio": lambda: nvml.nvmlDeviceGetUtilizationRates(card).gpu / 100,
        "memory_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(card).used,
        "clock_hertz": lambda: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM) * 1e6,
    }
    readings = []
    for quantity, read in values.items():
        with contextlib.suppress(nvml.NVMLError):
            readings.append(Reading(quantity, name, float(read())))
    return readings
