"""TensorRT's timing cache, shared between builds, so that kernels are measured only once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgebone.core.caches import Cached
from edgebone.core.locking import locked
from edgebone.core.writing import writing

# TensorRT itself rejects a cache of another version or GPU, but not one with a flipped bit.
_KEY = b"TensorRT timing cache"


def load_timing_cache(config: Any, path: Path, notice: Callable[[str], None]) -> None:
    """Set a builder configuration's cache, or an empty one.

    A cache of another version or a damaged one is not an error: it is set aside and replaced.
    """
    if not hasattr(config, "create_timing_cache"):
        return
    kept = Cached(path, _KEY)
    with locked(path):
        found = kept.load()
        damaged = found is None and path.exists()
    content = found[0] if found else b""
    cache = config.create_timing_cache(content)
    if damaged or (content and (cache is None or not config.set_timing_cache(cache, False))):
        aside = path.with_name(path.name + ".old")
        with locked(path), writing(aside):
            path.replace(aside)
        notice(
            f"{path}: the timing cache is of another version or damaged; it was renamed to {aside.name} and is replaced"
        )
        cache, content = config.create_timing_cache(b""), b""
    if not content and cache is not None:
        config.set_timing_cache(cache, False)


def save_timing_cache(config: Any, path: Path) -> None:
    """Add the measurements to the file, merged with those that another build has written meanwhile."""
    cache = config.get_timing_cache() if hasattr(config, "get_timing_cache") else None
    if cache is None:
        return
    kept = Cached(path, _KEY)
    with locked(path), writing(path):
        found = kept.load()
        other = config.create_timing_cache(found[0]) if found else None
        if other is not None:
            cache.combine(other, True)
        kept.keep(bytes(cache.serialize()))
