"""Runs the command of each example, on small networks in the places of the real ones."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgebone.core.manifest import Head
from support import ROOT, foreign
from support.bundles import write_boxes_bundle, write_colors_bundle
from support.networks import classifier, write_network
from support.pages import EXAMPLES, commands
from support.pictures import BLUE, GREEN, RED, picture, write_video


def run(name: str, folder: Path) -> str:
    """What an example prints, run as its README says it in a folder that has ``examples`` and ``demo-out``."""
    (command,) = commands(ROOT / "examples" / name / "README.md")
    python, *arguments = shlex.split(command)
    assert python == "python"
    (folder / "examples").symlink_to(ROOT / "examples")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_photo(path: Path, bgr: tuple[int, int, int] = GREEN) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(bgr, (96, 128))[..., ::-1]).save(path)
    return path


def write_products(folder: Path) -> Path:
    """Twelve noisy pictures of one colour a class."""
    rng = np.random.default_rng(0)
    for name, bgr in (("bread", BLUE), ("milk", GREEN), ("tea", RED)):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            noisy = np.asarray(bgr) * 0.7 + 40 + rng.normal(0, 20, (48, 64, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)[..., ::-1]).save(folder / name / f"{number}.png")
    return folder


def test_an_example_is_a_folder_with_one_command_and_one_short_program() -> None:
    assert len(EXAMPLES) == 8
    listed = (ROOT / "examples" / "README.md").read_text()
    for page in EXAMPLES:
        (program,) = page.parent.glob("*.py")
        assert program.stem == page.parent.name
        assert len(program.read_text().splitlines()) <= 40
        assert len(commands(page)) == 1
        assert f"({page.parent.name}/README.md)" in listed


def test_a_photo_is_named_and_saved(tmp_path: Path) -> None:
    write_colors_bundle(tmp_path / "demo-out" / "mobilenet_v2.bundle")
    write_photo(tmp_path / "demo-out" / "photos" / "chelsea.jpg")
    assert run("photo", tmp_path).startswith("demo-out/photos/chelsea.jpg: green ")
    with Image.open(tmp_path / "chelsea-seen.jpg") as seen:
        assert seen.size == (128, 96)


def test_every_result_of_a_camera_is_a_line(tmp_path: Path) -> None:
    write_colors_bundle(tmp_path / "demo-out" / "mobilenet_v2.bundle")
    shown = run("camera", tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    assert f": {len(lines)} results, {60 - len(lines)} frames dropped" in shown
    assert {"source", "frame", "position_s", "classes"} <= lines[0].keys()


def test_zones_say_who_enters(tmp_path: Path) -> None:
    pytest.importorskip("trackers")
    write_boxes_bundle(tmp_path / "yolox.bundle", "found")
    (tmp_path / "demo-out").mkdir()
    write_video(tmp_path / "demo-out" / "photos.mp4", [GREEN] * 12)
    shown = run("zones", tmp_path)
    assert "s: green 1 enters counter" in shown
    assert "{'enter': 1}" in shown


def test_a_shelf_tells_what_runs_out(tmp_path: Path) -> None:
    head = Head("classification@1", ("logits",), ("bread", "milk", "tea", "empty"), {"activation": "softmax"})
    write_colors_bundle(tmp_path / "products.bundle", heads={"classification": head})
    write_video(tmp_path / "shelf.mp4", [GREEN] * 6)
    shown = run("shelf", tmp_path)
    assert "tea out of stock" in shown
    assert "milk 3" in shown
    assert "misplaced" in shown


@pytest.mark.slow
def test_an_own_module_becomes_a_bundle_that_runs(tmp_path: Path) -> None:
    write_photo(tmp_path / "demo-out" / "photos" / "chelsea.jpg")
    assert "Parity(" in (shown := run("own_module", tmp_path))
    assert any(name in shown for name in ("bread", "milk", "tea"))


@pytest.mark.slow
def test_an_own_onnx_file_becomes_a_bundle_that_runs(tmp_path: Path) -> None:
    foreign.yolox(tmp_path / "yolox_nano.onnx", 4)
    (tmp_path / "classes.txt").write_text("person\ncup\ncat\ndog\n")
    write_photo(tmp_path / "demo-out" / "photos" / "coffee.jpg")
    assert "Parity(" in run("own_onnx", tmp_path)


@pytest.mark.slow
def test_a_head_tells_the_classes_of_a_folder(tmp_path: Path) -> None:
    write_network(tmp_path / "demo-out" / "mobilenet_v2.bundle", classifier(batch="batch"), (1, 4))
    write_products(tmp_path / "products")
    shown = run("head", tmp_path)
    assert shown.splitlines()[-1].startswith("milk ")
    assert "Accuracy(" in shown


@pytest.mark.slow
def test_several_heads_share_a_pass_at_rates_of_their_own(tmp_path: Path) -> None:
    write_network(tmp_path / "demo-out" / "mobilenet_v2.bundle", classifier(batch="batch"), (1, 4))
    write_products(tmp_path / "products")
    write_video(tmp_path / "demo-out" / "photos.mp4", [GREEN] * 8)
    head, *lines = run("several_heads", tmp_path).splitlines()
    assert head == "heads: classification, product, looks"
    assert ["looks" in line for line in lines] == [True, False, False, True, False, False]
    assert all("'product': 'milk " in line for line in lines)
