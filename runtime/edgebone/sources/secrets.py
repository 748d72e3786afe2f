"""Keeps secrets out of cameras' addresses, since ``ps`` shows command lines to all users.

``$CAM_PASS`` stands for the environment variable of this name or, if only ``CAM_PASS_FILE`` is set, for the content of
that file: a Docker secret or a systemd credential.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.reading import read_text

_VARIABLE = re.compile(r"\$(?:\{([A-Z_][A-Z0-9_]*)\}|([A-Z_][A-Z0-9_]*))")
_VALUE = re.compile(rf"(?<==){_VARIABLE.pattern}")


def fill_one(text: str) -> str | None:
    """Return the secret that a whole text stands for: ``$CAM_PASS``, ``${CAM_PASS}``; None if it is not a reference.

    Raises:
        SourceError: The secret is missing or cannot be read.
    """
    found = _VARIABLE.fullmatch(text)
    return _look_up(found[1] or found[2]) if found else None


def fill_values(text: str) -> str:
    """Fill in secrets after equals signs, as in ``password=$CAM_PASS``, percent-encoded.

    Raises:
        SourceError: The secret is missing or cannot be read.
    """
    return _VALUE.sub(lambda found: quote(_look_up(found[1] or found[2]), safe=""), text)


def _look_up(name: str) -> str:
    secret = os.environ.get(name)
    path = os.environ.get(f"{name}_FILE")
    if secret is None and path is None:
        raise SourceError(
            f"${name} is in the address, but neither {name} nor {name}_FILE is set; write a literal $ as %24"
        )
    if secret is None:
        assert path is not None
        try:
            secret = read_text(path, limits.SECRET_BYTES).removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise SourceError(f"{name}_FILE: {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise SourceError(f"{name}_FILE: {path} is not UTF-8 text") from None
    if re.search(r"[\x00-\x1f\x7f-\x9f]", secret):
        raise SourceError(f"${name} contains a line break or another control character")
    return secret
