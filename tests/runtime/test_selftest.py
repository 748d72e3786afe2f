"""The golden sample: what was proved at export is computed here too, or it is said."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgebone.core.bundle import Bundle, open_bundle
from edgebone.core.bundle_writing import write_bundle
from edgebone.core.errors import BundleError
from edgebone.core.golden import read_golden
from edgebone.engines.proved import Replay
from edgebone.engines.spec import Candidate
from edgebone.preprocess import preprocess
from edgebone.selftest import preprocess_off_by, replay
from edgebone.sources.golden_picture import read_golden_picture
from support.bundles import contents, tampered, write_boxes_bundle, write_colors_bundle
from support.machine import has_bf16, needs
from support.pictures import RED, picture

Tensors = dict[str, np.ndarray]
ORT = Candidate("onnxruntime", "fp32", "fp32")
ON_EVERY_ENGINE = pytest.mark.parametrize(
    ("engine", "precision"),
    [
        pytest.param("onnxruntime", "fp32", marks=needs("onnxruntime")),
        pytest.param("openvino", "fp32", marks=needs("openvino")),
        pytest.param(
            "openvino", "bf16", marks=[needs("openvino"), pytest.mark.skipif(not has_bf16(), reason="no BF16")]
        ),
    ],
)


@pytest.mark.parametrize("batch", [(1, 1), (1, 4), (4, 4)])
@ON_EVERY_ENGINE
def test_a_good_bundle_replays(tmp_path: Path, engine: str, precision: str, batch: tuple[int, int]) -> None:
    with open_bundle(write_colors_bundle(tmp_path / "a.bundle", batch)) as bundle:
        sample = read_golden(bundle)
        assert preprocess_off_by(bundle, sample) == 0
        found = replay(bundle, sample, Candidate(engine, precision, "fp32"))
    assert (found.engine, found.precision, found.passed, found.detail) == (engine, precision, True, "")
    assert found.max_rel < (1e-5 if precision == "fp32" else 0.05)
    assert found.cosine > 0.999


@needs("onnxruntime")
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["logits"].__imul__(1.01),
        lambda t: t["logits"].__setitem__((0, 1), np.nan),
        lambda t: t["logits"].__setitem__((0, 1), np.inf),
        lambda t: t.update(logits=-t["logits"]),
        lambda t: t.update(logits=np.zeros_like(t["logits"])),
        lambda t: t.update(logits=t["logits"][:, :3]),
        lambda t: t.update(logits=t["logits"][:, :1]),
    ],
    ids=["scaled", "nan", "inf", "negated", "zeros", "fewer", "broadcastable"],
)
def test_outputs_other_than_the_recorded_ones_fail(tmp_path: Path, change: Callable[[Tensors], object]) -> None:
    with open_bundle(tampered(tmp_path / "a.bundle", change)) as bundle:
        found = replay(bundle, read_golden(bundle), ORT)
    assert not found.passed
    assert found.detail


def test_preprocessing_other_than_the_recorded_one_is_measured(tmp_path: Path) -> None:
    def darken(tensors: Tensors) -> None:
        tensors["input"][0, 3, 3, 1] -= 9

    with open_bundle(tampered(tmp_path / "a.bundle", darken)) as bundle:
        assert preprocess_off_by(bundle, read_golden(bundle)) == 9


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("input"),
        lambda t: t.pop("logits"),
        lambda t: t.update(input=t["input"][0]),
        lambda t: t.update(input=t["input"].astype(np.float32)),
        lambda t: t.update(input=t["input"][:, :16]),
        lambda t: t.update(logits=np.array([{"a": 1}], object)),
    ],
    ids=["no input", "no output", "no batch", "floats", "smaller", "pickled"],
)
def test_an_incomplete_recording_is_refused(tmp_path: Path, change: Callable[[Tensors], object]) -> None:
    with open_bundle(tampered(tmp_path / "a.bundle", change)) as bundle, pytest.raises(BundleError, match="golden"):
        read_golden(bundle)


@pytest.mark.parametrize(
    ("file", "read"), [("golden/image.png", read_golden_picture), ("golden/tensors.npz", read_golden)]
)
@pytest.mark.parametrize("content", [b"", b"noise" * 50, b"PK\3\4", b"\x93NUMPY\1\0"])
def test_an_unreadable_recording_is_refused(
    tmp_path: Path, file: str, read: Callable[[Bundle], object], content: bytes
) -> None:
    manifest, files = contents(write_colors_bundle(tmp_path / "good.bundle"))
    path = write_bundle(tmp_path / "a.bundle", manifest, {**files, file: content})
    with open_bundle(path) as bundle, pytest.raises(BundleError, match="golden"):
        read(bundle)


def test_an_array_file_in_place_of_the_recording_is_refused(tmp_path: Path) -> None:
    manifest, files = contents(write_colors_bundle(tmp_path / "good.bundle"))
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    path = write_bundle(tmp_path / "a.bundle", manifest, {**files, "golden/tensors.npz": array.getvalue()})
    with open_bundle(path) as bundle, pytest.raises(BundleError, match="golden"):
        read_golden(bundle)


@needs("onnxruntime")
def test_the_tolerance_is_the_bundles(tmp_path: Path) -> None:
    manifest, files = contents(tampered(tmp_path / "a.bundle", lambda t: t["logits"].__imul__(1.01)))
    wide = msgspec.structs.replace(manifest, golden=msgspec.structs.replace(manifest.golden, max_rel=0.02))
    with open_bundle(write_bundle(tmp_path / "wide.bundle", wide, files)) as bundle:
        assert replay(bundle, read_golden(bundle), ORT).passed


def test_an_engine_that_does_not_open_is_a_failed_replay(tmp_path: Path) -> None:
    with open_bundle(write_colors_bundle(tmp_path / "a.bundle")) as bundle:
        found = replay(bundle, read_golden(bundle), Candidate("onnxruntime-cuda", "fp32", "fp32"))
    assert not found.passed
    assert found.detail


def test_the_recording_is_what_the_runtime_computes_from_the_picture(tmp_path: Path) -> None:
    with open_bundle(write_colors_bundle(tmp_path / "a.zip")) as bundle:
        sample = read_golden(bundle)
        out = np.zeros((32, 32, 3), np.uint8)
        preprocess(bundle.manifest.preprocess, read_golden_picture(bundle), out)
        assert np.array_equal(out, sample.network_input[0])
        preprocess(bundle.manifest.preprocess, picture(RED), out)
        assert not np.array_equal(out, sample.network_input[0])


@ON_EVERY_ENGINE
def test_boxes_are_looked_for_whatever_their_order(tmp_path: Path, engine: str, precision: str) -> None:
    def replayed(name: str, change: Callable[[Tensors], object]) -> Replay:
        with open_bundle(write_boxes_bundle(tmp_path / f"{name}.whole", "found")) as whole:
            manifest, files = whole.manifest, {file: whole.read(file) for file in whole.manifest.files}
        with np.load(io.BytesIO(files["golden/tensors.npz"])) as arrays:
            tensors = dict(arrays)
        change(tensors)
        recorded = io.BytesIO()
        np.savez(recorded, **tensors)
        path = write_bundle(tmp_path / name, manifest, {**files, "golden/tensors.npz": recorded.getvalue()})
        with open_bundle(path) as bundle:
            return replay(bundle, read_golden(bundle), Candidate(engine, precision, "fp32"))

    swapped = replayed("swapped", lambda tensors: tensors.update(boxes=tensors["boxes"][:, ::-1].copy()))
    assert (swapped.passed, swapped.matched) == (True, 1.0)

    def move(tensors: Tensors) -> None:
        tensors["boxes"][0, 1, 0] += 20

    moved = replayed("moved", move)
    assert not moved.passed
    assert moved.matched == 0
    assert "of the boxes must be the recorded ones" in moved.detail
