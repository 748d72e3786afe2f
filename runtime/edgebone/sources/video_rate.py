"""How many frames a second a source has, for whoever writes a video of it."""

from __future__ import annotations

from edgebone.sources.limits import Limits
from edgebone.sources.protocol import Source
from edgebone.sources.video import Video

_PICTURES_FPS = 1.0
_VIDEO_FPS = 25.0


def is_pictures(source: Source) -> bool:
    """Whether a source is pictures one by one, which come without times."""
    # A video whose rate nobody knows is one all the same.
    return not source.live and source.fps is None and not isinstance(source, Video)


def rate_of(source: Source, limits: Limits | None = None) -> float:
    """Frames a second that are left of a source by limits: of its own rate, or what is usual for its kind."""
    own = source.fps or (_PICTURES_FPS if is_pictures(source) else _VIDEO_FPS)
    return own if limits is None else min(own / limits.every, limits.max_fps or own)
