"""Loads objects that a table names without importing them: ``module:name``."""

from __future__ import annotations

import importlib
from typing import Any


def load_place(place: str) -> Any:
    """Import the object that ``module:name`` names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
