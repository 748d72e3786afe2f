"""What several of these suites need: the program itself, and engines as parameters."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(sys.executable).with_name("edgebone")


def edgebone(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run the real program and collect what it says."""
    environment = {**os.environ, "PYTHONWARNINGS": "default", **settings.pop("env", {})}
    return subprocess.run(
        [str(PROGRAM), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env=environment, **settings,
    )  # fmt: skip


def install(package: Path, target: Path) -> dict[str, str]:
    """Install a package from its folder into a folder of its own; the environment that finds it there."""
    # A build leaves files beside the sources.
    sources = target.with_name(f"{target.name}-sources")
    shutil.copytree(package, sources, ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(sources)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return {"PYTHONPATH": str(target)}


def needs(package: str) -> pytest.MarkDecorator:
    """Skip where an optional package is absent."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def has_bf16() -> bool:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return any(name in flags for name in ("avx512_bf16", "amx_bf16"))
