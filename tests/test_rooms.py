"""The house: no circle of imports between files, and each room imports what its row says and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from house_map import ROOTS, circles, floors, names_in, read_house

HOUSE = read_house()
# By room, the rooms of ours that it may import and the packages of others. A room's name without a root is of the same
# one. From low to high: a room imports those above it here.
ROWS = {
    "edgebone.core": ("", "av msgspec numpy pandas polars supervision"),
    "edgebone.tasks": ("core", "numpy"),
    "edgebone.decode": ("core tasks", "cv2 msgspec numpy"),
    "edgebone.engines": ("core", "cuda msgspec numpy onnxruntime openvino"),
    "edgebone.preprocess": ("core", "cv2 numpy PIL"),
    "edgebone.sinks": ("core tasks", "cv2 msgspec numpy PIL supervision"),
    "edgebone.sources": ("core", "av cv2 numpy PIL pillow_heif"),
    "edgebone.vision": ("core", "cv2 msgspec numpy trackers"),
    "edgebone.triton": ("core decode engines", "msgspec"),
    "edgebone.drawing": ("core sinks sources", "PIL"),
    "edgebone.evaluate": ("core decode engines preprocess sources tasks", "faster_coco_eval msgspec numpy"),
    "edgebone.stream": ("core engines preprocess sources", "numpy"),
    "edgebone.telemetry": ("core stream", "prometheus_client pynvml"),
    "edgebone.model": ("core decode drawing engines preprocess sources stream tasks", "numpy"),
    "edgebone.tune": ("core engines evaluate preprocess", "matplotlib msgspec"),
    "edgebone.bench": ("core engines model sources", "cv2 msgspec numpy"),
    "edgebone.gallery": ("core decode evaluate model preprocess sources tasks", "cv2 msgspec numpy usearch"),
    "edgebone.pipeline": ("core decode gallery model sinks sources stream tasks vision", "numpy"),
    "edgebone.labelling": ("core decode evaluate model sources tasks", "cv2 msgspec numpy"),
    "edgebone.selftest": ("core decode engines model preprocess sources", "numpy"),
    "edgebone": ("core gallery model sources stream", ""),
    "edgebone.cli": (
        "edgebone bench core decode engines evaluate gallery labelling model pipeline selftest sinks sources stream "
        "telemetry triton tune",
        "msgspec rich typer",
    ),
    "edgebone.__main__": ("cli", ""),
    "edgebone_export.errors": ("edgebone.core", ""),
    "edgebone_export.need_packages": ("edgebone.core", ""),
    "edgebone_export.given": ("edgebone.core errors", ""),
    "edgebone_export.demo": ("edgebone.core", "cv2 numpy skimage"),
    "edgebone_export.pictures": ("edgebone.core edgebone.sources", "cv2 numpy"),
    "edgebone_export.models": (
        "edgebone.core edgebone.preprocess errors given pictures",
        "huggingface_hub msgspec numpy PIL safetensors timm torch torchvision transformers",
    ),
    "edgebone_export.graphs": ("edgebone.core errors models", "numpy onnx onnx_ir onnxscript onnxslim torch"),
    "edgebone_export.proof": (
        "edgebone.core edgebone.decode edgebone.engines edgebone.preprocess edgebone.sources edgebone.tasks errors "
        "models",
        "cv2 numpy PIL torch",
    ),
    "edgebone_export.quantization": (
        "edgebone.core edgebone.decode edgebone.engines edgebone.evaluate edgebone.tasks errors graphs proof",
        "ml_dtypes msgspec nncf numpy onnx onnx_ir",
    ),
    "edgebone_export.bundling": ("edgebone.core edgebone.engines graphs proof", "cv2 msgspec numpy onnx_ir"),
    "edgebone_export.frame_input": (
        "edgebone.core edgebone.engines edgebone.preprocess edgebone.sources errors graphs pictures proof",
        "cv2 msgspec numpy onnx onnx_ir",
    ),
    "edgebone_export.exporter": (
        "edgebone.core bundling errors graphs models pictures proof quantization",
        "onnx_ir torch",
    ),
    "edgebone_export.importers": (
        "edgebone edgebone.core edgebone.decode edgebone.engines edgebone.evaluate edgebone.preprocess "
        "edgebone.selftest edgebone.tasks bundling errors given graphs models pictures proof quantization",
        "msgspec numpy onnx onnx_ir torchvision",
    ),
    "edgebone_export.heads": (
        "edgebone edgebone.core edgebone.decode edgebone.engines edgebone.evaluate edgebone.preprocess "
        "edgebone.sources edgebone.tasks errors exporter graphs models need_packages pictures quantization",
        "cv2 matplotlib msgspec numpy onnx onnx_ir scipy sklearn threadpoolctl torch",
    ),
    "edgebone_export": ("edgebone bundling exporter frame_input importers need_packages quantization", ""),
    "edgebone_export.cli": (
        "edgebone.cli edgebone.core edgebone.engines bundling errors exporter frame_input given heads importers models "
        "need_packages quantization",
        "msgspec rich typer",
    ),
}


def allowed(room: str) -> tuple[set[str], set[str]]:
    """A row's rooms, with their roots, and its packages."""
    rooms, packages = ROWS[room]
    root = room.split(".")[0]
    named = {name if name.split(".")[0] in ROOTS else f"{root}.{name}" for name in rooms.split()}
    return named, set(packages.split())


def test_no_files_import_each_other_in_a_circle() -> None:
    assert set(circles(HOUSE.imports)) == set()


def test_every_room_has_a_row_and_the_arrows_of_the_rows_point_down() -> None:
    assert ROWS.keys() == HOUSE.rooms.keys()
    rows = {room: allowed(room)[0] for room in ROWS}
    assert set().union(*rows.values()) <= ROWS.keys()
    assert set(circles(rows)) == set()
    runtime = {name for room, names in rows.items() if room.split(".")[0] == "edgebone" for name in names}
    assert not any(name.startswith("edgebone_export") for name in runtime)


@pytest.mark.parametrize("room", ROWS)
def test_a_room_imports_what_its_row_says(room: str) -> None:
    rooms, packages = allowed(room)
    assert HOUSE.rooms[room] <= rooms
    assert HOUSE.packages_of_rooms[room] <= packages


def test_an_import_counts_wherever_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nimport numpy as np\nif TYPE_CHECKING:\n    from edgebone.core import frame\n"
        "def f():\n    import edgebone.cli\n    importlib.import_module('edgebone.model')\n"
    )
    assert names_in(file) == {
        "typing.TYPE_CHECKING",
        "numpy",
        "edgebone.core.frame",
        "edgebone.cli",
        "edgebone.model",
    }


def test_circles_are_found_and_floors_are_counted() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a", "d"}}
    assert circles(graph) == [("b", "c")]
    assert floors(graph) == {"a": 2, "b": 1, "c": 1, "d": 0, "e": 3}


def test_anyone_can_print_the_map() -> None:
    program = Path(__file__).with_name("house_map.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    assert f"{len(HOUSE.rooms)} rooms, " in done.stdout
    assert "0 circles of files, 0 of rooms\nlongest: " in done.stdout
