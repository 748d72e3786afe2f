"""Exports that several test files look at, made once a session."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path
from typing import Any


def export_once(folder: Path, model: str, **settings: Any) -> Path:
    """Export a network, unless this session has done so with the same settings: in this process or in another one."""
    from edgebone_export import export

    name = hashlib.sha256(repr((model, sorted(settings.items()))).encode()).hexdigest()[:16]
    path = folder / f"{name}.bundle"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            export(model, path, **settings)
    return path
