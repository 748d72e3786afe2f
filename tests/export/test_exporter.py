from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import pytest
import torch
import torchvision
from PIL import Image

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.errors import OutputError
from edgebone.core.manifest import Preprocess
from edgebone_export import export
from edgebone_export.errors import ExportError, ParityError
from edgebone_export.models.contract import ModelRequest, run_eager
from edgebone_export.models.registry import load_backbone
from edgebone_export.pictures import synthesize
from edgebone_export.proof.verify import check_merged, make_reference, normalize
from support.lowering import check_lowered_builds

PROGRAM = Path(sys.executable).with_name("edgebone")


@pytest.fixture(scope="module")
def mobilenet(exported: Callable[..., Path]) -> Path:
    """MobileNetV3 small with random weights at a small size, dynamic batch."""
    return exported("mobilenet_v3_small", weights="random", size_hw=(96, 96), batch=(1, 4))


def test_the_runtime_answers_what_eager_pytorch_answers(mobilenet: Path) -> None:
    backbone = load_backbone(ModelRequest("mobilenet_v3_small", weights="random", size_hw=(96, 96)))
    picture = synthesize((300, 400), np.random.default_rng(7))
    rgb = Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    (logits,) = run_eager(backbone.module, backbone.reference_transform(rgb)[None])
    expected = logits.softmax(dim=1)[0].numpy()
    for engine in ("onnxruntime", "openvino"):
        with edgebone.load(mobilenet, engine=engine, precision="fp32") as model:
            result = model(picture)
        assert result.class_id[0] == expected.argmax()
        # What is left is the rounding of resized pixels to whole steps, which PIL pictures have as well.
        np.testing.assert_allclose(result.probabilities, expected, atol=2e-3)


def test_tensorrt_rtx_compiles_it_with_fewer_bits(mobilenet: Path, tmp_path: Path) -> None:
    check_lowered_builds(mobilenet, tmp_path)


def test_nodes_are_named_after_the_modules_that_they_come_from(mobilenet: Path) -> None:
    modules = {name for name, _ in torchvision.models.mobilenet_v3_small().named_modules()}
    nodes = onnx.load(mobilenet / "onnx/fp32.onnx").graph.node
    named = [(node.op_type, node.name.rpartition("/")[0]) for node in nodes if node.op_type in ("Conv", "Gemm")]
    assert named
    for op_type, module in named:
        assert module in modules, module
        layer = torchvision.models.mobilenet_v3_small().get_submodule(module)
        assert isinstance(layer, torch.nn.Conv2d if op_type == "Conv" else torch.nn.Linear)


def test_a_dynamic_batch_gives_the_same_as_one_by_one(mobilenet: Path) -> None:
    rng = np.random.default_rng(1)
    pictures = [synthesize((120, 160), rng) for _ in range(6)]
    with edgebone.load(mobilenet, engine="onnxruntime") as model:
        assert model.max_batch == 4
        together = model(pictures)
        apart = [model(picture) for picture in pictures]
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-5)


def test_the_bundle_says_what_was_proved(mobilenet: Path) -> None:
    with open_bundle(mobilenet) as bundle:
        manifest = bundle.manifest
        report = msgspec.json.decode(bundle.read("report.json"))
        graph = onnx.load_from_string(bundle.read("onnx/fp32.onnx"))
    assert manifest.model.weights.name == "random"
    assert manifest.input.shape == ("batch", 96, 96, 3)
    assert len(manifest.heads["classification"].labels) == 1000
    assert manifest.variants["fp32"].parity.max_rel < 1e-3
    assert manifest.variants["fp32"].parity.top1_agreement == 1.0
    assert report["passes"][0]["name"] == "trace"
    assert all(item["parity"]["max_rel"] < 1e-3 for item in report["passes"])
    assert report["preprocess_against_library"]["max_steps"] <= 2
    assert report["libraries"]["torch"] == torch.__version__.split("+")[0]
    assert graph.producer_name == "edgebone"
    said = {item.key: item.value for item in graph.metadata_props}
    assert said.keys() == {"edgebone.model", "edgebone.weights", "edgebone.preprocess"}
    assert "random" in said["edgebone.weights"]
    assert graph.ir_version == 8


def test_the_golden_sample_is_the_original_networks_answer(mobilenet: Path) -> None:
    backbone = load_backbone(ModelRequest("mobilenet_v3_small", weights="random", size_hw=(96, 96)))
    with open_bundle(mobilenet) as bundle:
        tensors = np.load(io.BytesIO(bundle.read("golden/tensors.npz")))
    normal = (tensors["input"].astype(np.float32) / 255 - backbone.preprocess.mean) / backbone.preprocess.std
    (logits,) = run_eager(backbone.module, torch.from_numpy(normal.transpose(0, 3, 1, 2).astype(np.float32)))
    np.testing.assert_allclose(tensors["logits"], logits.numpy(), atol=1e-4)


