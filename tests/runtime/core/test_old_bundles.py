"""Bundles that an earlier version wrote open, run and verify; see tests/fixtures/bundles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.golden import read_golden
from edgebone.core.results import results_to_dict
from edgebone.engines.spec import Candidate
from edgebone.selftest import replay
from edgebone_export.heads.attach.attach import detach
from support import ROOT
from support.networks import tinted_picture
from support.program import edgebone as program

FOLDER = ROOT / "tests" / "fixtures" / "bundles"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
# What each is: a free batch and frame variants (BGR and NV12), boxes of several heads, a head in the graph and a
# detached one, an embedding for the gallery, and two exports with their reports.
NAMES = ("colors", "boxes", "heads", "embedding", "exported", "segments")


def assert_alike(have: Any, want: Any) -> None:
    if isinstance(want, dict):
        assert have.keys() == want.keys()
        for key, value in want.items():
            assert_alike(have[key], value)
    elif isinstance(want, list) and not all(isinstance(item, (int, float)) for item in want):
        assert len(have) == len(want)
        for one, other in zip(have, want, strict=True):
            assert_alike(one, other)
    elif isinstance(want, (list, float)):
        np.testing.assert_allclose(have, want, atol=2e-3)
    else:
        assert have == want


@pytest.mark.parametrize("name", NAMES)
def test_an_old_bundle_runs_as_it_did_and_gives_its_golden_sample(name: str) -> None:
    path = FOLDER / f"{name}.zip"
    with edgebone.load(path, engine="onnxruntime", precision="fp32") as model:
        assert_alike(results_to_dict(model(tinted_picture(1))), EXPECTED[name])
    with open_bundle(path) as bundle:
        for variant in bundle.manifest.variants:
            assert replay(bundle, read_golden(bundle), Candidate("onnxruntime", "fp32", variant)).passed


def test_all_that_is_kept_is_tried() -> None:
    assert {path.stem for path in FOLDER.glob("*.zip")} == {*NAMES} == EXPECTED.keys()


def test_an_old_bundles_frame_variants_take_frames() -> None:
    with edgebone.load(FOLDER / "colors.zip", engine="onnxruntime", frame_in_graph=True) as model:
        assert model.takes_frame((48, 64))
        assert model.takes_frame((48, 64), "nv12")


def test_an_old_gallery_names_what_it_named() -> None:
    with edgebone.load(FOLDER / "embedding.zip", engine="onnxruntime", precision="fp32") as model:
        gallery = edgebone.Gallery.load(FOLDER / "products.gallery")
        found: Any = model(tinted_picture(2))
        assert gallery.identify(found.vector).label == "product 2"


def test_an_old_head_comes_off_and_the_program_reads_it(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "heads.zip", tmp_path / "heads.zip")
    done = detach(tmp_path / "heads.zip", ["fruit"], tmp_path / "less.bundle", save=tmp_path)
    assert (tmp_path / "fruit.head").exists()
    said = program("inspect", done.path)
    assert said.returncode == 0, said.stderr
    assert "fruit" not in said.stdout
