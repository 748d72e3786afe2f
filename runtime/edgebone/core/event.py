"""Something that happened, as programs are told of it."""

from __future__ import annotations

from typing import Any, Protocol


class Event(Protocol):
    """What a step found in a frame: somebody entered a zone, a product ran out."""

    def to_dict(self) -> dict[str, Any]:
        """The event as plain JSON values (no NumPy scalars)."""
