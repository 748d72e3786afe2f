"""Runs a detector on tiles of each frame, for objects that are small in a large frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgebone.core.errors import BundleError
from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.manifest import listed
from edgebone.core.results import HeadResults, Results
from edgebone.decode.heads import need_heads
from edgebone.pipeline.step import Step
from edgebone.tasks.detection import DETECTION
from edgebone.vision.cutting import pixels
from edgebone.vision.tiling import merge_tiles, tiles_of

if TYPE_CHECKING:
    from edgebone.model.model import Model


class Tiles(Step):
    """Runs the model on overlapping tiles of each frame, in batches where the bundle has one, not on the whole frame.

    Each tile goes through the model's own preprocessing, so an object covers more of the network's input. Boxes of one
    object from several tiles are merged once, see :func:`edgebone.vision.tiling.merge_tiles`. The step comes first.

    Args:
        columns: The number of tiles side by side.
        rows: The number of tiles one above the other.
        overlap: The share of a tile's side that neighbours share, 0 to 0.9; more than the largest small object.
        whole: Also run on the whole frame, for objects larger than a tile.

    Raises:
        ValueError: An implausible grid or overlap.

    Example:
        >>> import edgebone
        >>> from edgebone.pipeline import Pipeline, Tiles
        >>> with edgebone.load("yolox.bundle") as model:
        ...     summary = Pipeline(model, [Tiles(2, 2, overlap=0.2)]).run("street.mp4")
    """

    looks_itself = True

    def __init__(self, columns: int, rows: int, *, overlap: float = 0.2, whole: bool = False) -> None:
        if not 1 <= columns <= 32 or not 1 <= rows <= 32:
            raise ValueError(f"tiles must be 1 to 32 a side, got {columns}x{rows}")
        if not 0 <= overlap <= 0.9:
            raise ValueError(f"overlap must be 0 to 0.9, got {overlap}")
        self._columns, self._rows, self._overlap, self._whole = columns, rows, overlap, whole

    def prepare(self, model: Model) -> None:
        """See :meth:`Step.prepare`.

        Raises:
            BundleError: The model has no boxes, or other results that cannot be merged.
        """
        heads = model.manifest.heads
        finders = need_heads(heads, [DETECTION], "tiles merge boxes", model.bundle.path)
        if len(finders) < len(heads):
            raise BundleError(f"tiles merge boxes only, and {model.bundle.path} has {listed(heads)}")

    def look(self, frame: Frame, results: Results, model: Model) -> tuple[Results, Sequence[Event]]:
        """Return the boxes of all tiles, in the frame's pixels.

        Raises:
            SourceError: The frame is damaged and cannot be decoded.
            EngineError: The engine fails.
        """
        height, width = frame.size_hw
        tiles = tiles_of(frame.size_hw, self._columns, self._rows, self._overlap)
        if self._whole:
            tiles = np.concatenate([tiles, [[0, 0, width, height]]])
        found = model([np.ascontiguousarray(pixels(frame.image, tile)) for tile in tiles])
        by_tile = [results if isinstance(results, dict) else {"": results} for results in found]
        merged = {
            name: merge_tiles([DETECTION.pick(heads, name) for heads in by_tile], tiles, frame.size_hw)
            for name in by_tile[0]
        }
        return (HeadResults(merged) if isinstance(found[0], dict) else merged[""]), ()
