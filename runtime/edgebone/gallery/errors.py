"""What a gallery refuses."""

from __future__ import annotations

from edgebone.core.errors import EdgeboneError


class GalleryError(EdgeboneError, ValueError):
    """A gallery cannot be read, or does not go with what it is given. Exit code 1."""
