"""The message for pictures that are too large."""

from __future__ import annotations


def too_large(what: str, size_hw: tuple[int, int], most: int) -> str | None:
    """Return why a picture is rejected for its size; None if it is not.

    Args:
        what: What it is, such as ``a.png: a picture``.
        size_hw: Its height and width, as its header or a calculation says.
        most: The limit in pixels; from ``core/limits.py``.
    """
    height, width = size_hw
    if height * width <= most:
        return None
    return f"{what} of {width}x{height} is too large: the limit is {most:,} pixels"
