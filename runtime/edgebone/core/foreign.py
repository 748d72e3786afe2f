"""The boundary to third-party parsers and libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgebone.core.errors import EdgeboneError, raise_interrupt

_LONGEST = 300


@contextmanager
def foreign(refusal: Callable[[str], EdgeboneError]) -> Iterator[None]:
    """Turn any exception of a third-party parser into one of our errors, with one line.

    The exceptions that a parser raises on hostile input are not known in advance: lists of types were never complete.
    Put only the call into the parser inside.

    Args:
        refusal: Makes the error from the exception's text.

    Raises:
        EdgeboneError: The error that ``refusal`` made; an EdgeboneError raised inside passes through.
    """
    try:
        yield
    except EdgeboneError:
        raise
    except Exception as error:
        raise_interrupt(error)
        raise refusal(in_one_line(error)) from error


def in_one_line(error: BaseException) -> str:
    """Return an exception's text without line breaks and cut to a limit; its type if it has no text."""
    text = getattr(error, "strerror", None) or str(error)
    words = " ".join(str(text).split()) or type(error).__name__
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
