"""Reads files with places in a picture: strict JSON; errors name the wrong place."""

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
        kind: The type of its content.
        error: The type of error to raise.
        what: The name of the content, for the message.

    Raises:
        EdgeboneError: ``error``: it is missing, too large, not JSON, or has other content.
    """
    with foreign(lambda reason: error(f"{path} cannot be read: {reason}")):
        content = read_regular(path, limits.SETTINGS_BYTES)
    with foreign(lambda reason: error(f"{path} is not JSON: {reason}")):
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.ValidationError as cause:
            raise error(f"{path}: {cause}; see docs/guides for the format of a file of {what}") from cause
