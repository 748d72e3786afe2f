"""The benchmarks run, and write the figures that they print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RED, picture, write_video

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


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


@pytest.mark.slow
def test_footprint_measures_the_environment_that_runs_it(colors_bundle: Path, tmp_path: Path) -> None:
    import cv2

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
