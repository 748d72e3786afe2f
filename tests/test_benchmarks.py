"""The benchmarks run, and write the figures that they print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgebone.tune.tuner import tune
from edgebone_export import export
from edgebone_export.importers.importer import HeadSpec, import_onnx
from support import ROOT, foreign
from support.bundles import write_boxes_bundle
from support.networks import classifier, write_network, write_pictures
from support.pictures import RED, picture, write_video

BENCHMARKS = ROOT / "benchmarks"


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_engine_overhead_compares_every_engine_with_its_bare_library(colors_bundle: Path, tmp_path: Path) -> None:
    figures, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    out = run("engine_overhead.py", colors_bundle, "--turns", 1, "--json", figures, "--plot", plot)
    rows = json.loads(figures.read_text())["rows"]
    assert [row["engine"] for row in rows] == ["onnxruntime fp32", "openvino fp32", "openvino bf16"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["edgebone_fps"] / row["bare_fps"])
        assert f"{row['ratio']:.3f}" in out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_bundles_graph_is_timed_against_its_file(tmp_path: Path) -> None:
    file, figures = foreign.yolo11(tmp_path / "yolo11.onnx", 3), tmp_path / "figures.json"
    spec = HeadSpec("yolov8", labels=("a", "b", "c"))
    import_onnx(file, tmp_path / "b.bundle", heads=spec, preprocess="ultralytics")
    out = run("graph_against_file.py", f"{file}={tmp_path / 'b.bundle'}", "--turns", 1, "--json", figures)
    rows = json.loads(figures.read_text())["rows"]
    assert [row["engine"] for row in rows] == ["onnxruntime fp32", "openvino f32", "openvino bf16"]
    for row in rows:
        assert f"{row['bundle_core_ms']:.2f}" in out


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "network.bundle", classifier())


@pytest.mark.slow
def test_precisions_are_compared_with_the_naive_ways(network: Path, tmp_path: Path) -> None:
    photos, figures = write_pictures(tmp_path / "photos", 8), tmp_path / "figures.json"
    out = run(
        "precisions.py",
        network,
        "--calibrate",
        photos,
        "--eval",
        photos,
        "--pictures",
        8,
        "--turns",
        1,
        "--json",
        figures,
    )
    rows = {row["way"]: row for row in json.loads(figures.read_text())["rows"]}
    assert {"onnxruntime fp32", "openvino fp32", "onnxruntime, quantize_static defaults"} <= set(rows)
    assert rows["onnxruntime fp32"]["gain"] == 1
    assert all(f"{row['agreement']:.2f}" in out for row in rows.values())


@pytest.mark.slow
def test_the_plan_is_held_against_benchmark_app(network: Path, tmp_path: Path) -> None:
    photos, figures = write_pictures(tmp_path / "photos", 3), tmp_path / "figures.json"
    tune(str(network), photos, goal="throughput", seconds=0.1)
    out = run("tuned_against_benchmark_app.py", network, "--seconds", 1, "--turns", 1, "--json", figures)
    found = json.loads(figures.read_text())
    assert len(found["benchmark_app"]) == 4
    assert f"the plan reaches {100 * found['of_best']:.1f} % of benchmark_app's best" in out


@pytest.mark.slow
def test_the_table_of_tensorrt_rtx_says_what_builds(network: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run("tensorrt_rtx_table.py", network, "--json", figures)
    rows = {row["precision"]: row for row in json.loads(figures.read_text())["rows"]}
    assert set(rows) == {"fp32", "int8", "fp16", "bf16", "fp8", "int4"}
    assert rows["int8"]["zero_points"] == "int8 0"
    assert "no operator of the network can be lowered to int4" in rows["int4"]["fails"]


@pytest.mark.slow
def test_footprint_measures_the_environment_that_runs_it(colors_bundle: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), picture(RED))
    video = write_video(tmp_path / "red.mp4", [RED] * 5)
    figures = tmp_path / "figures.json"
    run(
        "footprint.py", colors_bundle, "--picture", tmp_path / "red.png", "--source", video, "--runs", 1,
        "--json", figures,
    )  # fmt: skip
    found = json.loads(figures.read_text())
    assert found["start_to_first_result_ms"] > found["import_whole_api_over_python_ms"]
    assert found["peak_memory_streaming_mb"] > 30
    assert found["environment_size_mb"] > 100


@pytest.mark.slow
def test_export_parity_lists_each_model(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    out = run("export_parity.py", "mobilenet_v3_small", "--json", figures)
    (row,) = json.loads(figures.read_text())["rows"]
    assert row["model"] == "mobilenet_v3_small"
    assert row["parity"]["max_rel"] < 1e-3
    assert "mobilenet_v3_small" in out


@pytest.mark.slow
def test_the_sweep_counts_what_passes_and_what_is_refused_in_words(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    out = run("sweep.py", "timm/lcnet_035", "no_such_net", "--kinds", "features", "--json", figures)
    passed, refused = json.loads(figures.read_text())["rows"]
    assert (passed["result"], passed["strides"]) == ("passed", [2, 4, 8, 16, 32])
    assert passed["max_rel"] < 1e-3
    assert passed["cpu_s"] > 0
    assert refused["result"] == "refused"
    assert refused["words"].startswith("no model named no_such_net")
    assert "2 exports of 2 networks: {'passed': 1, 'refused': 1}" in out
    late = run("sweep.py", "timm/lcnet_035", "--kinds", "logits", "--limit-s", 0.01, "--json", figures)
    assert "timed out" in late
    # What the file has is kept.
    assert "3 exports of 2 networks: {'passed': 1, 'refused': 1, 'timed out': 1}" in late
    assert json.loads(figures.read_text())["rows"][:2] == [passed, refused]


@pytest.mark.slow
def test_networks_at_their_defaults_are_held_against_the_library(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    out = run("default_sizes.py", "ssdlite320_mobilenet_v3_large", "lraspp_mobilenet_v3_large", "--json", figures)
    boxes, areas = json.loads(figures.read_text())["rows"]
    assert (boxes["result"], areas["result"]) == ("passed", "passed"), out
    assert boxes["matched_library"] >= 0.99 and boxes["boxes"] > 0
    assert areas["matched"] >= 0.99 and areas["matched_library"] is None
    assert max(boxes["max_steps"], areas["max_steps"]) < 2


@pytest.mark.slow
def test_merged_layers_are_timed_in_turns_and_held_together(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run("merged_layers.py", "mobileone_s0", "--turns", 1, "--json", figures)
    (row,) = json.loads(figures.read_text())["rows"]
    assert row["parity"]["max_rel"] < 1e-3
    assert row["nodes"][1] < row["nodes"][0] / 2
    assert row["merged_ms"] > 0 and row["trained_ms"] > 0


@pytest.mark.slow
def test_cameras_on_one_engine_are_fresh_and_counted(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run("real_time.py", "--cameras", 4, "--seconds", 2, "--frames", 100, "--json", figures)
    found = json.loads(figures.read_text())["freshness"]
    assert found["counted_exactly"]
    assert 0 < found["least_share"] <= 1
    assert 0 < found["age_p50_ms"] <= found["age_p99_ms"] <= found["age_max_ms"]
    assert 0 < found["delivered_fps"] < 125


@pytest.mark.slow
def test_a_frame_through_the_tensorrt_engine_is_accounted_for(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    out = run("tensorrt_frame_account.py", "--json", figures)
    assert "no GPU was used" in out
    assert "floor" in out
    assert figures.stat().st_size > 100


@pytest.mark.slow
def test_a_head_for_groceries_is_fitted_twice_and_looked_at_on_other_photos(tmp_path: Path) -> None:
    bundle = write_network(tmp_path / "network.bundle", classifier(batch="batch"), (1, 4))
    dataset = tmp_path / "dataset"
    (dataset / "photos").mkdir(parents=True)
    columns = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)"
    (dataset / "classes.csv").write_text(f"{columns}\nTomato,0,Tomato,0\nCucumber,1,Cucumber,1\n")
    for name, each in (("train", 8), ("val", 3)):
        rows = []
        for number, bgr in enumerate(((40, 40, 220), (60, 200, 40))):
            for index in range(each):
                file = f"photos/{name}{number}_{index}.png"
                noise = np.random.default_rng(len(rows) + each).normal(0, 20, (40, 40, 3))
                cv2.imwrite(str(dataset / file), np.clip(np.asarray(bgr) + noise, 0, 255).astype(np.uint8))
                rows.append(f"{file}, {number}, {number}")
        (dataset / f"{name}.txt").write_text("\n".join(rows) + "\n")
    figures = tmp_path / "figures.json"
    out = run("grocery.py", dataset, bundle, "--json", figures)
    (row,) = json.loads(figures.read_text())["rows"]
    assert row["held_out"]["n"] == 6
    assert row["held_out"]["value"] == 1
    assert f"{100 * row['cross_validation']['value']:.2f}" in out


@pytest.mark.slow
def test_features_are_held_against_the_engine_alone(network: Path, tmp_path: Path) -> None:
    photos, figures = write_pictures(tmp_path / "photos", 6), tmp_path / "figures.json"
    out = run("features_speed.py", network, photos, "--turns", 1, "--views", 3, "--json", figures)
    rows = json.loads(figures.read_text())["rows"]
    assert [row["task"] for row in rows] == ["features, 3 views", "evaluation"]
    assert all(row["same_to_the_bit"] for row in rows)
    assert f"{rows[0]['ways']['edgebone']['views_a_second']:.1f} views/s" in out


@pytest.mark.slow
def test_heads_on_one_backbone_are_held_against_networks_of_their_own(tmp_path: Path) -> None:
    bundle, figures = tmp_path / "network.bundle", tmp_path / "figures.json"
    export("mobilenet_v3_small", bundle, weights="random", size_hw=(64, 64))
    out = run("heads_cost.py", bundle, "--turns", 1, "--swaps", 2, "--json", figures)
    found = json.loads(figures.read_text())
    ways = {row["way"] for row in found["rows"]}
    assert {"1 network, 5 linear heads", "5 detached linear heads", "5 networks", "1 network, 2 dense heads"} <= ways
    assert all(row["lost"] == 0 and row["swaps_seen"] == 2 for row in found["swaps"])
    assert "2 swaps, 2 seen in the results, 0 of" in out


@pytest.mark.slow
def test_lanes_and_road_on_a_detectors_pass_are_held_against_two_networks(tmp_path: Path) -> None:
    foreign.yolox(tmp_path / "yolox.onnx", 3)
    foreign.lanes(tmp_path / "lanes.onnx")
    detector = HeadSpec("yolox", labels=("bus", "car", "truck"))
    import_onnx(tmp_path / "yolox.onnx", tmp_path / "yolox.bundle", heads=detector, preprocess="yolox")
    areas = {name: HeadSpec("segmentation", labels=("background", name)) for name in ("da", "ll")}
    import_onnx(tmp_path / "lanes.onnx", tmp_path / "lanes.bundle", heads=areas, preprocess="stretch")
    video, rng = tmp_path / "drive.mp4", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25, (192, 128))
    for _ in range(30):
        writer.write(cv2.resize(rng.integers(0, 256, (8, 12, 3), np.uint8), (192, 128)))
    writer.release()
    figures = tmp_path / "figures.json"
    out = run(
        "driving.py", tmp_path / "yolox.bundle", tmp_path / "lanes.bundle", video, "--turns", 1, "--epochs", 1,
        "--json", figures,
    )  # fmt: skip
    found = json.loads(figures.read_text())
    assert found["frames"] == {"fitted_on": 7, "held_out_from": 20}
    assert {"background", "pixel_accuracy", "pictures"} < found["iou_held_out"]["lane"].keys()
    assert all(row["largest_difference"] < 1e-3 for row in found["boxes"].values())
    assert "one backbone, three heads" in out


@pytest.mark.slow
def test_reading_videos_is_held_against_opencv(tmp_path: Path) -> None:
    out = run("video_files.py", "--turns", 1, "--json", tmp_path / "figures.json")
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["video"] for row in rows] == ["540p", "1080p"]
    for row in rows:
        assert f"{row['core_ms_ratio']:.2f}" in out


@pytest.mark.slow
def test_a_cascade_is_timed_on_every_box_and_once_a_track(colors_batch_bundle: Path, tmp_path: Path) -> None:
    detector = write_boxes_bundle(tmp_path / "finder.bundle", "found")
    video, figures = write_video(tmp_path / "a.mp4", [(200, 200, 200)] * 20), tmp_path / "figures.json"
    run("cascade.py", detector, colors_batch_bundle, video, "--rounds", 1, "--json", figures)
    rows = {row["side"]: row for row in json.loads(figures.read_text())["rows"]}
    assert rows["every box on every frame"]["crops_a_frame"] == 3
    # Tracks begin at the second of twenty frames.
    assert rows["once a track, again after 5 s"]["crops_a_frame"] == pytest.approx(3 / 20)


@pytest.mark.slow
def test_tiles_are_measured_on_composed_frames(tmp_path: Path) -> None:
    detector, figures = write_boxes_bundle(tmp_path / "finder.bundle", "found"), tmp_path / "figures.json"
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), picture(RED, (270, 320)))
    images = [{"id": number, "file_name": "a.png"} for number in range(24)]
    # Each picture is one object of the class that the network finds in it.
    boxes = [{"image_id": number, "category_id": 1, "bbox": [0, 0, 320, 270]} for number in range(24)]
    small = {"image_id": 0, "category_id": 1, "bbox": [5, 5, 10, 10]}
    content = {"images": images, "annotations": [*boxes, small], "categories": [{"id": 1, "name": "red"}]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    run("tiles.py", detector, tmp_path, "--json", figures)
    rows = {row["tiles"]: row for row in json.loads(figures.read_text())["rows"]}
    assert {row["recall_small"] for row in rows.values()} == {0.0}
    assert rows["the whole frame"]["recall_large"] == 0.0
    # All is one colour, so what every tile cuts off is one object.
    assert rows["6x4"]["recall_large"] == 0.0
