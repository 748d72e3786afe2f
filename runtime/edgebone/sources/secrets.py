"""Secrets in cameras' addresses that are not written there: ``ps`` shows a command's words to everybody.

``$CAM_PASS`` stands for the environment's variable of this name or, where only ``CAM_PASS_FILE`` is set, for what is
in the file that it names: a secret of Docker's, a credential of systemd's.
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
    """The secret that a text stands for as a whole: ``$CAM_PASS``, ``${CAM_PASS}``; None where it stands for none.

    Raises:
        SourceError: There is no such secret, or it cannot be read.
    """
    found = _VARIABLE.fullmatch(text)
    return _look_up(found[1] or found[2]) if found else None


def fill_values(text: str) -> str:
    """Fill in the secrets behind equals signs, as ``password=$CAM_PASS``, percent-encoded.

    Raises:
        SourceError: There is no such secret, or it cannot be read.
    """
    return _VALUE.sub(lambda found: quote(_look_up(found[1] or found[2]), safe=""), text)


def _look_up(name: str) -> str:
    secret = os.environ.get(name)
    path = os.environ.get(f"{name}_FILE")
    if secret is None and path is None:
        raise SourceError(
            f"${name} is in the address, but neither {name} nor {name}_FILE is set; write a $ that means itself as %24"
        )
    if secret is None:
        assert path is not None
        try:
            secret = read_text(path, limits.SECRET_BYTES).removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise SourceError(f"{name}_FILE: {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise SourceError(f"{name}_FILE: {path} is no text in UTF-8") from None
    if re.search(r"[\x00-\x1f\x7f-\x9f]", secret):
        raise SourceError(f"${name} has a line break or another control character in it")
    return secret
