"""The main job on real weights, real pictures and a real video."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import edgebone
from edgebone.evaluate.classification import evaluate_classifier, read_labels
from edgebone_export import export
from edgebone_export.errors import WeightsError
from edgebone_export.importers.conventions import find_labels
from edgebone_export.importers.importer import HeadSpec, import_onnx
from support import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def mobilenet_v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MobileNetV2 with its ImageNet weights, dynamic batch."""
    path = tmp_path_factory.mktemp("bundles") / "mobilenet_v2.bundle"
    try:
        export("mobilenet_v2", path, weights="IMAGENET1K_V1", batch=(1, 8))
    except WeightsError as error:
        pytest.skip(f"weights cannot be had here: {error}")
    return path


@pytest.mark.slow
def test_top1_is_that_of_eager_pytorch_on_every_engine(mobilenet_v2: Path, shared: Path, tmp_path: Path) -> None:
    labels, figures = shared / "data" / "imagenet-sample" / "labels.csv", tmp_path / "figures.json"
    command = [sys.executable, BENCHMARKS / "accuracy.py", mobilenet_v2, "--data", labels]
    command += ["--weights", "IMAGENET1K_V1", "--json", figures]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    eager, *engines = json.loads(figures.read_text())["rows"]
    assert eager["top1"] > 80
    assert {row["engine"] for row in engines} >= {"onnxruntime", "openvino"}
    for row in engines:
        # The target of the preprocessing's agreement; BF16 rounds on top of it.
        assert abs(row["top1"] - eager["top1"]) <= (0.3 if row["precision"] == "fp32" else 1.0), row


@pytest.mark.slow
def test_a_batch_counts_the_same_as_pictures_one_by_one(mobilenet_v2: Path, shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "imagenet-sample"
    lines = (folder / "labels.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:61]]
    data = tmp_path / "labels.csv"
    data.write_text("file,class_index\n" + "".join(f"{folder / row[0]},{row[1]}\n" for row in rows))
    with edgebone.load(mobilenet_v2, engine="onnxruntime") as model:
        pictures = read_labels(data, model.manifest.heads["classification"].labels)
        together = evaluate_classifier(model, "classification", pictures)
        hits = sum(model(item.path).class_id[0] == item.class_index for item in pictures)
    assert together.n == 60
    assert together.top1 == pytest.approx(100 * hits / 60, abs=0.001)


@pytest.mark.slow
def test_a_real_video_is_gone_through_frame_by_frame(mobilenet_v2: Path, shared: Path) -> None:
    video = shared / "data" / "driving" / "solidWhiteRight.mp4"
    with edgebone.load(mobilenet_v2) as model, model.stream(video) as stream:
        seen = [(frame.index, frame.position_s, frame.size_hw, result.label) for frame, result in stream]
    assert [index for index, *_ in seen] == list(range(221))
    assert {size for _, _, size, _ in seen} == {(540, 960)}
    assert seen[25][1] == pytest.approx(1.0, abs=0.05)
    assert stream.stats.frames == 221
    # A road seen from a car: ImageNet has no class "road", but vehicles and what stands at roads.
    assert any(label in {"trailer truck", "racer", "sports car", "moving van"} for *_, label in seen)


@pytest.mark.slow
def test_yolox_has_the_average_precision_of_a_plain_script(shared: Path, tmp_path: Path) -> None:
    model, data = shared / "models" / "yolox_nano.onnx", shared / "data" / "coco128" / "instances.json"
    script = BENCHMARKS / "coco_reference.py"
    wanted = json.loads(subprocess.run([sys.executable, script, model, data], capture_output=True, check=True).stdout)
    import_onnx(
        model, tmp_path / "b", heads=HeadSpec("yolox", labels=find_labels("coco")), preprocess="yolox",
        samples=data.parent / "images",
    )  # fmt: skip
    command = [
        Path(sys.executable).with_name("edgebone"),
        "eval",
        tmp_path / "b",
        "--data",
        data,
        "--json",
        "--precision",
        "fp32",
    ]
    for engine in ("onnxruntime", "openvino"):
        done = subprocess.run([*command, "--engine", engine], capture_output=True, check=True)
        found = json.loads(done.stdout)
        assert found["n"] == wanted["n"] == 64
        assert found["AP"] == pytest.approx(wanted["AP"], abs=0.003)
        assert found["AP50"] == pytest.approx(wanted["AP50"], abs=0.003)


@pytest.mark.slow
def test_twinlitenets_masks_are_those_of_a_plain_script(shared: Path, tmp_path: Path) -> None:
    model = shared / "models" / "twinlitenet.onnx"
    heads = {name: HeadSpec("segmentation", labels=("background", name)) for name in ("da", "ll")}
    import_onnx(model, tmp_path / "b", heads=heads, preprocess="stretch")
    script = BENCHMARKS / "lanes_reference.py"
    pictures = sorted((shared / "data" / "driving").glob("*.jpg"))[::4]
    done = subprocess.run([sys.executable, script, model, tmp_path / "b", *pictures], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert found["frames"] == len(pictures) > 2
    assert min(found["iou"].values()) >= 0.995
