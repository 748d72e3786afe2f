"""A shelf of coloured tiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgebone.vision.shelf import Pictures
from support.pictures import BLUE, GREEN, RED, picture

# Tiles of 40 × 40 pixels: two zones of three facings, one above the other.
PX = 40


MILK, JUICE, NOTHING, HAND = GREEN, BLUE, (60, 60, 60), (10, 200, 250)


NAMES = {MILK: "milk", JUICE: "juice", NOTHING: "empty", RED: "jam"}


TOP: dict[str, Any] = {
    "name": "top", "xyxy": [0, 0, 1, 0.5], "columns": 3, "expected": [{"product": "milk", "minimum": 2}],
}  # fmt: skip


BOTTOM: dict[str, Any] = {"name": "bottom", "xyxy": [0, 0.5, 1, 1], "columns": 3, "expected": [{"product": "juice"}]}


FULL = [MILK, MILK, MILK, JUICE, JUICE, JUICE]


Bgr = tuple[int, int, int]


def write_shelf(folder: Path, *zones: dict[str, Any], **own: Any) -> Path:
    path = folder / "shelf.json"
    path.write_text(json.dumps({"schema": 1, "agree": 2, "looks": 3, "zones": list(zones or (TOP, BOTTOM)), **own}))
    return path


def tiles(colors: list[Bgr], seed: int | None = None) -> np.ndarray:
    rows = [np.hstack([picture(color, (PX, PX)) for color in colors[start : start + 3]]) for start in (0, 3)]
    image = np.vstack(rows)
    if seed is None:
        return image
    noise = np.random.default_rng(seed).normal(0, 4, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def by_color(pictures: Pictures) -> list[str]:
    found = []
    for image in pictures:
        mean = image.mean(axis=(0, 1))
        near = {name: np.abs(mean - color).max() for color, name in NAMES.items()}
        name = min(near, key=near.__getitem__)
        found.append(name if near[name] < 40 else "unknown")
    return found


def changed(colors: list[Bgr], **places: Bgr) -> list[Bgr]:
    """``f3=RED``: another colour in facing 3."""
    now = list(colors)
    for place, color in places.items():
        now[int(place[1:])] = color
    return now
