"""The version, and the stamp that it leaves in files."""

from __future__ import annotations

__version__ = "0.1.0"


def created_by() -> str:
    """``edgebone`` and its version."""
    return f"edgebone {__version__}"


def created_at() -> str:
    """Return the current time: UTC, ISO 8601, in seconds."""
    # Imported here: `import edgebone` needs only the version.
    import datetime

    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
