"""What is made of each picture before the network sees it."""

from __future__ import annotations

from typing import Literal

View = Literal["own", "whole", "mirror"]
"""``own``: as the bundle prepares every picture, which is what a stream sees. ``whole``: all of it, stretched.
``mirror``: the same, left and right exchanged."""

OWN: tuple[View, ...] = ("own",)
"""The views of a gallery that streams are looked up in."""

SIGNATURE: tuple[View, ...] = ("whole", "mirror")
"""The views of a signature."""
