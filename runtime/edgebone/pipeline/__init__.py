"""Runs sources through a model: steps process the results frame by frame, and sinks write them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgebone.pipeline.crops import Crops
    from edgebone.pipeline.naming import Naming
    from edgebone.pipeline.pipeline import Pipeline
    from edgebone.pipeline.seen import Summary
    from edgebone.pipeline.step import Step
    from edgebone.pipeline.stocktaking import Stocktaking
    from edgebone.pipeline.tiles import Tiles
    from edgebone.pipeline.tracks import Tracks

_HOMES = {
    "Crops": "crops",
    "Naming": "naming",
    "Pipeline": "pipeline",
    "Step": "step",
    "Stocktaking": "stocktaking",
    "Summary": "seen",
    "Tiles": "tiles",
    "Tracks": "tracks",
}

__all__ = ["Crops", "Naming", "Pipeline", "Step", "Stocktaking", "Summary", "Tiles", "Tracks"]


def __getattr__(name: str) -> Any:
    """Import a public name at first use: tracks and galleries need further packages."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgebone.pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"edgebone.pipeline.{_HOMES[name]}"), name)
