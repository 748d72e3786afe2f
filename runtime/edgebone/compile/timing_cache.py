"""TensorRT's timing cache, shared between builds: what was measured once is not measured again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgebone.core.locking import locked
from edgebone.core.writing import write_whole, writing


def load_timing_cache(config: Any, path: Path, notice: Callable[[str], None]) -> None:
    """Give a builder's configuration the cache, or an empty one.

    A cache of another version, or a damaged one, is no error: it is set aside, and made anew.
    """
    if not hasattr(config, "create_timing_cache"):
        return
    content = b""
    with locked(path):
        if path.is_file():
            content = path.read_bytes()
    cache = config.create_timing_cache(content)
    if content and (cache is None or not config.set_timing_cache(cache, False)):
        aside = path.with_name(path.name + ".old")
        with locked(path), writing(aside):
            path.replace(aside)
        notice(f"{path}: the timing cache is of another version or damaged; it is {aside.name} now, and made anew")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    elif not content and cache is not None:
        config.set_timing_cache(cache, False)


def save_timing_cache(config: Any, path: Path) -> None:
    """Add what was measured to the file, together with what another build has written meanwhile."""
    cache = config.get_timing_cache() if hasattr(config, "get_timing_cache") else None
    if cache is None:
        return
    with locked(path), writing(path):
        if path.is_file():
            other = config.create_timing_cache(path.read_bytes())
            if other is not None:
                cache.combine(other, True)
        write_whole(path, bytes(cache.serialize()))
