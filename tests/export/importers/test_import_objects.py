"""YOLO's keypoints and oriented boxes: imported as ultralytics' files say; what contradicts itself is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.detections import Detections
from edgebone.core.keypoints import KeyPoints
from edgebone.core.oriented import rotated_iou
from edgebone_export.errors import ExportError
from edgebone_export.importers.importer import HeadSpec, import_onnx
from support.foreign import HW, yolo_obb, yolo_pose
from support.program import edgebone as program

SAID = {"author": "Ultralytics", "stride": "32", "imgsz": str(list(HW))}


def said(task: str, *names: str, **more: str) -> dict[str, str]:
    return {**SAID, "task": task, "names": str(dict(enumerate(names))), **more}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    for index, size_hw in enumerate([(64, 96), (120, 100)]):
        blocks = np.random.default_rng(index).integers(0, 256, (8, 12, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(blocks, size_hw[::-1], interpolation=cv2.INTER_NEAREST))
    return folder


def both(file: Path, kind: str, folder: Path, pictures: Path, **params: Any) -> list[tuple[Any, Any]]:
    """What the graph's decoding and the host's find in each picture."""
    found = []
    for decode in ("graph", "host"):
        spec = HeadSpec(kind, params={"score": 0.3, **params})
        import_onnx(file, folder / decode, heads=spec, decode=decode, samples=pictures)  # type: ignore[arg-type]
        with edgebone.load(folder / decode, engine="onnxruntime", precision="fp32") as model:
            found.append([model(path) for path in sorted(pictures.iterdir())])
    return list(zip(*found, strict=True))


@pytest.mark.parametrize("dims", [2, 3])
def test_keypoints_in_the_graph_are_the_hosts(dims: int, tmp_path: Path, pictures: Path) -> None:
    file = yolo_pose(tmp_path / "m.onnx", 2, 5, dims, said("pose", "cat", "dog", kpt_shape=str([5, dims])))
    for ours, wanted in both(file, "yolov8-pose", tmp_path, pictures):
        assert isinstance(ours, KeyPoints)
        assert len(ours) == len(wanted) > 3
        np.testing.assert_allclose(ours.xy, wanted.xy, atol=1e-3)
        assert (ours.keypoint_confidence is None) == (dims == 2)
        assert ours.skeleton.names == ("0", "1", "2", "3", "4")
    with open_bundle(tmp_path / "graph") as bundle:
        assert bundle.manifest.heads["keypoints"].decoder == "keypoints@1"
        assert bundle.manifest.outputs[0].shape[2] == 6 + 5 * dims


def test_oriented_boxes_in_the_graph_are_the_hosts(tmp_path: Path, pictures: Path) -> None:
    file = yolo_obb(tmp_path / "m.onnx", 2, said("obb", "plane", "ship"))
    for ours, wanted in both(file, "yolov8-obb", tmp_path, pictures):
        assert isinstance(ours, Detections)
        assert len(ours) == len(wanted) > 3
        assert (rotated_iou(ours["xyxyxyxy"], wanted["xyxyxyxy"]).max(axis=1) > 0.999).all()
    with open_bundle(tmp_path / "graph") as bundle:
        assert bundle.manifest.heads["oriented"].decoder == "oriented@1"


def test_coco_people_have_their_skeleton_and_other_names_are_taken(tmp_path: Path, pictures: Path) -> None:
    person = yolo_pose(tmp_path / "p.onnx", 1, 17, 3, said("pose", "person", kpt_shape="[17, 3]"))
    named = yolo_pose(
        tmp_path / "n.onnx", 1, 2, 3, said("pose", "fish", kpt_shape="[2, 3]", kpt_names="{0: ['head', 'tail']}")
    )
    # As ultralytics spells them.
    pairs = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    spelt = str({0: ["nose", *(f"{side}_{name}" for name in pairs for side in ("left", "right"))]})
    said_so = yolo_pose(tmp_path / "s.onnx", 1, 17, 3, said("pose", "person", kpt_shape="[17, 3]", kpt_names=spelt))
    for file, params, first, edges in (
        (person, {}, "nose", 19),
        (said_so, {}, "nose", 19),
        (person, {"skeleton": "0-1,1-2"}, "nose", 2),
        (named, {}, "head", 0),
        (named, {"keypoints": "left,right", "skeleton": [[0, 1]]}, "left", 1),
    ):
        heads = HeadSpec("yolov8-pose", params=params)
        report = import_onnx(file, tmp_path / "b.bundle", heads=heads, samples=pictures, overwrite=True)
        settings = report.manifest.heads["keypoints"].params
        assert (settings["keypoints"][0], len(settings["skeleton"])) == (first, edges)


@pytest.mark.parametrize(
    ("metadata", "params", "words"),
    [
        ({"kpt_shape": "[6, 3]"}, {}, r"\[batch, 24, boxes\] with 4 \+ 2 labels \(6 keypoints of 3 values\), the netw"),
        ({"kpt_shape": "[5, 3]"}, {"keypoints": "a,b"}, r"2 keypoints of 3 values given, .* kpt_shape \[5, 3\]"),
        ({"kpt_shape": "[5, 3]"}, {"dims": 2}, r"5 keypoints of 2 values given, .* has kpt_shape \[5, 3\]"),
        ({"kpt_shape": "[5, 3]"}, {"skeleton": "0-5"}, "joins keypoints 0 and 5, but there are 5, counted from 0"),
        ({"kpt_shape": "[5, 3]"}, {"skeleton": "nose-tail"}, "a skeleton cannot be 'nose-tail': --set keypoints="),
        ({"kpt_shape": "[5, 4]"}, {}, r"kpt_shape in an unknown form: \[5, 4\]"),
        ({"kpt_shape": "[1000000000, 3]"}, {}, "keypoints cannot be 1000000000: --set keypoints="),
        ({}, {}, "say which keypoints it has: --set keypoints="),
    ],
)
def test_keypoints_that_contradict_the_file_are_refused(
    metadata: dict[str, str], params: dict[str, Any], words: str, tmp_path: Path, pictures: Path
) -> None:
    file = yolo_pose(tmp_path / "m.onnx", 2, 5, 3, said("pose", "cat", "dog", **metadata))
    with pytest.raises(ExportError, match=words):
        import_onnx(file, tmp_path / "b", heads=HeadSpec("yolov8-pose", params=params), samples=pictures)
    assert not (tmp_path / "b").exists()


def test_a_file_that_says_nothing_is_asked_for_its_keypoints(tmp_path: Path) -> None:
    file = yolo_pose(tmp_path / "m.onnx", 1, 5, 3)
    arguments = ("import", file, "--decoder", "yolov8-pose", "--labels", "cat", "-o", tmp_path / "b.bundle")
    done = program(*arguments, "--preprocess", "ultralytics")
    assert (done.returncode, "say which keypoints it has: --set keypoints=" in done.stderr) == (8, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "b.bundle").exists()


def test_answers_with_boxes_prove_keypoints_too(tmp_path: Path, pictures: Path) -> None:
    file = yolo_pose(tmp_path / "m.onnx", 2, 5, 3, said("pose", "cat", "dog", kpt_shape="[5, 3]"))
    spec = HeadSpec("yolov8-pose")
    import_onnx(file, tmp_path / "a", heads=spec, samples=pictures)
    with edgebone.load(tmp_path / "a", engine="onnxruntime") as model:
        found = model(pictures / "0.png").to_dict()["detections"][:2]
    answers = [{key: entry[key] for key in ("label", "bbox")} for entry in found]
    (pictures / "answers.json").write_text(json.dumps({"0.png": answers}))
    report = import_onnx(file, tmp_path / "b", heads=spec, samples=pictures, expect=pictures / "answers.json")
    assert report.reading is not None
    assert report.reading.agreement == "2 of 2 expected answers in 1 pictures"


def test_angles_in_degrees_and_keypoints_in_shares_are_refused(tmp_path: Path, pictures: Path) -> None:
    degrees = yolo_obb(tmp_path / "d.onnx", 2, said("obb", "plane", "ship"), turn=90.0)
    with pytest.raises(ExportError, match=r"angles are .* as if in degrees, but they are read as radians: multiply"):
        import_onnx(degrees, tmp_path / "b", heads=HeadSpec("yolov8-obb"), samples=pictures)
    shares = yolo_pose(tmp_path / "s.onnx", 2, 5, 3, said("pose", "cat", "dog", kpt_shape="[5, 3]"), unit=(1, 1))
    with pytest.raises(ExportError, match="boxes are pixels, but no keypoint lies further than"):
        import_onnx(shares, tmp_path / "b", heads=HeadSpec("yolov8-pose"), samples=pictures)
