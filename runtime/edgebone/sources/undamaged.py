"""Reads a source's undamaged pictures, for callers that need a limited number."""

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
    """Yield the wanted frames with their pictures.

    A camera's damaged frame is replaced by the next one; so is an unreadable picture file.

    Args:
        source: An open source.
        wanted: Returns whether a frame is wanted.
        damaged: Called with each frame left out and the reason.

    Raises:
        SourceError: The source cannot be read, or a recording is damaged.
    """
    warned = False
    while (frame := source.read()) is not None:
        if not wanted(frame):
            continue
        try:
            image = frame.image
        except SourceError as error:
            if not source.live and frame.path is None:
                raise
            if source.live and not warned:
                # Immediately: otherwise a camera that delivers nothing else would be waited for silently.
                _log.warning("%s; such frames are left out", error)
                warned = True
            damaged(frame, error)
            continue
        yield frame, image
