"""A source's pictures one after the other, for what takes a number of them and then ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame
from edgebone.sources.protocol import Source

_log = logging.getLogger("edgebone.sources")


def undamaged(
    source: Source, wanted: Callable[[Frame], bool], damaged: Callable[[Frame, SourceError], None]
) -> Iterator[tuple[Frame, NDArray[np.uint8]]]:
    """Frames that are wanted, with their pictures.

    One of a camera that comes damaged is left out, and the next taken; so is a picture's file that cannot be read.

    Args:
        source: An open source.
        wanted: Asked about each frame.
        damaged: Told which frame is left out, and why.

    Raises:
        SourceError: It cannot be read, or a recording is damaged.
    """
    told = False
    while (frame := source.read()) is not None:
        if not wanted(frame):
            continue
        try:
            image = frame.image
        except SourceError as error:
            if not source.live and frame.path is None:
                raise
            if source.live and not told:
                # At once: a camera that gives nothing else would be waited for in silence.
                _log.warning("%s; such frames are left out", error)
                told = True
            damaged(frame, error)
            continue
        yield frame, image
