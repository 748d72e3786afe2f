"""Where compiled networks are kept between runs: a cache of the user's, never the bundle."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path | None:
    """A folder under the user's cache directory (``XDG_CACHE_HOME``, or ``~/.cache``), made where missing.

    Args:
        name: What is kept in it, such as ``openvino``.

    Returns:
        The folder; None where there is no place to write to, which only costs time.
    """
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = root / "edgebone" / name
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        # A read-only system, or a user without a home.
        return None
    return folder if os.access(folder, os.W_OK) else None
