"""The views of a picture that are passed to the network."""

from __future__ import annotations

from typing import Literal

View = Literal["own", "whole", "mirror"]
"""``own``: the bundle's own preprocessing, as in a stream. ``whole``: the whole picture, stretched.
``mirror``: the same, mirrored horizontally."""

OWN: tuple[View, ...] = ("own",)
"""The views of a gallery for streams."""

SIGNATURE: tuple[View, ...] = ("whole", "mirror")
"""The views of a signature."""
