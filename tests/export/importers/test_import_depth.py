"""Depth networks of other people: imported, run and evaluated; what contradicts itself is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgebone
from edgebone.core.depth import DepthMap
from edgebone_export.errors import ExportError
from edgebone_export.importers.importer import HeadSpec, import_onnx
from support.foreign import HW, depth
from support.program import edgebone as program

METRES = HeadSpec("depth", params={"unit": "metres"})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "images"
    folder.mkdir()
    for index, size_hw in enumerate([(64, 96), (120, 100)]):
        blocks = np.random.default_rng(index).integers(0, 256, (8, 12, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(blocks, size_hw[::-1], interpolation=cv2.INTER_NEAREST))
    return folder


def test_a_depth_network_is_imported_run_and_held_against_measured_distances(tmp_path: Path, pictures: Path) -> None:
    bundle = tmp_path / "far.bundle"
    import_onnx(depth(tmp_path / "m.onnx"), bundle, heads=METRES, preprocess="stretch", samples=pictures)
    depths = tmp_path / "data" / "depths"
    depths.mkdir(parents=True)
    with edgebone.load(bundle, engine="onnxruntime", precision="fp32") as model:
        for path in sorted(pictures.iterdir()):
            found = model(path)
            assert isinstance(found, DepthMap)
            assert found.values.shape == (8, 12)
            np.save(depths / f"{path.stem}.npy", found.full_size() * 1.1)
    done = program("eval", bundle, "--data", depths, "--images", pictures, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["AbsRel"] == pytest.approx(0.1 / 1.1, abs=1e-3)
    assert found["delta1"] == 1
    np.save(depths / "0.npy", np.ones((3, 3)))
    done = program("eval", bundle, "--data", depths, "--images", pictures)
    assert done.returncode == 4
    assert "the distances are 3x3, their picture, upright, 96x64" in done.stderr


def test_what_an_ultralytics_file_says_of_its_depth_is_taken(tmp_path: Path, pictures: Path) -> None:
    said = {
        "author": "Ultralytics", "task": "depth", "stride": "32", "names": "{0: 'depth'}", "imgsz": str(list(HW)),
    }  # fmt: skip
    file = depth(tmp_path / "m.onnx", said)
    report = import_onnx(file, tmp_path / "b.bundle", heads=HeadSpec("depth"), samples=pictures)
    assert report.manifest.heads["depth"].params == {"unit": "metres"}
    assert report.manifest.preprocess.mode == "stretch"
    with pytest.raises(ExportError, match="has task depth, read by depth, raw, embedding, features, not by yolov8"):
        import_onnx(file, tmp_path / "c.bundle", heads=HeadSpec("yolov8"), samples=pictures)


def test_a_depth_that_cannot_be_meant_is_refused(tmp_path: Path, pictures: Path) -> None:
    for file, head, words in (
        (depth(tmp_path / "a.onnx"), HeadSpec("depth"), "head depth: say what the numbers are: --set unit=metres"),
        (depth(tmp_path / "b.onnx", negative=True), METRES, "but none is negative: --set unit=relative"),
    ):
        with pytest.raises(ExportError, match=words):
            import_onnx(file, tmp_path / "x.bundle", heads=head, preprocess="stretch", samples=pictures)
    relative = HeadSpec("depth", params={"unit": "relative"})
    import_onnx(tmp_path / "b.onnx", tmp_path / "x.bundle", heads=relative, preprocess="stretch", samples=pictures)