@pytest.mark.parametrize("kind", ["embedding", "features"])
def test_other_outputs_come_through_the_runtime(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "resnet.bundle.zip"
    export("resnet18", path, weights="random", size_hw=(64, 64), output_kind=kind)
    assert path.is_file()
    with edgebone.load(path, engine="onnxruntime") as model:
        result = model(synthesize((100, 100), np.random.default_rng(0)))
    if kind == "embedding":
        assert result.vector.shape == (512,)
    else:
        assert result.strides == (2, 4, 8, 16, 32)
        assert [array.shape for array in result.maps][1:3] == [(64, 16, 16), (128, 8, 8)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "convnext_tiny"])
def test_layer_norms_stay_whole(tmp_path: Path, name: str) -> None:
    export(name, tmp_path / "b", weights="random", samples=None)
    graph = onnx.load(tmp_path / "b/onnx/fp32.onnx")
    backbone = load_backbone(ModelRequest(name, weights="random"))
    calls = []
    hooks = [
        layer.register_forward_hook(lambda *_: calls.append(1))
        for layer in backbone.module.modules()
        if isinstance(layer, torch.nn.LayerNorm)
    ]
    run_eager(backbone.module, torch.zeros(1, 3, 224, 224))
    for hook in hooks:
        hook.remove()
    assert calls
    if "vit" in name:
        check_lowered_builds(tmp_path / "b", tmp_path)
    assert sum(node.op_type == "LayerNormalization" for node in graph.graph.node) == len(calls)


