"""A Triton repository: its config against Triton's own schema, and what a client can do with it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgebone import load
from edgebone.core import staging
from edgebone.core.bundle_writing import Update, update_bundle
from edgebone.core.errors import BundleError, OutputError
from edgebone.core.manifest import CompiledEngine, Head, Parity, Variant
from edgebone.core.tensors import TensorSpec
from edgebone.triton import repository as repository_module
from edgebone.triton.config_text import to_text
from edgebone.triton.repository import export_triton
from support.bundles import COLORS, write_boxes_bundle, write_colors_bundle
from support.pictures import picture
from support.program import PROGRAM, edgebone


def schema() -> Any:
    return pytest.importorskip(
        "tritonclient.grpc.model_config_pb2",
        reason="Triton's schema comes with tritonclient[grpc], which is not installed",
    )


def parse(model: Path) -> Any:
    return parse_text((model / "config.pbtxt").read_text())


def parse_text(text: str) -> Any:
    model_config = schema()
    from google.protobuf import text_format

    return text_format.Parse(text, model_config.ModelConfig())


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_variants(bundle: Path, **variants: Variant) -> Path:
    """Variants that share FP32's file: what is in it is not looked at."""
    return update_bundle(
        bundle, lambda now: Update(msgspec.structs.replace(now, variants={**now.variants, **variants}))
    )


def variant(batch: tuple[int, int] = (1, 1), engines: tuple[str, ...] = ()) -> Variant:
    return Variant("onnx/fp32.onnx", "int8", batch, Parity(0.0, 0.0, 1.0, 1), engines)


def with_engines(bundle: Path, *engines: CompiledEngine) -> Path:
    files = {engine.file: engine.file.encode() for engine in engines}
    named = {engine.file: engine for engine in engines}
    return update_bundle(bundle, lambda now: Update(msgspec.structs.replace(now, engines=named), files))


def engine(target: str, gpu: str = "") -> CompiledEngine:
    return CompiledEngine(f"engines/{target}{gpu}/engine", target, "fp32", {"gpu": gpu}, 1.0, 6)


