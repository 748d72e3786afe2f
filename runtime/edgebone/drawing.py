"""Draws results on their picture, for ``result.draw()``."""

from __future__ import annotations

from typing import Any

from PIL import Image

from edgebone.core.results import Results
from edgebone.core.shown import Shown
from edgebone.sinks.annotate import annotate
from edgebone.sources.given import to_bgr


def draw(picture: Any, results: Results) -> Image.Image:
    """Draw results onto a copy of a picture.

    Args:
        picture: Anything that a model accepts; arrays are BGR.
        results: The model's results for it.

    Returns:
        An RGB picture of the same size.

    Raises:
        SourceError: The picture cannot be read.
    """
    return Image.fromarray(annotate(to_bgr(picture), results)[..., ::-1].copy())


def let_results_draw() -> None:
    """Register the drawing function with the results, which must not import it."""
    Shown.painter = staticmethod(draw)
