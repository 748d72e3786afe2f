"""Where results go: JSON lines, an annotated video, or the caller's own function."""

from edgebone.sinks.opening import open_sink
from edgebone.sinks.protocol import Sink

__all__ = ["Sink", "open_sink"]
