"""This release, and the stamp that it leaves in what it writes."""

from __future__ import annotations

__version__ = "0.1.0"


def created_by() -> str:
    """``edgebone`` and its version."""
    return f"edgebone {__version__}"


def created_at() -> str:
    """The time now: UTC, ISO 8601, in seconds."""
    # `import edgebone` reads the version, and nothing else of this.
    import datetime

    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
