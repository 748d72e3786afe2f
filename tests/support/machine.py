"""What this machine has, as marks for tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def needs(package: str) -> pytest.MarkDecorator:
    """Skip where an optional package is absent."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def has_bf16() -> bool:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return any(name in flags for name in ("avx512_bf16", "amx_bf16"))
