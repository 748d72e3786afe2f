"""A result on its picture, for people: what ``result.draw()`` does."""

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
        picture: Whatever a model takes; arrays are BGR.
        results: What the model gave for it.

    Returns:
        RGB, of the picture's size.

    Raises:
        SourceError: The picture cannot be read.
    """
    return Image.fromarray(annotate(to_bgr(picture), results)[..., ::-1].copy())


def let_results_draw() -> None:
    """Give results, which know nothing of pictures, the means to draw themselves."""
    Shown.painter = staticmethod(draw)
