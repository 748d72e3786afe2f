"""A Triton repository: its config against Triton's own schema, and what a client can do with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import COLORS, colors_outputs, write_boxes_bundle, write_colors_bundle
from hypothesis import given
from hypothesis import strategies as st

import edgebone
from edgebone.core.bundle import open_bundle, update_bundle
from edgebone.core.errors import BundleError, OutputError
from edgebone.core.manifest import CompiledEngine, Preprocess
from edgebone.preprocess import preprocess
from edgebone.triton.config_text import to_text
from edgebone.triton.repository import export_triton

model_config = pytest.importorskip(
    "tritonclient.grpc.model_config_pb2", reason="Triton's schema comes with tritonclient[grpc], which is not installed"
)
text_format = pytest.importorskip("google.protobuf.text_format")


def parse(model: Path) -> object:
    return text_format.Parse((model / "config.pbtxt").read_text(), model_config.ModelConfig())


def test_a_static_bundle_fits_the_schema_and_its_graph(colors_bundle: Path, tmp_path: Path) -> None:
    import onnxruntime

    made = export_triton(str(colors_bundle), tmp_path / "repo")
    config = parse(made.path)
    assert (config.name, config.backend, config.max_batch_size) == ("colors", "onnxruntime", 0)
    session = onnxruntime.InferenceSession(made.path / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [list(item.dims) for item in config.input] == [session.get_inputs()[0].shape] == [[1, 32, 32, 3]]
    assert [item.name for item in config.output] == [item.name for item in session.get_outputs()]
    assert config.input[0].data_type == model_config.TYPE_UINT8
    assert config.output[0].data_type == model_config.TYPE_FP32
    assert not config.HasField("dynamic_batching")
    assert list(config.version_policy.specific.versions) == [1]
    labels = (made.path / config.output[0].label_filename).read_text().splitlines()
    assert tuple(labels) == COLORS


def test_a_free_batch_is_gathered_by_triton(colors_batch_bundle: Path, tmp_path: Path) -> None:
    made = export_triton(str(colors_batch_bundle), tmp_path / "repo", instances=2, delay_us=500)
    config = parse(made.path)
    assert config.max_batch_size == 4
    assert list(config.input[0].dims) == [32, 32, 3]
    assert list(config.output[0].dims) == [4]
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert config.instance_group[0].count == 2
    assert parse(export_triton(str(colors_batch_bundle), tmp_path / "two", max_batch=2).path).max_batch_size == 2


def test_the_warm_up_is_the_golden_input(colors_batch_bundle: Path, tmp_path: Path) -> None:
    made = export_triton(str(colors_batch_bundle), tmp_path / "repo")
    (warmup,) = parse(made.path).model_warmup
    (name,) = warmup.inputs
    data = np.frombuffer((made.path / "warmup" / warmup.inputs[name].input_data_file).read_bytes(), np.uint8)
    assert name == "images"
    assert data.size == np.prod(list(warmup.inputs[name].dims)) * warmup.batch_size
    assert data.reshape(32, 32, 3)[0, 0, 1] > 200


def test_several_heads_have_no_labels_but_their_own(tmp_path: Path) -> None:
    made = export_triton(str(write_boxes_bundle(tmp_path / "b.bundle")), tmp_path / "repo", name="found-2")
    config = parse(made.path)
    assert made.path.name == config.name == "found-2"
    assert [item.name for item in config.output] == ["boxes", "classes_of_pixels"]
    heads = json.loads(config.parameters["edgebone.heads"].string_value)
    assert set(heads) == {"found", "areas"}


def test_a_client_that_knows_only_the_config_gets_what_the_runtime_gives(colors_bundle: Path, tmp_path: Path) -> None:
    import onnxruntime

    made = export_triton(str(colors_bundle), tmp_path / "repo")
    config = parse(made.path)
    spec = msgspec.json.decode(config.parameters["edgebone.preprocess"].string_value, type=Preprocess)
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    prepared = np.zeros(list(config.input[0].dims), np.uint8)
    preprocess(spec, image, prepared[0])
    session = onnxruntime.InferenceSession(made.path / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {config.input[0].name: prepared})
    np.testing.assert_allclose(logits, colors_outputs(prepared), rtol=1e-4)
    labels = (made.path / config.output[0].label_filename).read_text().splitlines()
    with edgebone.load(colors_bundle) as model:
        assert labels[int(logits.argmax())] == model(image).label  # type: ignore[union-attr]


@given(st.text(max_size=40))
def test_any_text_survives_the_config(text: str) -> None:
    written = to_text({"name": text, "parameters": [{"key": "k", "value": {"string_value": text}}]})
    config = text_format.Parse(written, model_config.ModelConfig())
    assert config.name == config.parameters["k"].string_value == text


def test_names_that_are_no_folders_are_made_legal(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle", name="timm/resnet 18")
    assert export_triton(str(bundle), tmp_path / "repo").path.name == "timm_resnet_18"
    with pytest.raises(BundleError, match="a model's name has letters, digits"):
        export_triton(str(bundle), tmp_path / "repo", name="../up")


def test_tensorrt_wants_an_engine_and_takes_the_bundles(colors_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no TensorRT engine of variant fp32: edgebone compile .* --target tensorrt"):
        export_triton(str(colors_bundle), tmp_path / "repo", backend="tensorrt")
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    for target in ("tensorrt-rtx", "tensorrt"):
        with open_bundle(bundle) as opened:
            engine = CompiledEngine(f"engines/{target}/engine", target, "fp32", {}, 1.0, 6)
            changed = msgspec.structs.replace(opened.manifest, engines={**opened.manifest.engines, target: engine})
            update_bundle(opened, changed, {engine.file: b"engine"})
        if target == "tensorrt-rtx":
            with pytest.raises(BundleError, match="Triton does not serve TensorRT-RTX's engines"):
                export_triton(str(bundle), tmp_path / "repo", backend="tensorrt")
    made = export_triton(str(bundle), tmp_path / "repo", backend="tensorrt")
    assert parse(made.path).platform == "tensorrt_plan"
    assert (made.path / "1" / "model.plan").read_bytes() == b"engine"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 7, "exists; choose another --name, or replace it with --force"),
        (["--variant", "int9"], 3, "there is no variant int9, only fp32"),
        (["--backend", "caffe"], 3, "there is no backend caffe; choose onnxruntime"),
        (["--max-batch", "8"], 3, "its batch is 1 and fixed"),
    ],
)
def test_refusals_leave_the_repository_as_it_was(
    arguments: list[str], code: int, message: str, colors_bundle: Path, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    export_triton(str(colors_bundle), repo)
    before = sorted(path.relative_to(repo) for path in repo.rglob("*"))
    program = str(Path(sys.executable).with_name("edgebone"))
    command = [program, "export-triton", str(colors_bundle), "-o", str(repo), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert sorted(path.relative_to(repo) for path in repo.rglob("*")) == before
    assert subprocess.run([*command[:5], "--force"], check=False, capture_output=True).returncode == 0


def test_a_folder_of_another_kind_and_a_target_that_cannot_be_written_are_refused(
    colors_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "repo" / "colors").mkdir(parents=True)
    with pytest.raises(OutputError, match="is no Triton model"):
        export_triton(str(colors_bundle), tmp_path / "repo", overwrite=True)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(OutputError, match="part of its path is a file"):
        export_triton(str(colors_bundle), file / "repo")