class NormsItsHead(torch.nn.Module):
    """As ConvNeXt and DINOv2 have it: a layer norm after the last map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 4, stride=4)
        self.norm = torch.nn.LayerNorm(8)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.stem(images).mean((2, 3))))


@pytest.mark.parametrize(("kind", "norms"), [("features", 0), ("embedding", 1), ("logits", 1)])
def test_layer_norms_behind_a_tap_are_not_looked_for(tmp_path: Path, kind: str, norms: int) -> None:
    preprocess = Preprocess("stretch", (32, 32), "bilinear", True, "rgb", (0.5,) * 3, (0.5,) * 3)
    export(NormsItsHead(), tmp_path / "b", weights="random", preprocess=preprocess, output_kind=kind)
    graph = onnx.load(tmp_path / "b/onnx/fp32.onnx").graph
    assert sum(node.op_type == "LayerNormalization" for node in graph.node) == norms


def test_layers_that_only_training_keeps_apart_are_merged_and_proved_the_same(tmp_path: Path) -> None:
    trained = load_backbone(ModelRequest("timm/mobileone_s0", weights="random", size_hw=(64, 64)))
    assert trained.merged is not None
    export("timm/mobileone_s0", tmp_path / "b", weights="random", size_hw=(64, 64))
    with open_bundle(tmp_path / "b") as bundle:
        report = msgspec.json.decode(bundle.read("report.json"))
        golden = np.load(io.BytesIO(bundle.read("golden/tensors.npz")))
    # What the bundle is held against is the network that was trained, not the merged one.
    floats = normalize(trained.preprocess, golden["input"])
    np.testing.assert_allclose(golden["logits"], run_eager(trained.module, torch.from_numpy(floats))[0], atol=1e-4)
    convolutions = sum(isinstance(layer, torch.nn.Conv2d) for layer in trained.module.modules())
    assert report["nodes"]["Conv"] < convolutions / 2
    assert report["merged_against_trained"]["max_rel"] < 1e-3


def test_a_merge_that_changes_the_network_is_refused() -> None:
    trained = load_backbone(ModelRequest("timm/mobileone_s0", weights="random", size_hw=(64, 64)))
    reference = make_reference(trained, [synthesize((90, 120), np.random.default_rng(3))])
    assert trained.merged is not None
    assert check_merged(trained, reference).max_rel < 1e-3
    with torch.no_grad():
        next(trained.merged.parameters()).mul_(1.1)
    with pytest.raises(ParityError, match="output logits differs from PyTorch's"):
        check_merged(trained, reference)


def test_layers_are_merged_only_where_that_is_faster() -> None:
    assert load_backbone(ModelRequest("timm/repvgg_a0", weights="random", size_hw=(32, 32))).merged is None


def test_samples_of_the_user_are_verified_on_and_become_the_golden_picture(tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    picture = synthesize((90, 120), np.random.default_rng(3))
    cv2.imwrite(str(folder / "a.png"), picture)
    cv2.imwrite(str(folder / "b.png"), synthesize((90, 120), np.random.default_rng(4)))
    export("mobilenet_v3_small", tmp_path / "b", weights="random", size_hw=(64, 64), samples=folder)
    assert np.array_equal(cv2.imread(str(tmp_path / "b/golden/image.png")), picture)
    with open_bundle(tmp_path / "b") as bundle:
        assert bundle.manifest.variants["fp32"].parity.pictures == 2


def test_an_existing_bundle_is_replaced_only_when_asked(mobilenet: Path, tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    (target / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists; choose another name"):
        export("mobilenet_v3_small", target, weights="random")
    with pytest.raises(OutputError, match="not a bundle; it was not replaced"):
        export("mobilenet_v3_small", target, weights="random", overwrite=True)
    assert (target / "precious.txt").read_text() == "mine"


def test_a_bundle_that_fails_its_proof_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgebone_export.proof import verify

    monkeypatch.setattr(verify, "FP32", dataclasses.replace(verify.FP32, max_rel=1e-12))
    with pytest.raises(ParityError, match=r"output logits differs from PyTorch's by .* \(relative .*, allowed 1e-12\)"):
        export("mobilenet_v3_small", tmp_path / "b", weights="random", size_hw=(64, 64))
    assert list(tmp_path.iterdir()) == []


def test_wrong_preprocessing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgebone_export.models import torchvision_models

    right = torchvision_models.preprocess_of
    monkeypatch.setattr(
        torchvision_models,
        "preprocess_of",
        lambda transforms: msgspec.structs.replace(right(transforms), interpolation="nearest"),
    )
    with pytest.raises(ParityError, match="preprocessing differs from the library's own transform by up to"):
        export("mobilenet_v3_small", tmp_path / "b", weights="random")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_traced_says_so_in_one_line(tmp_path: Path) -> None:
    class Branches(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            values = images.mean((2, 3))
            return values * 2 if values.sum() > 0 else values

    preprocess = load_backbone(ModelRequest("resnet18", weights="random")).preprocess
    with pytest.raises(ExportError, match="Branches cannot be traced to ONNX") as caught:
        export(Branches(), tmp_path / "b", preprocess=preprocess)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_export_that_is_stopped_leaves_nothing_behind(tmp_path: Path, how: signal.Signals) -> None:
    target = tmp_path / "out" / "net.bundle"
    target.parent.mkdir()
    command = [PROGRAM, "export", "mobilenet_v3_small", "--weights", "random", "-o", target]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # A shell starts its background jobs deaf to Ctrl-C, and the tests may be one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "trace" in line:
            break
    time.sleep(0.1)
    process.send_signal(how)
    rest = process.stderr.read()
    code = process.wait()
    process.stderr.close()
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(how, -signal.SIGKILL)
    assert "Traceback" not in rest
    assert list(target.parent.iterdir()) == []


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["no_such_net", "-o", "b"], 10, "no model named no_such_net"),
        (["resnet18", "-o", "b", "--weights", "gone.pth"], 9, "gone.pth: no such weights file"),
        (["resnet18", "-o", "b", "--weights", "random", "--output", "boxes"], 8, "no output boxes"),
        (
            ["resnet18", "-o", "b", "--weights", "random", "--labels", "gone.txt"],
            8,
            "labels gone.txt: not a readable file",
        ),
        (["resnet18", "-o", "b", "--weights", "random", "--samples", "gone"], 4, "gone: no such file"),
        (["resnet18", "-o", "pyproject.toml/b", "--weights", "random"], 7, "part of its path is a file"),
        (["resnet18", "-o", "b", "--size", "big"], 2, "a size must be WIDTHxHEIGHT"),
        (["resnet18", "-o", "b", "--batch", "8-1"], 2, "a batch is a number or a range"),
    ],
)
def test_bad_input_gives_one_clear_line_and_its_exit_code(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    (tmp_path / "pyproject.toml").touch()
    done = run("export", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


@pytest.mark.slow
def test_the_command_line_prints_the_proof(tmp_path: Path) -> None:
    done = run(
        "export", "mobilenet_v3_small", "--weights", "random", "--size", "96x64", "--batch", "1-2", "-o", "net.zip",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "against PyTorch on 8 pictures: max difference" in done.stdout
    assert "weights: random" in done.stdout
    assert "trace" in done.stderr
    assert "edgebone: the input is 96 wide, 64 high\n" in done.stderr
    shown = run("inspect", "net.zip", cwd=tmp_path)
    assert "batch 1-2" in shown.stdout
    assert "to 96x64, " in shown.stdout
    with open_bundle(tmp_path / "net.zip") as opened:
        assert opened.manifest.preprocess.size_hw == (64, 96)


def test_without_torch_the_pip_line_is_printed(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    done = run("export", "resnet18", "-o", "b", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 6
    assert 'pip install "edgebone[export]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_models_are_listed_by_pattern() -> None:
    done = run("models", "resnet1?")
    names = done.stdout.split()
    assert names[0] == "resnet18"
    assert "timm/resnet18" in names
    assert "resnet152" not in names
    nothing = run("models", "zzz")
    assert nothing.returncode == 10
