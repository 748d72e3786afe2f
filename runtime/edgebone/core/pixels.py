"""The one refusal of pictures that are too large."""

from __future__ import annotations


def too_large(what: str, size_hw: tuple[int, int], most: int) -> str | None:
    """Why a picture is refused for its size; None where it is not.

    Args:
        what: What it is, such as ``a.png: a picture``.
        size_hw: Its height and width, as its header or a calculation says.
        most: The most pixels that it may have; from ``core/limits.py``.
    """
    height, width = size_hw
    if height * width <= most:
        return None
    return f"{what} of {width}x{height} is too large: {most:,} pixels are the most"
