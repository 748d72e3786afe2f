"""Finds the pictures of a folder, a labelled set or a video."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.foreign import foreign
from edgebone.core.reading import read_regular, read_text
from edgebone.sources.folders import pictures_in
from edgebone.sources.images import is_listed
from edgebone.sources.picture_formats import FORMATS

Item = TypeVar("Item")


class _File(msgspec.Struct, frozen=True):
    file_name: str


class _Instances(msgspec.Struct, frozen=True):
    images: list[_File]


def find_pictures(source: Path) -> list[Path] | None:
    """Return the picture files of a source, in order; None for another file, such as a video.

    Args:
        source: A folder (searched with its subfolders, by content), a picture, a CSV with the column ``file``, or
            COCO's ``instances.json`` with its pictures in ``images`` beside it.

    Raises:
        SourceError: It does not exist, does not match its suffix, or has no pictures.
    """
    if not os.path.exists(source):  # noqa: PTH110  (Path.exists raises on a name that is too long)
        raise SourceError(f"{source}: no such folder or file; give a folder of pictures, a labelled set or a video")
    suffix = source.suffix.lower()
    if source.is_dir():
        found = pictures_in(source, deep=True)
    elif suffix == ".csv":
        found = _of_csv(source)
    elif suffix == ".json":
        found = _of_coco(source)
    elif is_listed(source):
        found = [source]
    else:
        return None
    if not found:
        raise SourceError(f"{source}: no pictures in it ({', '.join(known.name for known in FORMATS)})")
    return found


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV by column.

    Raises:
        SourceError: It cannot be read, is not a CSV in UTF-8, or is too large.
    """
    with foreign(lambda reason: SourceError(f"{path}: not a CSV in UTF-8 ({reason})")):
        try:
            text = read_text(path, limits.TABLE_BYTES)
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
        rows = list(itertools.islice(csv.DictReader(io.StringIO(text, newline="")), limits.TABLE_ROWS + 1))
    if len(rows) > limits.TABLE_ROWS:
        raise SourceError(f"{path}: it has more than {limits.TABLE_ROWS:,} rows")
    return rows


def _of_csv(path: Path) -> list[Path]:
    rows = read_rows(path)
    if rows and "file" not in rows[0]:
        raise SourceError(f"{path}: needs the column file, has {', '.join(map(str, rows[0]))}")
    return [path.parent / (row["file"] or "").strip() for row in rows]


def _of_coco(path: Path) -> list[Path]:
    with foreign(lambda reason: SourceError(f"{path}: not COCO's annotations ({reason})")):
        found = msgspec.json.decode(read_regular(path, limits.ANNOTATIONS_BYTES), type=_Instances)
    return [path.parent / "images" / item.file_name for item in found.images]


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return up to ``count`` items, evenly spread from the first to the last."""
    if len(items) <= count:
        return list(items)
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, count)]


def video_frames(path: Path, count: int) -> list[NDArray[np.uint8]]:
    """Return up to ``count`` frames of a video, evenly spread over its length.

    Raises:
        SourceError: It is not a video, or cannot be read.
    """
    from edgebone.sources import open_source

    source = open_source(path)
    try:
        total = source.frame_count or 0
        wanted = set(spread(range(total), count)) if total else None
        frames: list[NDArray[np.uint8]] = []
        index = 0
        while (frame := source.read()) is not None and len(frames) < count:
            if wanted is None or index in wanted:
                frames.append(frame.image)
            index += 1
    finally:
        source.close()
    return frames
