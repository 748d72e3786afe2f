"""One process after the other changes a gallery's file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebone.core.locking import locked
from edgebone.gallery.file import read_header
from edgebone.gallery.gallery import Gallery


@contextmanager
def changing(path: str | os.PathLike[str], new: Callable[[], Gallery] | None = None) -> Iterator[Gallery]:
    """Load a gallery, let the caller change it, and save it; other processes that change it wait.

    Nothing is written where the caller raises.

    Args:
        path: The file.
        new: Makes the gallery where there is no file yet; None fails there.

    Raises:
        GalleryError: The file cannot be read.
        OutputError: It cannot be written.
    """
    target = Path(path)
    if new is None:
        # Before the lock, which is a file, and may need a folder.
        read_header(target)
    with locked(target):
        gallery = new() if new is not None and not target.exists() else Gallery.load(target)
        yield gallery
        gallery.write(target)
