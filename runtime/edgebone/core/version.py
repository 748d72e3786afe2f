"""This edgebone's version, and how files say who made them, and when."""

from __future__ import annotations

from typing import TypedDict

__version__ = "0.1.0"


class Created(TypedDict):
    """What a file says of its making: the program with its version, and the time, UTC, as ISO 8601."""

    created_by: str
    created_at: str


def created() -> Created:
    """What a file that is made now says."""
    import datetime

    now = datetime.datetime.now(datetime.timezone.utc)
    return {"created_by": f"edgebone {__version__}", "created_at": now.isoformat(timespec="seconds")}
