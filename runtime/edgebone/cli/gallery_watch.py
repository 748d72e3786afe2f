"""Notices while a program runs that others have changed its gallery."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgebone.cli.output import note

if TYPE_CHECKING:
    from edgebone.gallery import Gallery

LOOK_S = 1.0
"""How often a running program looks whether its gallery's file has changed."""


class GalleryWatch:
    """Takes over galleries whose files others have changed; one that cannot be is said once, and serves as it was."""

    def __init__(self) -> None:
        self._looked_s = time.monotonic()

    def look(self, galleries: list[Gallery], at_once: bool = False) -> bool:
        """Look at the files, if it is time to or has to be at once; gives whether anything was taken over."""
        now_s = time.monotonic()
        if not at_once and now_s - self._looked_s < LOOK_S:
            return False
        self._looked_s = now_s
        changed = [gallery for gallery in galleries if gallery.reload_if_changed()]
        for gallery in changed:
            note(f"edgebone: {gallery.path} has changed: {len(gallery)} entries")
        return bool(changed)
