"""How many frames a second a source has, for whoever writes a video of it."""

from __future__ import annotations

from edgebone.sources.protocol import Source
from edgebone.sources.video import Video

_PICTURES_FPS = 1.0
_VIDEO_FPS = 25.0


def is_pictures(source: Source) -> bool:
    """Whether a source is pictures one by one, which come without times."""
    # A video whose rate nobody knows is one all the same.
    return not source.live and source.fps is None and not isinstance(source, Video)


def rate_of(source: Source) -> float:
    """Frames a second: the source's own, or what is usual for its kind."""
    return source.fps or (_PICTURES_FPS if is_pictures(source) else _VIDEO_FPS)
