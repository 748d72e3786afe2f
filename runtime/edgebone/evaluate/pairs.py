"""Pairs pictures with label files of the same name, such as masks."""

from __future__ import annotations

from pathlib import Path

from edgebone.core.errors import SourceError
from edgebone.sources.folders import in_order, pictures_in


def pair_files(
    data: Path, images: Path | None, what: str, suffixes: tuple[str, ...]
) -> tuple[Path, list[tuple[Path, Path]]]:
    """Pair label files with pictures by name without suffix.

    Args:
        data: A folder of label files; or a folder with the folders ``images`` and one named after ``what``.
        images: The folder of the pictures; None takes ``images`` in or beside ``data``.
        what: What the files are, such as ``masks``.
        suffixes: The files' suffixes, in lower case.

    Returns:
        The folder of the label files, and each picture's file with its label file.

    Raises:
        SourceError: A folder is missing, there are no label files, or one has no picture.
    """
    folder = data / what if (data / what).is_dir() else data
    beside = images or (data / "images" if (data / "images").is_dir() else data.parent / "images")
    for wanted, name in ((folder, what), (beside, "pictures")):
        if not wanted.is_dir():
            raise SourceError(f"{wanted}: no such folder of {name}; --images DIR names the folder of the pictures")
    pictures = {path.stem: path for path in pictures_in(beside)}
    found = in_order(
        path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
    for path in found:
        if path.stem not in pictures:
            raise SourceError(f"{path}: there is no picture of that name in {beside}")
    if not found:
        raise SourceError(f"{folder}: no {what} ({', '.join(suffixes)}) in it")
    return folder, [(pictures[path.stem], path) for path in found]