@pytest.mark.parametrize("kind", ["static", "free", "boxes"])
def test_the_config_says_of_the_graph_what_onnxruntime_says(kind: str, tmp_path: Path) -> None:
    import onnxruntime

    made_by = {
        "static": write_colors_bundle,
        "free": lambda path: write_colors_bundle(path, (1, 4)),
        "boxes": write_boxes_bundle,
    }
    model = export_triton(str(made_by[kind](tmp_path / "b.bundle")), tmp_path / "repo").path
    config = parse(model)
    session = onnxruntime.InferenceSession(model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    types = {"tensor(uint8)": schema().TYPE_UINT8, "tensor(float)": schema().TYPE_FP32}
    batch_axis = ["batch"] if kind == "free" else []
    for written, own in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        said = [(item.name, item.data_type, batch_axis + list(item.dims)) for item in written]
        assert said == [(item.name, types[item.type], list(item.shape)) for item in own]
    assert config.max_batch_size == (4 if kind == "free" else 0)


def test_a_static_bundle_is_left_alone_by_the_batcher(colors_bundle: Path, tmp_path: Path) -> None:
    made = export_triton(str(colors_bundle), tmp_path / "repo")
    config = parse(made.path)
    assert (config.name, config.backend, config.max_batch_size) == ("colors", "onnxruntime", 0)
    assert not config.HasField("dynamic_batching")
    assert list(config.version_policy.specific.versions) == [1]
    assert config.instance_group[0].kind == schema().ModelInstanceGroup.KIND_AUTO
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


@pytest.mark.parametrize("batch", [(1, 1), (1, 4), (3, 3)])
def test_the_warm_up_is_the_golden_input(batch: tuple[int, int], tmp_path: Path) -> None:
    made = export_triton(str(write_colors_bundle(tmp_path / "b.bundle", batch)), tmp_path / "repo")
    (warmup,) = parse(made.path).model_warmup
    (name,) = warmup.inputs
    shape = list(warmup.inputs[name].dims)
    data = np.frombuffer((made.path / "warmup" / warmup.inputs[name].input_data_file).read_bytes(), np.uint8)
    assert (name, warmup.inputs[name].data_type) == ("images", schema().TYPE_UINT8)
    assert shape == ([32, 32, 3] if batch == (1, 4) else [batch[0], 32, 32, 3])
    assert data.reshape(shape)[..., 1].min() > 200
    # Triton skips a sample of batch 0 without a word.
    assert warmup.batch_size == 1


def test_openvino_may_pad_batches_which_its_backend_fixes_at_the_largest(
    colors_batch_bundle: Path, colors_bundle: Path, tmp_path: Path
) -> None:
    config = parse(export_triton(str(colors_batch_bundle), tmp_path / "free", backend="openvino").path)
    assert (config.backend, config.default_model_filename) == ("openvino", "model.onnx")
    assert config.parameters["ENABLE_BATCH_PADDING"].string_value == "YES"
    assert config.instance_group[0].kind == schema().ModelInstanceGroup.KIND_CPU
    fixed = parse(export_triton(str(colors_bundle), tmp_path / "fixed", backend="openvino").path)
    onnxruntime = parse(export_triton(str(colors_batch_bundle), tmp_path / "other").path)
    assert all("ENABLE_BATCH_PADDING" not in config.parameters for config in (fixed, onnxruntime))


def test_a_version_a_variant(tmp_path: Path) -> None:
    bundle = with_variants(write_colors_bundle(tmp_path / "b.bundle"), int8=variant(engines=("onnxruntime",)))
    made = export_triton(str(bundle), tmp_path / "repo", variants=["int8", "fp32"])
    config = parse(made.path)
    assert made.versions == {1: "int8", 2: "fp32"}
    assert list(config.version_policy.specific.versions) == [1, 2]
    assert (made.path / "1" / "model.onnx").is_file() and (made.path / "2" / "model.onnx").is_file()
    said = json.loads(config.parameters["edgebone.versions"].string_value)
    assert {number: about["variant"] for number, about in said.items()} == {"1": "int8", "2": "fp32"}


def test_variants_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    bundle = with_variants(
        write_colors_bundle(tmp_path / "b.bundle"),
        wide=variant(batch=(1, 8)),
        trt=variant(engines=("tensorrt", "tensorrt-rtx")),
    )
    with pytest.raises(BundleError, match=r"variant trt is for tensorrt and tensorrt-rtx, not for onnxruntime; "):
        export_triton(str(bundle), tmp_path / "repo", variants=["fp32", "trt"])
    with pytest.raises(BundleError, match="versions of one model must have the same"):
        export_triton(str(bundle), tmp_path / "repo", variants=["fp32", "wide"])
    assert not (tmp_path / "repo").exists()


def test_several_heads_have_no_labels_but_their_own(tmp_path: Path) -> None:
    made = export_triton(str(write_boxes_bundle(tmp_path / "b.bundle")), tmp_path / "repo", name="found-2")
    config = parse(made.path)
    assert made.path.name == config.name == "found-2"
    assert [item.name for item in config.output] == ["boxes", "classes_of_pixels"]
    assert not any(item.label_filename for item in config.output)
    heads = json.loads(config.parameters["edgebone.heads"].string_value)
    assert set(heads) == {"found", "areas"}


def test_labels_of_any_text_stay_one_a_line_and_one_file_a_head(tmp_path: Path) -> None:
    odd = ('"quoted"', "back\\slash", "two\nlines\rthree", "☂ 交通信号灯")
    heads = {
        "灯": Head("classification@1", ("logits",), odd, {"activation": "none"}),
        "標": Head("raw@1", ("logits",), odd),
    }
    bundle = write_colors_bundle(tmp_path / "b.bundle", heads=heads)
    made = export_triton(str(bundle), tmp_path / "repo")
    config = parse(made.path)
    # Triton reads them line by line, at newlines alone.
    lines = (made.path / config.output[0].label_filename).read_bytes().decode().split("\n")
    assert lines == ['"quoted"', "back\\slash", "two lines three", "☂ 交通信号灯", ""]
    assert len(list(made.path.glob("labels_*.txt"))) == 2
    said = msgspec.json.decode(config.parameters["edgebone.heads"].string_value, type=dict[str, Head])
    assert said["灯"].labels == odd


def test_outputs_that_triton_cannot_express_are_refused_and_a_lone_batch_axis_is_reshaped() -> None:
    counted = repository_module._tensor(TensorSpec("count", "int64", ("batch",)), dynamic=True)
    (output,) = parse_text(to_text({"output": [counted]})).output
    assert (list(output.dims), output.HasField("reshape"), list(output.reshape.shape)) == ([1], True, [])
    assert output.data_type == schema().TYPE_INT64
    rows = TensorSpec("rows", "float32", (100, 7))
    assert repository_module._tensor(rows, dynamic=False)["dims"] == [100, 7]
    with pytest.raises(BundleError, match=r"rows: float32\[100,7\] has no batch axis"):
        repository_module._tensor(rows, dynamic=True)
    with pytest.raises(BundleError, match="has a type that Triton lacks"):
        repository_module._tensor(TensorSpec("tiny", "bfloat16", ("batch", 7)), dynamic=True)


def prepare_from_json(text: str, image_bgr: np.ndarray) -> np.ndarray:
    """A client's own preprocessing in Pillow and NumPy, of nothing but the config's JSON."""
    said = json.loads(text)
    height, width = said["size_hw"]
    filters = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}
    pixels = Image.fromarray(image_bgr[..., ::-1].copy())
    if said["mode"] == "crop":
        side = said["resize"]
        w, h = pixels.size
        size = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)
        pixels = pixels.resize(size, filters[said["interpolation"]])
        left, top = round((pixels.width - width) / 2), round((pixels.height - height) / 2)
        pixels = pixels.crop((left, top, left + width, top + height))
    else:
        assert said["mode"] == "stretch"
        pixels = pixels.resize((width, height), filters[said["interpolation"]])
    rgb = np.asarray(pixels)
    return (rgb if said["color"] == "rgb" else rgb[..., ::-1])[None].copy()


