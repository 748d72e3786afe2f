"""An event, as reported to programs."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from edgebone.core.writing import as_utf8


class Event(Protocol):
    """Something that a step found in a frame: a person entered a zone, a product ran out."""

    def to_dict(self) -> dict[str, Any]:
        """The event as plain JSON values (no NumPy scalars)."""


def event_values(event: Any, *optional: str) -> dict[str, Any]:
    """The fields of an event as plain JSON values: the source as UTF-8, seconds (``…_s``) to the millisecond.

    Args:
        event: A dataclass with the field ``source``.
        *optional: Fields that are left out where they say nothing.
    """
    own = {
        name: value
        for name, value in dataclasses.asdict(event).items()
        if name not in optional or value not in (None, "")
    }
    own["source"] = as_utf8(event.source)
    return {
        name: round(value, 3) if name.endswith("_s") and value is not None else value for name, value in own.items()
    }
