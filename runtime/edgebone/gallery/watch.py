"""Detects, while a program runs, that other processes have changed its galleries."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from edgebone.gallery.gallery import Gallery

_log = logging.getLogger("edgebone.gallery")
LOOK_S = 1.0
"""How often a running program checks its gallery's file for changes."""


class GalleryWatch:
    """Reloads galleries whose files others have changed; one that cannot be reloaded is reported once and kept.

    Args:
        notice: Called with a line for each change; None logs it.
    """

    def __init__(self, notice: Callable[[str], object] | None = None) -> None:
        self._notice = notice or _log.warning
        self._looked_s = time.monotonic()

    def look(self, galleries: Sequence[Gallery], at_once: bool = False) -> bool:
        """Check the files if it is time or ``at_once``; return whether any was reloaded."""
        now_s = time.monotonic()
        if not at_once and now_s - self._looked_s < LOOK_S:
            return False
        self._looked_s = now_s
        changed = [gallery for gallery in galleries if gallery.reload_if_changed()]
        for gallery in changed:
            self._notice(f"{gallery.path} has changed: {len(gallery)} entries")
        return bool(changed)
