"""Plans: what is measured, what wins, and who follows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import Update, update_bundle
from edgebone.core.errors import EngineError, OutputError, SourceError
from edgebone.core.machine import Machine
from edgebone.core.manifest import Accuracy, Manifest, Parity, Plan, Variant
from edgebone.engines.spec import Candidate
from edgebone.tune import tuner
from edgebone.tune.measure import Failed, Speed, measure_in_own_process
from edgebone.tune.space import BASELINE, candidates_to_measure
from edgebone.tune.tuner import tune
from support.bundles import write_colors_bundle, write_meanwhile
from support.pictures import BLUE, GREEN, RED, picture

MACHINE = Machine(
    system="Linux 6.1", arch="x86_64", cpu="a", cores=4, cpu_features=("avx512_bf16",), memory_gb=8.0, gpus=(),
    driver="", jetson="", l4t="", python="3.11", packages={"onnxruntime": "1", "openvino": "2"},
    onnxruntime_providers=(),
)  # fmt: skip
PARITY = Parity(0.0, 0.0, 1.0, 1)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = ["file,class_index"]
    for index, (color, label) in enumerate([(BLUE, 0), (GREEN, 1), (RED, 2)]):
        assert cv2.imwrite(str(folder / f"{index}.png"), picture(color))
        rows.append(f"{index}.png,{label}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


def with_variants(path: Path, variants: dict[str, Variant], batch: tuple[int, int] = (1, 1)) -> Manifest:
    with open_bundle(write_colors_bundle(path, batch)) as opened:
        return msgspec.structs.replace(opened.manifest, variants={**opened.manifest.variants, **variants})


def test_what_is_measured_are_all_that_fit_and_the_baseline_first(tmp_path: Path) -> None:
    int8 = Variant("onnx/fp32.onnx", "int8", (1, 1), PARITY, ("openvino",))
    trt = Variant("onnx/fp32.onnx", "fp16", (1, 1), PARITY, ("tensorrt",))
    manifest = with_variants(tmp_path / "b", {"int8-openvino": int8, "fp16": trt})
    fits, rejects = candidates_to_measure(manifest, MACHINE, "latency")
    assert fits[0] == BASELINE
    kinds = {(item.engine, item.precision, item.variant) for item in fits}
    assert kinds == {
        ("onnxruntime", "fp32", "fp32"), ("openvino", "fp32", "fp32"), ("openvino", "bf16", "fp32"),
        ("openvino", "int8", "int8-openvino"), ("openvino", "int8+bf16", "int8-openvino"),
    }  # fmt: skip
    assert {item.threads for item in fits} == {None, 2}
    assert {item.hint for item in fits} == {"latency"}
    assert any("no NVIDIA GPU" in reject.reason for reject in rejects)
    plain, _ = candidates_to_measure(manifest, msgspec.structs.replace(MACHINE, cpu_features=()), "latency")
    assert not any("bf16" in item.precision for item in plain)


def test_throughput_tries_hints_and_batches_up_to_the_cameras(tmp_path: Path) -> None:
    manifest = with_variants(tmp_path / "b", {}, (1, 4))
    fits, _ = candidates_to_measure(manifest, MACHINE, "throughput")
    assert {item.batch for item in fits} == {None, 1, 2, 4}
    assert {item.hint for item in fits} == {"latency", "throughput"}
    fits, _ = candidates_to_measure(manifest, MACHINE, "throughput", cameras=2)
    assert {item.batch for item in fits} == {None, 1, 2}


@pytest.mark.slow
def test_a_plan_is_measured_written_shown_and_followed(tmp_path: Path, photos: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle", (1, 4))
    program = str(Path(sys.executable).with_name("edgebone"))
    plot = tmp_path / "pareto.png"
    command = [program, "tune", str(bundle), "--eval", str(photos), "--seconds", "0.1", "--plot", str(plot), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    image = cv2.imread(str(plot))
    assert image is not None
    assert np.ptp(image) > 100
    plan = found["plan"]
    assert (plan["goal"], plan["machine"]) == ("latency", str(Machine.probe()))
    speeds = {json.dumps(item["candidate"]): item["speed"]["p50_ms"] for item in found["entries"]}
    assert len(speeds) >= 4
    # Never slower than plain FP32 onnxruntime in the same measurement.
    assert plan["p50_ms"] <= plan["fp32_p50_ms"]
    assert {"onnxruntime", "openvino"} <= set(plan["engines"])
    counted = [item for item in found["entries"] if item["accuracy"]]
    assert all(item["accuracy"]["metric"] == "top-1" and item["accuracy"]["fp32"] == 100 for item in counted)
    assert sum(item["best"] for item in counted) >= 1
    shown = subprocess.run([program, "inspect", str(bundle)], capture_output=True, text=True, check=False).stdout
    assert "plain FP32 onnxruntime" in shown
    with edgebone.load(bundle) as model:
        assert (model.candidate.engine, model.candidate.precision) == (plan["engine"], plan["precision"])
        assert model(str(photos / "0.png")).label == "blue"  # type: ignore[union-attr]


def write_plan(bundle: Path, **changes: object) -> None:
    parts: dict[str, object] = {
        "machine": "this", "goal": "throughput", "engine": "onnxruntime", "variant": "fp32", "precision": "fp32",
        "hint": "throughput", "threads": 1, "batch": 4, "p50_ms": 1.5, "fps": 900.0, "fp32_p50_ms": 3.0,
        "fp32_fps": 300.0, "accuracy": None, "measured_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    plan = Plan(**{**parts, **changes})  # type: ignore[arg-type]
    update_bundle(bundle, lambda now: Update(msgspec.structs.replace(now, plans={Machine.probe().key: plan})))


def test_load_follows_the_plan_unless_told_otherwise(tmp_path: Path, photos: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle", (1, 4))
    write_plan(bundle)
    with edgebone.load(bundle) as model:
        assert model.candidate == Candidate("onnxruntime", "fp32", "fp32", "throughput", 1, 4)
        assert "the plan measured on this machine: 1.50 ms, 900 fps" in str(model.choice)
        assert model.engine.in_flight == Machine.probe().cores
        # One picture is run in the plan's batch, and so are seven.
        assert model(str(photos / "1.png")).label == "green"  # type: ignore[union-attr]
        assert [item.label for item in model([picture(RED)] * 7)] == ["red"] * 7  # type: ignore[union-attr]
    with edgebone.load(bundle, offline=True) as model:
        assert model.candidate.batch == 4
    own: tuple[dict[str, Any], ...] = (
        {"engine": "openvino"},
        {"precision": "fp32"},
        {"threads": 2},
        {"hint": "throughput"},
        {"hint": "latency"},
    )
    for said in own:
        with edgebone.load(bundle, **said) as model:
            assert model.candidate.batch is None


def test_a_plan_that_never_saw_an_engine_that_is_here_does_not_shadow_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle", (1, 4))
    write_plan(bundle, engines=("onnxruntime",))
    with edgebone.load(bundle) as model:
        assert model.candidate == Candidate("openvino", "fp32", "fp32")
        assert "the plan was measured without openvino" in str(model.choice)
    assert [record.getMessage() for record in caplog.records] == [
        f"{bundle}: this machine's plan was measured without openvino and is not followed; "
        "measure again with: edgebone tune"
    ]
    with edgebone.load(bundle, engine="onnxruntime") as model:
        assert model.candidate.engine == "onnxruntime"
    write_plan(bundle, engines=("onnxruntime", "openvino"))
    with edgebone.load(bundle) as model:
        assert model.candidate.batch == 4
    assert len(caplog.records) == 1


def test_a_stream_gathers_the_plans_batch_and_loses_no_frame(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle", (1, 4))
    write_plan(bundle, engine="openvino", threads=None)
    frames = [picture((BLUE, GREEN, RED)[index % 3]) for index in range(10)]
    with edgebone.load(bundle) as model:
        ran: list[int] = []
        prepare = model.prepare
        model.prepare = lambda images, buffer: ran.append(len(images)) or prepare(images, buffer)  # type: ignore[method-assign,func-returns-value,assignment]
        stream = model.stream(frames)
        seen = [(frame.index, result.label) for frame, result in stream]  # type: ignore[union-attr]
    assert seen == [(index, ("blue", "green", "red")[index % 3]) for index in range(10)]
    assert ran == [4, 4, 2]
    assert stream.stats.frames == 10


def test_cameras_do_not_wait_for_a_batch_to_fill(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle", (1, 4))
    write_plan(bundle)
    with edgebone.load(bundle) as model:
        stream = model.stream("synthetic://64x48@30?frames=5", "synthetic://64x48@30?frames=5")
        assert 2 <= sum(1 for _ in stream) <= 10


def test_a_plan_of_another_machine_or_of_an_engine_that_is_gone_is_not_followed(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    write_plan(bundle, engine="onnxruntime-cuda", batch=None)
    with edgebone.load(bundle) as model:
        assert model.candidate.engine != "onnxruntime-cuda"
        assert "onnxruntime-cuda fp32 (throughput hint, 1 thread): this machine has no NVIDIA GPU" in str(model.choice)

    def move_plan(now: Manifest) -> Update:
        return Update(msgspec.structs.replace(now, plans={"0" * 16: next(iter(now.plans.values()))}))

    update_bundle(bundle, move_plan)
    with edgebone.load(bundle) as model:
        assert "the plan" not in str(model.choice)


def fake(monkeypatch: pytest.MonkeyPatch, speeds: dict[tuple[str, str], float]) -> list[Candidate]:
    """Candidates of made speeds, in ms; what is not in it fails."""
    asked: list[Candidate] = []

    def measured(bundle: str, candidate: Candidate, seconds: float) -> Speed | Failed:
        asked.append(candidate)
        ms = speeds.get((candidate.engine, candidate.precision))
        if ms is None:
            return Failed("it does not run")
        ms *= 1 if candidate.threads is None else 3
        return Speed(ms, ms, 1000 / ms, 1)

    monkeypatch.setattr(tuner, "measure_in_own_process", measured)
    return asked


def test_the_fastest_within_the_budget_wins(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    asked = fake(monkeypatch, {("onnxruntime", "fp32"): 4.0, ("openvino", "fp32"): 2.0})
    tuned = tune(str(bundle), photos, max_drop=0)
    assert (tuned.plan.engine, tuned.plan.p50_ms, tuned.plan.fp32_p50_ms) == ("openvino", 2.0, 4.0)
    assert not tuned.kept_baseline
    assert tuned.plan.accuracy is not None
    # Slow settings are looked at once, finalists in turns.
    slow = [item for item in asked if item.threads is not None]
    assert len(slow) == len(set(slow))
    assert asked.count(BASELINE) == 4


def test_where_nothing_is_better_plain_fp32_stays_and_is_said(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    fake(monkeypatch, {("onnxruntime", "fp32"): 2.0, ("openvino", "fp32"): 1.99})
    tuned = tune(str(bundle), photos)
    assert tuned.kept_baseline
    assert (tuned.plan.engine, tuned.plan.p50_ms) == ("onnxruntime", 2.0)


def test_a_plan_goes_into_the_bundle_as_it_is_now(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    fake(monkeypatch, {("onnxruntime", "fp32"): 4.0})
    tune(str(bundle), photos, progress=lambda step: write_meanwhile(bundle, "name") if step == "write" else None)
    with open_bundle(bundle) as opened:
        written = opened.manifest
    assert (written.name, len(written.plans)) == ("another", 1)
    with pytest.raises(OutputError, match="was changed by another process meanwhile"):
        tune(str(bundle), photos, progress=lambda step: write_meanwhile(bundle, "graph") if step == "write" else None)
    with open_bundle(bundle) as opened:
        assert opened.manifest.plans == written.plans


def test_a_faster_way_over_the_budget_does_not_win(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    fake(monkeypatch, {("onnxruntime", "fp32"): 4.0, ("openvino", "fp32"): 1.0})
    real = tuner.Rehearsal.accuracy

    def worse(self: object, score: object, engine: str) -> Accuracy:
        found = real(self, score, engine)  # type: ignore[arg-type]
        return msgspec.structs.replace(found, value=found.value - 5) if engine == "openvino" else found

    monkeypatch.setattr(tuner.Rehearsal, "accuracy", worse)
    assert tune(str(bundle), photos, max_drop=4).kept_baseline
    assert not tune(str(bundle), photos, max_drop=6).kept_baseline


def test_what_does_not_run_is_listed_and_the_baseline_must(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    fake(monkeypatch, {("onnxruntime", "fp32"): 4.0})
    tuned = tune(str(bundle), photos)
    assert any("openvino fp32" in line and "it does not run" in line for line in tuned.failed)
    fake(monkeypatch, {})
    with pytest.raises(EngineError, match="plain FP32 onnxruntime does not run: it does not run"):
        tune(str(bundle), photos)
    with pytest.raises(SourceError, match="nothing: no such file or folder"):
        tune(str(bundle), tmp_path / "nothing")
    with pytest.raises(EngineError, match="there is no goal power"):
        tune(str(bundle), photos, goal="power")  # type: ignore[arg-type]


def test_a_candidate_that_cannot_be_opened_gives_one_line(colors_bundle: Path) -> None:
    found = measure_in_own_process(str(colors_bundle), Candidate("onnxruntime-cuda", "fp32", "fp32"), 0.1)
    assert isinstance(found, Failed)
    assert "CUDAExecutionProvider" in found.reason
