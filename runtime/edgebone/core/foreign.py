"""The boundary to parsers and libraries that are not ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgebone.core.errors import EdgeboneError, raise_interrupt

_LONGEST = 300


@contextmanager
def foreign(refusal: Callable[[str], EdgeboneError]) -> Iterator[None]:
    """Turn whatever a foreign parser raises into one of our errors with one line.

    What such a parser raises on hostile input is not known beforehand: lists of exception types were never complete.
    Nothing but the call into the parser belongs inside.

    Args:
        refusal: Makes the error from what was raised, in words.

    Raises:
        EdgeboneError: What ``refusal`` made; one that was raised within goes through as it is.
    """
    try:
        yield
    except EdgeboneError:
        raise
    except Exception as error:
        raise_interrupt(error)
        raise refusal(in_one_line(error)) from error


def in_one_line(error: BaseException) -> str:
    """What an exception says, without line breaks and not at any length; its type where it says nothing."""
    text = getattr(error, "strerror", None) or str(error)
    words = " ".join(str(text).split()) or type(error).__name__
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
