"""What the numbers of a picture are: one class, a label that holds or not, several, values."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import edgebone
from edgebone.core.manifest import Preprocess
from edgebone.core.results import Classification, MultiLabel, Regression
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder
from edgebone.preprocess import plan
from edgebone_export.errors import ExportError
from edgebone_export.models.contract import ModelRequest, run_eager
from edgebone_export.models.registry import load_backbone
from edgebone_export.pictures import synthesize

SPEC = Preprocess("stretch", (32, 48), "bilinear", True, "rgb", (0.5,) * 3, (0.25,) * 3)
PICTURE = cv2.cvtColor(synthesize(SPEC.size_hw, np.random.default_rng(2)), cv2.COLOR_RGB2BGR)
PROGRAM = Path(sys.executable).with_name("edgebone")
LOGITS = (2.0, -3.0, 0.5)


class Net(nn.Module):
    """``give`` makes what it returns of some numbers."""

    def __init__(self, give: Any, count: int = 3, problem_type: str | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, count, 3, stride=2)
        self.give = give
        self.config = types.SimpleNamespace(problem_type=problem_type)
        self.body.bias.data = torch.tensor(LOGITS[:count])

    def forward(self, images: Tensor) -> Any:
        return self.give(self.body(images).mean((2, 3)))


def answer(net: Net, **asked: Any) -> tuple[Any, np.ndarray]:
    """What the head reads, and the numbers before ``give``."""
    network = load_backbone(ModelRequest(net, preprocess=SPEC, **asked))
    (head,) = network.heads.values()
    images = torch.rand(1, 3, *SPEC.size_hw) - 0.5
    outputs = [output.numpy() for output in run_eager(network.module, images)]
    specs = [TensorSpec(network.outputs[0], "float32", ("batch", *outputs[0].shape[1:]))]
    with torch.inference_mode():
        numbers = net.body(images).mean((2, 3))[0].numpy()
    decode = make_decoder("head", head, specs, SPEC.size_hw)
    return decode([output[0] for output in outputs], plan(SPEC, *SPEC.size_hw)), numbers


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def softmax(values: Any) -> Any:
    return np.exp(values) / np.exp(values).sum()


ONE = {
    "(n, 1)": lambda v: v,
    "(n,)": lambda v: v.squeeze(1),
    "(n, 1, 1, 1)": lambda v: v[:, :, None, None],
    "a dictionary": lambda v: {"logits": v},
    "logits beside a vector": lambda v: {"logits": v, "pooled": v.expand(-1, 4) + 1},
}


@pytest.mark.parametrize("shape", ONE)
def test_one_number_is_what_is_said_of_it(shape: str) -> None:
    found, numbers = answer(Net(ONE[shape], 1), kind="binary", labels=["defect"])
    assert isinstance(found, MultiLabel)
    assert found.labels == ("defect",)
    np.testing.assert_allclose(found.probabilities, sigmoid(numbers), atol=1e-5)


def test_one_number_may_be_a_value() -> None:
    found, numbers = answer(Net(lambda v: v.squeeze(1), 1), kind="regression", labels=["weight in kg"])
    assert isinstance(found, Regression)
    assert found.names == ("weight in kg",)
    np.testing.assert_allclose(found.values, numbers, atol=1e-5)


@pytest.mark.parametrize("shape", list(ONE)[:4])
@pytest.mark.parametrize("asked", [{}, {"output_kind": "logits"}])
def test_one_number_that_nobody_speaks_of_is_asked_about(shape: str, asked: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=r"one value per picture, .*--kind binary .*--kind regression .*--output raw"):
        load_backbone(ModelRequest(Net(ONE[shape], 1), preprocess=SPEC, **asked))


def test_labels_that_hold_each_for_itself() -> None:
    found, numbers = answer(Net(lambda v: v), kind="multilabel", labels=["milk", "tea", "bread"])
    assert isinstance(found, MultiLabel)
    assert found.labels == ("milk", "bread")
    np.testing.assert_allclose(found.probabilities, sigmoid(numbers), atol=1e-5)


@pytest.mark.parametrize("end", [torch.sigmoid, nn.Sigmoid(), lambda v: torch.sigmoid(v)[..., None].squeeze(-1)])
def test_a_sigmoid_of_the_networks_own_is_not_taken_twice(end: Any) -> None:
    found, numbers = answer(Net(end), kind="multilabel")
    np.testing.assert_allclose(found.probabilities, sigmoid(numbers), atol=1e-5)
    assert found.labels == ("0", "2")
    with pytest.raises(ExportError, match="3 values per picture, each from a sigmoid: pass --kind multilabel"):
        load_backbone(ModelRequest(Net(end), preprocess=SPEC))


@pytest.mark.parametrize("end", [lambda v: v.softmax(1), nn.Softmax(dim=1), lambda v: v.log_softmax(1), lambda v: v])
def test_a_softmax_of_the_networks_own_is_not_taken_twice(end: Any) -> None:
    found, numbers = answer(Net(end))
    assert isinstance(found, Classification)
    np.testing.assert_allclose(found.probabilities, softmax(numbers), atol=1e-5)


def test_one_column_of_a_softmax_is_a_probability() -> None:
    found, numbers = answer(Net(lambda v: v.softmax(1)[:, 0]), kind="binary")
    np.testing.assert_allclose(found.probabilities, softmax(numbers)[:1], atol=1e-5)
    assert found.labels == ("positive",)


@pytest.mark.parametrize(
    ("problem_type", "result"),
    [
        ("regression", Regression),
        ("multi_label_classification", MultiLabel),
        ("single_label_classification", Classification),
        (None, Classification),
    ],
)
def test_a_configuration_as_transformers_has_it_says_the_kind(problem_type: str | None, result: type) -> None:
    net = Net(lambda v: {"loss": None, "logits": v}, problem_type=problem_type)
    found, _ = answer(net, output_kind="logits")
    assert isinstance(found, result)


@pytest.mark.parametrize(
    ("net", "asked", "words"),
    [
        (
            Net(lambda v: v),
            {"kind": "binary"},
            "3 values per picture, but --kind binary needs one: .*--kind multilabel",
        ),
        (
            Net(lambda v: v, 1),
            {"kind": "classification"},
            "a softmax over one class is always 100 %: pass --kind binary",
        ),
        (Net(lambda v: v.softmax(1)), {"kind": "multilabel"}, "ends in a softmax, .*--kind classification"),
        (Net(lambda v: v), {"kind": "multilabel", "output_kind": "features"}, "--kind applies to logits"),
        (Net(lambda v: v), {"kind": "regression", "labels": ["a", "b", "a"]}, "two labels are the same"),
        (Net(lambda v: v), {"kind": "other"}, "no kind other; choose classification, binary, multilabel, regression"),
        ("ssd300_vgg16", {"kind": "binary"}, "--kind applies to networks that return numbers for a picture"),
    ],
)
def test_a_kind_that_cannot_be_is_refused(net: Any, asked: dict[str, Any], words: str) -> None:
    spec = None if isinstance(net, str) else SPEC
    with pytest.raises(ExportError, match=words):
        load_backbone(ModelRequest(net, preprocess=spec, weights="random", **asked))


@pytest.mark.slow
def test_trained_weights_of_one_number(tmp_path: Path) -> None:
    torch.save(timm.create_model("lcnet_035", num_classes=1).state_dict(), tmp_path / "timm.pth")
    torch.save(torchvision.models.squeezenet1_1(num_classes=1).state_dict(), tmp_path / "torchvision.pth")
    for model, weights in {"timm/lcnet_035": "timm.pth", "squeezenet1_1": "torchvision.pth"}.items():
        with pytest.raises(ExportError, match=r"returns one value per picture, .*--kind binary"):
            load_backbone(ModelRequest(model, weights=str(tmp_path / weights), size_hw=(64, 64)))
    command = ["export", "timm/lcnet_035", "--weights", tmp_path / "timm.pth", "--size", "64x64", "--kind", "binary"]
    (tmp_path / "labels.txt").write_text("defect\n")
    done = subprocess.run(
        [PROGRAM, *command, "--labels", tmp_path / "labels.txt", "-o", tmp_path / "b"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with edgebone.load(tmp_path / "b", engine="onnxruntime") as loaded:
        found = loaded(PICTURE)
    assert isinstance(found, MultiLabel)
    assert found.labels in ((), ("defect",))
    assert found.probabilities.shape == (1,)
