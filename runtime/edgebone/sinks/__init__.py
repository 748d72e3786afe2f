"""Sinks for results: JSON lines, annotated videos and pictures, or the caller's functions."""

from edgebone.sinks.opening import open_sink
from edgebone.sinks.protocol import Sink

__all__ = ["Sink", "open_sink"]
