"""Notices while a program runs that others have changed its gallery."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from edgebone.gallery.gallery import Gallery

_log = logging.getLogger("edgebone.gallery")
LOOK_S = 1.0
"""How often a running program looks whether its gallery's file has changed."""


class GalleryWatch:
    """Takes over galleries whose files others have changed; one that cannot be is said once, and serves as it was.

    Args:
        notice: Called with a line where one has changed; None logs it.
    """

    def __init__(self, notice: Callable[[str], object] | None = None) -> None:
        self._notice = notice or _log.warning
        self._looked_s = time.monotonic()

    def look(self, galleries: Sequence[Gallery], at_once: bool = False) -> bool:
        """Look at the files, if it is time to or has to be at once; gives whether anything was taken over."""
        now_s = time.monotonic()
        if not at_once and now_s - self._looked_s < LOOK_S:
            return False
        self._looked_s = now_s
        changed = [gallery for gallery in galleries if gallery.reload_if_changed()]
        for gallery in changed:
            self._notice(f"{gallery.path} has changed: {len(gallery)} entries")
        return bool(changed)