def run_client(model: Path, image_bgr: np.ndarray) -> tuple[Any, dict[str, np.ndarray]]:
    """Prepare and run as the config says; edgebone is not asked."""
    import onnxruntime

    config = parse(model)
    prepared = prepare_from_json(config.parameters["edgebone.preprocess"].string_value, image_bgr)
    session = onnxruntime.InferenceSession(model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in config.output]
    return config, dict(zip(names, session.run(names, {config.input[0].name: prepared}), strict=True))


def noise(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (picture(tuple(rng.integers(0, 200, 3)), (70, 90)) + rng.integers(0, 50, (70, 90, 3))).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_a_client_that_knows_only_the_config_classifies_as_the_runtime_does(
    seed: int, colors_batch_bundle: Path, tmp_path: Path
) -> None:
    image = noise(seed)
    made = export_triton(str(colors_batch_bundle), tmp_path / "repo")
    config, outputs = run_client(made.path, image)
    head = json.loads(config.parameters["edgebone.heads"].string_value)["classification"]
    (logits,) = outputs[head["outputs"][0]]
    assert (head["decoder"], head["params"]["activation"]) == ("classification@1", "softmax")
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    best = np.argsort(-scores)[: head["params"]["top_k"]]
    labels = (made.path / config.output[0].label_filename).read_text().splitlines()
    with load(colors_batch_bundle) as model:
        result: Any = model(image)
    assert [labels[index] for index in best] == list(result.labels)
    # The runtime resamples no more than the network sees, which rounds some pixels to the neighbouring step.
    np.testing.assert_allclose(scores[best], result.confidence, atol=5e-3)


def test_a_client_that_knows_only_the_config_finds_what_the_runtime_finds(tmp_path: Path) -> None:
    image = np.kron(noise(7)[:32, :32], np.ones((3, 2, 1), np.uint8))
    bundle = write_boxes_bundle(tmp_path / "b.bundle")
    made = export_triton(str(bundle), tmp_path / "repo")
    config, outputs = run_client(made.path, image)
    heads = json.loads(config.parameters["edgebone.heads"].string_value)
    (rows,) = outputs[heads["found"]["outputs"][0]]
    (scores,) = outputs[heads["areas"]["outputs"][0]]
    rows = rows[rows[:, 4] >= heads["found"]["params"]["score"]]
    rows = rows[np.argsort(-rows[:, 4])]
    with load(bundle) as model:
        result: Any = model(image)
    np.testing.assert_allclose(rows[:, 4], result["found"].confidence, rtol=1e-6)
    assert list(rows[:, 5].astype(int)) == list(result["found"].class_id)
    height, width = image.shape[:2]
    corners = rows[:, :4] * np.array([width, height, width, height]) / 32
    np.testing.assert_allclose(corners, result["found"].xyxy, atol=1e-3)
    np.testing.assert_array_equal(np.kron(scores.argmax(axis=0), np.ones((3, 2), int)), result["areas"].class_id)


@given(st.text(max_size=40))
def test_any_text_survives_the_config(text: str) -> None:
    written = to_text({"name": text, "parameters": [{"key": "k", "value": {"string_value": text}}]})
    config = parse_text(written)
    assert written.isascii()
    assert config.name == config.parameters["k"].string_value == text


def test_names_that_are_no_folders_are_made_legal(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle", name="timm/resnet 18")
    assert export_triton(str(bundle), tmp_path / "repo").path.name == "timm_resnet_18"
    with pytest.raises(BundleError, match="a model's name has letters, digits"):
        export_triton(str(bundle), tmp_path / "repo", name="../up")


def test_tensorrt_wants_an_engine_and_takes_the_bundles(colors_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"no TensorRT engine for variant fp32: edgebone compile .* --target tensorrt"
    ):
        export_triton(str(colors_bundle), tmp_path / "repo", backend="tensorrt")
    bundle = with_engines(write_colors_bundle(tmp_path / "b.bundle"), engine("tensorrt-rtx"))
    with pytest.raises(BundleError, match="Triton does not serve TensorRT-RTX's engines"):
        export_triton(str(bundle), tmp_path / "repo", backend="tensorrt")
    with_engines(bundle, engine("tensorrt-rtx"), engine("tensorrt"))
    made = export_triton(str(bundle), tmp_path / "repo", backend="tensorrt")
    assert (made.path / "1" / "model.plan").read_bytes() == b"engines/tensorrt/engine"
    config = parse(made.path)
    assert config.platform == "tensorrt_plan"
    assert config.instance_group[0].kind == schema().ModelInstanceGroup.KIND_GPU


def test_of_several_tensorrt_engines_this_machines_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    with_engines(bundle, engine("tensorrt", "NVIDIA A10"), engine("tensorrt", "NVIDIA L4"))

    def on(*gpus: str) -> None:
        machine = msgspec.structs.replace(repository_module.Machine.probe(), gpus=gpus, jetson="")
        monkeypatch.setattr(repository_module, "Machine", type("Fixed", (), {"probe": staticmethod(lambda: machine)}))

    real = repository_module.Machine
    on("NVIDIA L4")
    made = export_triton(str(bundle), tmp_path / "repo", backend="tensorrt")
    assert b"L4" in (made.path / "1" / "model.plan").read_bytes()
    monkeypatch.setattr(repository_module, "Machine", real)
    on()
    with pytest.raises(BundleError, match=r"2 TensorRT engines for variant fp32 \(NVIDIA A10; NVIDIA L4\)"):
        export_triton(str(bundle), tmp_path / "other", backend="tensorrt")


@pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not installed beside this Python")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 7, "exists; choose another --name, or replace it with --force"),
        (["--variant", "int9"], 3, "there is no variant int9; there are fp32"),
        (["--backend", "caffe"], 3, "there is no backend caffe; choose onnxruntime"),
        (["--backend", "tensorrt"], 3, "--target tensorrt"),
        (["--max-batch", "8"], 3, "its batch is fixed at 1"),
        (["--name", "n" * 300], 7, "cannot be written: File name too long"),
    ],
)
def test_refusals_are_one_line_and_leave_the_repository_as_it_was(
    arguments: list[str], code: int, message: str, colors_bundle: Path, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    export_triton(str(colors_bundle), repo)
    before = tree(repo)
    done = edgebone("export-triton", colors_bundle, "-o", repo, *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("edgebone: ") and len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert tree(repo) == before
    assert [path.name for path in repo.iterdir()] == ["colors"]


@pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not installed beside this Python")
def test_the_command_says_what_it_wrote_and_leaves_other_models_alone(colors_bundle: Path, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / "other").mkdir(parents=True)
    (repo / "other" / "config.pbtxt").write_text("mine")
    done = edgebone("export-triton", colors_bundle, "-o", repo)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (f"{repo}/colors: versions 1: fp32; serve it with: tritonserver --model-repository={repo}\n")
    (repo / "colors" / "stale").write_text("from before")
    done = edgebone("export-triton", colors_bundle, "-o", repo, "--force", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"path": f"{repo}/colors", "versions": {"1": "fp32"}}
    assert sorted(path.name for path in repo.iterdir()) == ["colors", "other"]
    assert not (repo / "colors" / "stale").exists()
    assert (repo / "other" / "config.pbtxt").read_text() == "mine"


def test_a_folder_of_another_kind_and_a_target_that_cannot_be_written_are_refused(
    colors_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "repo" / "colors").mkdir(parents=True)
    with pytest.raises(OutputError, match="is not a Triton model"):
        export_triton(str(colors_bundle), tmp_path / "repo", overwrite=True)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(OutputError, match="part of its path is a file"):
        export_triton(str(colors_bundle), file / "repo")


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the file system is read-only")]
)
def test_a_full_disk_leaves_nothing_behind_and_the_old_model_as_it_was(
    colors_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    old = export_triton(str(colors_bundle), tmp_path / "old").path
    before = tree(old)
    real = Path.write_bytes

    def fail_late(self: Path, data: bytes) -> int:
        if self.name == "config.pbtxt":
            raise OSError(number, os.strerror(number))
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", fail_late)
    with pytest.raises(OutputError, match=words):
        export_triton(str(colors_bundle), tmp_path / "new")
    with pytest.raises(OutputError, match=words):
        export_triton(str(colors_bundle), tmp_path / "old", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["colors"]
    assert tree(old) == before


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken disk"), KeyboardInterrupt()])
def test_a_failure_at_the_last_step_leaves_the_old_model(
    colors_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    old = export_triton(str(colors_bundle), tmp_path / "repo").path
    before = tree(old)

    def fail(*_: Path) -> bool:
        raise error

    monkeypatch.setattr(staging, "exchange", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        export_triton(str(colors_bundle), tmp_path / "repo", overwrite=True)
    assert [path.name for path in (tmp_path / "repo").iterdir()] == ["colors"]
    assert tree(old) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(colors_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="permission is denied"):
        export_triton(str(colors_bundle), tmp_path / "repo")
