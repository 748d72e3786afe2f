"""Writes annotated pictures, one file each."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from edgebone.core.errors import OutputError
from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.results import Results
from edgebone.core.staging import staging
from edgebone.core.writing import writing
from edgebone.sinks.annotate import Draw, drawn

_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 95]
_MOST_JPEG_PIXELS = 65_500
# Names have at most 255 bytes, including a number and a suffix.
_STEM_BYTES = 200
_UNLINKABLE = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV)


class PictureFilesSink:
    """Writes each frame with its result drawn on it to a separate file.

    A picture's file keeps its name, as PNG if it was one, else as JPEG; pages and frames of videos and cameras get
    their number appended. If a name already exists, from this run or before, a further number is added: nothing is
    overwritten. A file gets its name when it is complete; files are not flushed to disk one by one.

    Args:
        folder: The folder; created at the first picture.
        draw: Draws more onto a frame, after its result.

    Raises:
        OutputError: The folder is a file.
    """

    def __init__(self, folder: Path, draw: Draw | None = None) -> None:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} cannot be written: it is a file; pictures need a folder")
        self._folder = folder
        self._draw = draw
        self._held = ExitStack()
        self._place: Path | None = None

    def write(self, frame: Frame, result: Results, events: Sequence[Event] = ()) -> None:
        """Draw, and write the file.

        Raises:
            OutputError: It cannot be written.
        """
        image = drawn(frame, result, self._draw)
        stem, suffix = _stem_of(frame), ".png" if _is_png(frame) or max(image.shape) > _MOST_JPEG_PIXELS else ".jpg"
        encoded: NDArray[Any] = cv2.imencode(suffix, image, _QUALITY if suffix == ".jpg" else [])[1]
        with writing(self._folder / f"{stem}{suffix}", left="the previous pictures are whole"):
            if self._place is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._place = self._held.enter_context(staging(self._folder / "pictures"))
            made = self._place / "picture"
            made.write_bytes(encoded.tobytes())
            for number in count(1):
                if _name(made, self._folder / f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"):
                    break

    def close(self) -> None:
        """Release the folder; every picture is whole."""
        self._place = None
        self._held.close()

    def discard(self) -> None:
        """As :meth:`close`: the pictures of earlier frames are whole and stay."""
        self.close()


def _name(made: Path, target: Path) -> bool:
    """Rename a finished file to a free name; False if the name is taken."""
    try:
        os.link(made, target)
    except FileExistsError:
        return False
    except OSError as error:
        # A file system without links, such as a memory card's.
        if error.errno not in _UNLINKABLE:
            raise
        if os.path.lexists(target):
            return False
        made.rename(target)
        return True
    made.unlink()
    return True


def _is_png(frame: Frame) -> bool:
    return frame.path is not None and frame.path.lower().endswith(".png")


def _stem_of(frame: Frame) -> str:
    """Return ``cat``, ``scan-003`` for a page, ``street-000012`` for a frame; for an address its legal characters."""
    if frame.path is not None:
        stem = Path(frame.path).stem
        number = "" if frame.page is None else f"-{frame.page:03d}"
    else:
        name = frame.source
        stem = (
            Path(name).stem if "://" not in name and Path(name).suffix else re.sub(r"[^\w.-]+", "-", name).strip("-.")
        )
        number = f"-{frame.index:06d}"
    short = os.fsdecode(os.fsencode(stem)[:_STEM_BYTES])
    return f"{short.lstrip('.') or 'picture'}{number}"
