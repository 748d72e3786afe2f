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
    source: Source, wanted: Callable[[Frame], bool], damaged: Callable[[SourceError], None]
) -> Iterator[tuple[Frame, NDArray[np.uint8]]]:
    """Frames that are wanted, with their pictures; one of a camera that comes damaged is left out, and the next taken.

    Args:
        source: An open source.
        wanted: Asked about each frame.
        damaged: Told why a camera's frame is left out.

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
            if not source.live:
                raise
            if not told:
                # At once: a camera that gives nothing else would be waited for in silence.
                _log.warning("%s; such frames are left out", error)
                told = True
            damaged(error)
            continue
        yield frame, image
