"""Keeps user names, passwords and tokens out of every name, message and record."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

_SECRET = re.compile(r"([?&;][^=&;]*(?:pass|pwd|user|token|key|auth|secret|sig|login)[^=&;]*=)[^&;#]*", re.IGNORECASE)


def redact(url: str) -> str:
    """The address without its credentials: ``rtsp://bob:x@cam/1?token=y`` becomes ``rtsp://cam/1?token=***``."""
    return urlunsplit(_without(urlsplit(url)))


def scrub(text: str, url: str) -> str:
    """Take an address' credentials out of a message that a library wrote about it."""
    parts = urlsplit(url)
    text = text.replace(url, redact(url))
    for secret in (parts.password, parts.username):
        for form in {secret, unquote(secret)} if secret else ():
            # Short ones would be found in the middle of harmless words.
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", "***", text)
    return _SECRET.sub(r"\1***", text)


def _without(parts: SplitResult) -> SplitResult:
    query = _SECRET.sub(r"\1***", f"?{parts.query}")[1:]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query)
