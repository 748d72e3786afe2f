"""The frame rate of a source, for writing videos."""

from __future__ import annotations

from edgebone.sources.limits import Limits
from edgebone.sources.protocol import Source
from edgebone.sources.video import Video

_PICTURES_FPS = 1.0
_VIDEO_FPS = 25.0


def is_pictures(source: Source) -> bool:
    """Return whether a source is single pictures, which have no times."""
    # A video of unknown rate is still a video.
    return not source.live and source.fps is None and not isinstance(source, Video)


def rate_of(source: Source, limits: Limits | None = None) -> float:
    """Return a source's frames per second after its limits, from its own rate or the default of its kind."""
    own = source.fps or (_PICTURES_FPS if is_pictures(source) else _VIDEO_FPS)
    return own if limits is None else min(own / limits.every, limits.max_fps or own)
