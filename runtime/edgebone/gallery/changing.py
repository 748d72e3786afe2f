"""Serialises changes to a gallery's file between processes."""

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
    """Load a gallery, let the caller change it, and save it; other writers wait.

    Nothing is written if the caller raises.

    Args:
        path: The file.
        new: Creates the gallery if the file does not exist; None raises instead.

    Raises:
        GalleryError: The file cannot be read.
        OutputError: It cannot be written.
    """
    target = Path(path)
    if new is None:
        # Before the lock, which is a file and may need a folder.
        read_header(target)
    with locked(target):
        gallery = new() if new is not None and not target.exists() else Gallery.load(target)
        yield gallery
        gallery.write(target)
