"""A snapshot of the machine: its hardware, system and installed engines.

Created by :meth:`Machine.probe`, without importing an engine, and passed to every choice that depends on it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec


class Machine(msgspec.Struct, frozen=True):
    """A machine's hardware, system and packages.

    Attributes:
        system: Kernel and C library, such as ``Linux 6.1``.
        arch: ``x86_64`` or ``aarch64``.
        cpu: The processor's name.
        cores: The number of processors that this process may use.
        cpu_features: The instruction sets that matter to inference, such as ``avx512f`` or ``amx_bf16``.
        memory_gb: Main memory, in units of 1024³ bytes.
        gpus: Names of the NVIDIA GPUs that the driver reports.
        driver: The NVIDIA driver's version, empty where there is none.
        jetson: The Jetson's model name, empty elsewhere.
        l4t: Jetson Linux's release, empty elsewhere.
        python: Python's version.
        packages: Version by import name, for the packages that inference depends on.
        onnxruntime_providers: Accelerator providers that the installed onnxruntime carries.
    """

    system: str
    arch: str
    cpu: str
    cores: int
    cpu_features: tuple[str, ...]
    memory_gb: float
    gpus: tuple[str, ...]
    driver: str
    jetson: str
    l4t: str
    python: str
    packages: dict[str, str]
    onnxruntime_providers: tuple[str, ...]

    @property
    def key(self) -> str:
        """A plan's key: a hash of the properties that affect speed and that updates do not change."""
        parts = (self.arch, self.cpu, self.cores, self.cpu_features, self.gpus, self.jetson)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]

    @classmethod
    def probe(cls, packages: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Machine:
        """Inspect this machine. Imports no engine, starts no process, and takes a few milliseconds.

        Args:
            packages: Further import names to look for, each with the distributions that may install it. For those of
                the engines see :func:`edgebone.engines.table.this_machine`.
        """
        cpuinfo = _text("/proc/cpuinfo")
        flags = set((_field(cpuinfo, "flags") or _field(cpuinfo, "Features")).split())
        return cls(
            system=f"{platform.system()} {platform.release().split('-')[0]}",
            arch=platform.machine(),
            cpu=_field(cpuinfo, "model name") or platform.processor() or platform.machine(),
            cores=usable_cores(),
            cpu_features=tuple(name for name in _FEATURES if name in flags),
            memory_gb=_memory_gb(),
            gpus=_nvidia_gpus(),
            driver=_nvidia_driver(_text("/proc/driver/nvidia/version")),
            jetson=_text("/proc/device-tree/model").strip("\0\n ") if _text("/etc/nv_tegra_release") else "",
            l4t=_l4t(_text("/etc/nv_tegra_release")),
            python=platform.python_version(),
            packages=_versions({**_PACKAGES, **packages}),
            onnxruntime_providers=_onnxruntime_providers(),
        )

    def __str__(self) -> str:
        """Return one line for tables and reports."""
        parts = [self.jetson or self.cpu, f"{self.cores} cores", *self.gpus]
        features = [name for name in self.cpu_features if name in ("avx512f", "amx_bf16", "asimd")]
        return ", ".join([*parts, *features, self.system])


_PACKAGES = {
    "edgebone": ("edgebone",),
    "numpy": ("numpy",),
    "cv2": ("opencv-python", "opencv-python-headless"),
    "PIL": ("pillow",),
}
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def usable_cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gb() -> float:
    kib = _field(_text("/proc/meminfo"), "MemTotal").removesuffix("kB").strip()
    return round(int(kib) / 1024**2, 1) if kib else 0.0


def _nvidia_gpus() -> tuple[str, ...]:
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return tuple(_field(_text(str(card)), "Model") for card in cards)


def _nvidia_driver(text: str) -> str:
    found = re.search(r"Kernel Module\D*?\s(\d[\d.]+)", text)
    return found.group(1) if found else ""


def _l4t(release: str) -> str:
    found = re.search(r"R(\d+).*REVISION:\s*([\d.]+)", release)
    return f"{found.group(1)}.{found.group(2)}" if found else ""


def _versions(packages: Mapping[str, Sequence[str]]) -> dict[str, str]:
    found = {}
    for name, distributions in packages.items():
        if not _can_be_imported(name):
            continue
        # A Jetson's own builds (cv2, tensorrt) have no Python metadata: found, but of unknown version.
        found[name] = "unknown version"
        for distribution in distributions:
            try:
                found[name] = importlib.metadata.version(distribution)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def _can_be_imported(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        # Its parent package is not installed.
        return False
    # A folder without modules, as type stubs leave, is not a package.
    return spec is not None and spec.origin is not None


def _onnxruntime_providers() -> tuple[str, ...]:
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or not spec.origin:
        return ()
    libraries = (Path(spec.origin).parent / "capi").glob("*onnxruntime_providers_*")
    names = {re.sub(r".*onnxruntime_providers_([a-z]+).*", r"\1", path.name) for path in libraries}
    return tuple(sorted(names - {"shared"}))
