"""What a table names without importing it: ``module:name``."""

from __future__ import annotations

import importlib
from typing import Any


def load_place(place: str) -> Any:
    """Import what ``module:name`` names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
