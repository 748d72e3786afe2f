"""Reads the files that say where things are in a picture: strict JSON, refused with the place that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from edgebone.core import limits
from edgebone.core.errors import EdgeboneError
from edgebone.core.foreign import foreign
from edgebone.core.reading import read_regular

Content = TypeVar("Content")


def read_json_file(path: Path, kind: type[Content], error: type[EdgeboneError], what: str) -> Content:
    """Read a file strictly.

    Args:
        path: The file.
        kind: What it holds.
        error: What is raised.
        what: What it is a file of, for the message.

    Raises:
        EdgeboneError: ``error``: it is not there, is too large, is not JSON, or says something else.
    """
    with foreign(lambda reason: error(f"{path} cannot be read: {reason}")):
        content = read_regular(path, limits.SETTINGS_BYTES)
    with foreign(lambda reason: error(f"{path} is not JSON: {reason}")):
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.ValidationError as cause:
            raise error(f"{path}: {cause}; see docs/guides for what a file of {what} holds") from cause
