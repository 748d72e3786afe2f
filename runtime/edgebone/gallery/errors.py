"""The gallery's errors."""

from __future__ import annotations

from edgebone.core.errors import EdgeboneError


class GalleryError(EdgeboneError, ValueError):
    """A gallery cannot be read, or does not fit its input. Exit code 1."""
