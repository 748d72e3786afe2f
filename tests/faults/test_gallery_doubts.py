"""Galleries that know next to nothing, and said nothing of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from edgebone.gallery.calibration import Calibration
from edgebone.gallery.doubts import doubts
from support.program import edgebone

FINE = Calibration(0.8, 0.01, 1, 100, True, 80, 100)


def test_what_speaks_against_a_gallery() -> None:
    assert doubts({"milk": 5, "tea": 4}, FINE) == []
    assert doubts({"milk": 5}, None) == []
    (alone,) = doubts({"milk": 1, "tea": 4, "jam": 1}, FINE)
    assert alone.startswith("2 of 3 labels have one picture")
    (unknown,) = doubts({"milk": 5, "tea": 4}, msgspec.structs.replace(FINE, recognised=2))
    assert "of 100 entries only 2 are recognised by others of their label" in unknown
    assert "edgebone fit BUNDLE --data FOLDER" in unknown


def test_enrolling_says_that_most_will_be_unknown(layout_bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label, pictures in (("milk", 4), ("tea", 4), ("jam", 1)):
        folder = tmp_path / "products" / label
        folder.mkdir(parents=True)
        for number in range(pictures):
            # Pictures of one label have nothing in common.
            blocks = cv2.resize(rng.integers(0, 255, (4, 4, 3), np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(folder / f"{number}.png"), blocks)
    gallery = tmp_path / "products.gallery"
    asked = ("gallery", "enrol", gallery, tmp_path / "products", "--model", layout_bundle)
    done = edgebone(*asked)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said[0].startswith("edgebone: 1 of 3 labels has one picture, which does not show how others")
    assert said[1].startswith("edgebone: most pictures will be unknown: of 8 entries only ")
    gallery.unlink()
    found: dict[str, Any] = json.loads(edgebone(*asked, "--json").stdout)
    assert len(found["doubts"]) == 2
