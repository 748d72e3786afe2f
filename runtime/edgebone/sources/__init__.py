"""Sources of frames: pictures, videos, cameras and synthetic test patterns."""

from edgebone.sources.opening import open_source, open_sources
from edgebone.sources.protocol import Source

__all__ = ["Source", "open_source", "open_sources"]
