from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from edgebone.core.manifest import Preprocess
from edgebone_export.errors import ExportError, UnknownModelError, WeightsError
from edgebone_export.models import registry
from edgebone_export.models.contract import Backbone, InputSize, Model, ModelRequest, resized, run_eager
from edgebone_export.models.registry import list_models, load_backbone
from edgebone_export.models.taps import stride_of
from edgebone_export.pictures import sample_pictures
from edgebone_export.proof.verify import check_preprocess

PREPROCESS = Preprocess(
    mode="crop",
    size_hw=(32, 32),
    interpolation="bilinear",
    antialias=True,
    color="rgb",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    resize=36,
)


def tiny() -> nn.Module:
    """What a user names as `test_backbones:tiny`."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def tiny_with_preprocess() -> tuple[nn.Module, Preprocess]:
    return tiny(), PREPROCESS


def not_a_module() -> str:
    return "hello"


def breaks() -> nn.Module:
    raise ValueError("no such configuration")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.mark.parametrize(
    "name", ["resnet18", "efficientnet_b1", "mobilenet_v3_small", "convnext_tiny", "regnet_y_400mf"]
)
def test_preprocessing_is_what_the_weights_say(name: str) -> None:
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    preprocess = load_backbone(ModelRequest(name, weights="random")).preprocess
    assert [preprocess.size_hw[0]] == list(transforms.crop_size)
    assert [preprocess.resize] == list(transforms.resize_size)
    assert preprocess.interpolation == transforms.interpolation.value
    assert list(preprocess.mean) == list(transforms.mean)
    assert list(preprocess.std) == list(transforms.std)


@pytest.mark.parametrize(
    ("name", "strides", "channels"),
    [
        ("resnet18", [2, 4, 8, 16, 32], [64, 64, 128, 256, 512]),
        ("mobilenet_v2", [2, 4, 8, 16, 32], [16, 24, 32, 96, 1280]),
        ("regnet_y_400mf", [2, 4, 8, 16, 32], [32, 48, 104, 208, 440]),
        ("convnext_tiny", [4, 8, 16, 32], [96, 192, 384, 768]),
        ("swin_t", [4, 8, 16, 32], [96, 192, 384, 768]),
        pytest.param("maxvit_t", [2, 4, 8, 16, 32], [64, 64, 128, 256, 512], marks=pytest.mark.slow),
        pytest.param("vit_b_16", [16], [768], marks=pytest.mark.slow),
        ("timm/resnet18", [2, 4, 8, 16, 32], [64, 64, 128, 256, 512]),
        ("timm/vit_tiny_patch16_224", [16], [192]),
        ("timm/mobilenetv3_small_050", [2, 4, 8, 16, 32], [16, 8, 16, 24, 288]),
    ],
)
def test_feature_maps_come_finest_first_with_their_strides(name: str, strides: list[int], channels: list[int]) -> None:
    backbone = load_backbone(ModelRequest(name, weights="random", output_kind="features"))
    maps = run_eager(backbone.module, torch.zeros(2, 3, *backbone.preprocess.size_hw))
    size = backbone.preprocess.size_hw[0]
    assert [item.stride for item in backbone.features] == strides
    assert [item.channels for item in backbone.features] == channels
    assert [tuple(item.shape) for item in maps] == [
        (2, channel, size // stride, size // stride) for stride, channel in zip(strides, channels, strict=True)
    ]


def test_a_convolution_that_gives_the_classes_is_no_feature_map() -> None:
    backbone = load_backbone(ModelRequest("squeezenet1_1", weights="random", size_hw=(64, 64), output_kind="features"))
    assert [(item.stride, item.channels) for item in backbone.features] == [(2, 64), (4, 128), (8, 256), (16, 512)]


@pytest.mark.parametrize("size", [65, 95, 225])
def test_a_networks_strides_are_the_same_at_every_size(size: int) -> None:
    backbone = load_backbone(ModelRequest("resnet18", weights="random", size_hw=(size, size), output_kind="features"))
    assert [item.stride for item in backbone.features] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("pixels", "cells", "stride"),
    # Inception's layers have no padding; ViTs have patches of 14 or 16; a side may be rounded up or down.
    [(299, 149, 2), (299, 71, 4), (299, 35, 8), (299, 17, 16), (299, 8, 32), (518, 37, 14), (224, 14, 16),
     (300, 10, 32), (300, 9, 32), (96, 96, 1), (1080, 34, 32), (65, 3, 32)],
)  # fmt: skip
def test_a_stride_is_what_the_layers_halve(pixels: int, cells: int, stride: int) -> None:
    assert stride_of(pixels, cells) == stride
    # Five cells of 70 pixels could be either.
    assert (stride_of(70, 5), stride_of(70, 5, {14})) == (16, 14)


class Unpadded(nn.Module):
    """As Inception and MTCNN have it: maps of one stride, each a little smaller than the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2)
        self.second = nn.Conv2d(4, 6, 3)
        self.third = nn.Conv2d(6, 8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.third(self.second(self.first(images))).mean((2, 3))


def test_of_maps_whose_strides_round_alike_the_last_one_is_taken() -> None:
    backbone = load_backbone(ModelRequest(Unpadded(), preprocess=PREPROCESS, size_hw=(64, 64), output_kind="features"))
    assert [(item.name, item.stride, item.channels) for item in backbone.features] == [("features_s2", 2, 8)]


def test_resnets_maps_are_what_its_layers_compute() -> None:
    backbone = load_backbone(ModelRequest("resnet18", weights="random", output_kind="features"))
    network = backbone.module.module
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        stem = network.relu(network.bn1(network.conv1(images)))
        quarter = network.layer1(network.maxpool(stem))
        expected = [stem, quarter, network.layer2(quarter)]
    for have, want in zip(run_eager(backbone.module, images), expected, strict=False):
        torch.testing.assert_close(have, want)


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", 512), ("mobilenet_v2", 1280), ("mobilenet_v3_small", 1024), ("swin_t", 768), ("timm/resnet18", 512)],
)
def test_the_embedding_is_what_the_last_layer_takes(name: str, size: int) -> None:
    backbone = load_backbone(ModelRequest(name, weights="random", output_kind="embedding"))
    whole = load_backbone(ModelRequest(name, weights="random"))
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    (vectors,) = run_eager(backbone.module, images)
    assert vectors.shape == (2, size)
    last = [layer for layer in whole.module.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.inference_mode():
        torch.testing.assert_close(last(vectors), whole.module(images), atol=1e-4, rtol=1e-4)


def test_an_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(UnknownModelError, match=r"no model named resnet5; did you mean .*resnet50"):
        load_backbone(ModelRequest("resnet5", weights="random"))
    with pytest.raises(UnknownModelError, match=r"did you mean .*mobilenet_v2"):
        load_backbone(ModelRequest("mobilnet_v2", weights="random"))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("retinanett", "retinanet"),
        ("fasterrcnn_resnet50_fp", "fasterrcnn_resnet50_fpn"),
        ("deeplabv3_resnet5", "deeplabv3_resnet50"),
        ("tinynet_f", "timm/tinynet_e"),
        ("timm/resnet5", "timm/resnet50"),
        ("test_backbones:tinny", "tiny"),
    ],
)
def test_near_names_are_those_of_every_provider(name: str, near: str) -> None:
    with pytest.raises(UnknownModelError, match=rf"did you mean ([^?]* |){re.escape(near)}[,? ]"):
        load_backbone(ModelRequest(name, weights="random"))


class Toys:
    """A provider of its own."""

    def names(self) -> list[str]:
        return ["toys/tiny"]

    def claims(self, model: Model) -> bool:
        return model == "toys/tiny"

    def load(self, request: ModelRequest) -> Backbone:
        return load_backbone(ModelRequest("test_backbones:tiny", preprocess=PREPROCESS, labels=request.labels))


def test_a_further_provider_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PROVIDERS", (*registry.PROVIDERS, Toys()))
    assert load_backbone(ModelRequest("toys/tiny")).name == "test_backbones:tiny"
    assert list_models("tiny")[-1] == "toys/tiny"
    with pytest.raises(UnknownModelError, match="did you mean toys/tiny"):
        load_backbone(ModelRequest("toys/tinny"))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"decode": "host"}, "--decode host applies to segmentation; Sequential has nothing"),
        ({"backbone": "resnet18"}, "--backbone applies to fasterrcnn, retinanet, fcos, not to Sequential"),
        (
            {"output_kind": "detections"},
            "Sequential returns logits, embedding, features, segmentation or raw, not detections",
        ),
    ],
)
def test_a_module_at_hand_is_called_by_its_class(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=said):
        load_backbone(ModelRequest(tiny(), preprocess=PREPROCESS, **asked))


def test_unknown_weights_list_those_that_there_are() -> None:
    with pytest.raises(WeightsError, match="choose default, IMAGENET1K_V1, IMAGENET1K_V2, a file, or random"):
        load_backbone(ModelRequest("mobilenet_v2", weights="IMAGENET22K"))


def test_weights_that_cannot_be_had_point_to_those_that_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgebone_export.models import weights

    def unreachable(_: str):
        def fetch(target: Path) -> None:
            raise OSError("example.org cannot be reached")

        return fetch

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(weights, "download_url", unreachable)
    with pytest.raises(
        WeightsError, match=r"IMAGENET1K_V2 .*not found.* --weights IMAGENET1K_V1 needs only a package index"
    ):
        load_backbone(ModelRequest("mobilenet_v2"))


def test_fine_tuned_weights_bring_their_own_number_of_classes(tmp_path: Path) -> None:
    tuned = torchvision.models.resnet18(num_classes=7)
    torch.save({"state_dict": {f"module.{k}": v for k, v in tuned.state_dict().items()}}, tmp_path / "tuned.pth")
    labels = [f"product {number}" for number in range(7)]
    backbone = load_backbone(ModelRequest("resnet18", weights=str(tmp_path / "tuned.pth"), labels=labels))
    assert backbone.heads["classification"].labels == tuple(labels)
    torch.testing.assert_close(backbone.module.fc.weight, tuned.fc.weight)
    with pytest.raises(ExportError, match="has 7 classes, but 2 labels"):
        load_backbone(ModelRequest("resnet18", weights=str(tmp_path / "tuned.pth"), labels=["a", "b"]))


def test_timm_takes_fine_tuned_weights_too(tmp_path: Path) -> None:
    import timm

    tuned = timm.create_model("resnet18", num_classes=3)
    torch.save(tuned.state_dict(), tmp_path / "tuned.pth")
    backbone = load_backbone(ModelRequest("timm/resnet18", weights=str(tmp_path / "tuned.pth")))
    assert backbone.heads["classification"].labels == ("0", "1", "2")
    torch.testing.assert_close(backbone.module.fc.weight, tuned.fc.weight)


def test_another_square_size_keeps_the_crops_margin_and_another_aspect_stretches() -> None:
    square = resized(PREPROCESS, InputSize((64, 64)))
    assert (square.mode, square.resize, square.size_hw) == ("crop", 72, (64, 64))
    wide = resized(PREPROCESS, InputSize((36, 64)))
    assert (wide.mode, wide.resize, wide.size_hw) == ("stretch", None, (36, 64))


@pytest.mark.parametrize("name", ["mobilenet_v2", "timm/resnet18"])
def test_a_crop_without_margin_is_what_the_librarys_own_transform_gives(name: str) -> None:
    backbone = load_backbone(ModelRequest(name, weights="random", resize=230))
    assert (backbone.preprocess.mode, backbone.preprocess.resize) == ("crop", 230)
    assert backbone.reference_transform is not None
    pictures, _ = sample_pictures(None)
    check_preprocess(backbone.preprocess, backbone.reference_transform, pictures, name)


@pytest.mark.parametrize(
    ("name", "size_hw", "said"),
    [
        ("mobilenet_v2", None, "224x224 pixels are cropped"),
        ("mobilenet_v2", (96, 160), "this one is stretch"),
        ("fcn_resnet50", None, "takes all of it"),
    ],
)
def test_a_resize_that_cannot_be_meant_is_refused(name: str, size_hw: tuple[int, int] | None, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        load_backbone(ModelRequest(name, weights="random", size_hw=size_hw, resize=200))


def test_a_size_that_the_network_cannot_take_is_refused_in_one_line() -> None:
    with pytest.raises(ExportError, match="vit_b_32 does not run at 96x96") as caught:
        load_backbone(ModelRequest("vit_b_32", weights="random", size_hw=(96, 96)))
    assert "\n" not in str(caught.value)


def test_a_network_of_the_users_own_is_named_by_its_import_path() -> None:
    backbone = load_backbone(ModelRequest("test_backbones:tiny_with_preprocess"))
    assert backbone.preprocess == PREPROCESS
    assert backbone.heads["classification"].labels == ("0", "1", "2", "3", "4")
    assert load_backbone(ModelRequest("test_backbones:tiny", preprocess=PREPROCESS)).preprocess == PREPROCESS
    assert load_backbone(ModelRequest(tiny(), preprocess=PREPROCESS)).name == "Sequential"


def test_what_lies_beside_a_network_of_the_users_own_is_not_taken_for_what_others_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("from test_backbones import tiny_with_preprocess as net")
    (tmp_path / "this.py").write_text("raise AssertionError('run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert load_backbone(ModelRequest("mine:net")).preprocess == PREPROCESS
    monkeypatch.delitem(sys.modules, "this", raising=False)
    importlib.import_module("this")


def test_a_module_at_hand_stays_as_it_is() -> None:
    module = tiny().train()
    before = [parameter.clone() for parameter in module.parameters()]
    load_backbone(ModelRequest(module, weights="random", preprocess=PREPROCESS))
    assert module.training
    for parameter, old in zip(module.parameters(), before, strict=True):
        assert parameter.requires_grad
        assert torch.equal(parameter, old)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("test_backbones:tiny", ExportError, "its preprocessing is not known: pass --preprocess"),
        ("test_backbones:not_a_module", ExportError, "returned str; expected an nn.Module"),
        ("test_backbones:breaks", ExportError, "failed: ValueError: no such configuration"),
        ("test_backbones:gone", UnknownModelError, "cannot be imported"),
        ("no_such_package:net", UnknownModelError, "cannot be imported: No module named 'no_such_package'"),
        (":net", UnknownModelError, "cannot be imported: Empty module name"),
        ("half_written:net", UnknownModelError, r"cannot be imported: .*\(half_written.py, line 1\)"),
        ("divides:net", UnknownModelError, "cannot be imported: division by zero"),
    ],
)
def test_a_network_that_cannot_be_had_says_why(
    path: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_written.py").write_text("def net(:")
    (tmp_path / "divides.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error, match=message):
        load_backbone(ModelRequest(path))


def test_the_example_in_the_error_is_a_preprocessing_that_works() -> None:
    with pytest.raises(ExportError) as caught:
        load_backbone(ModelRequest("test_backbones:tiny"))
    example = str(caught.value).split("with: ")[1]
    assert msgspec.json.decode(example.encode(), type=Preprocess).size_hw == (224, 224)


def test_a_timm_model_whose_crop_a_bundle_cannot_describe_is_refused() -> None:
    from edgebone_export.models.timm_models import preprocess_of

    data = {
        "input_size": (3, 224, 224),
        "crop_mode": "border",
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
    }
    with pytest.raises(ExportError, match="crops in mode border"):
        preprocess_of("net", data)
    assert preprocess_of("net", {**data, "crop_mode": "squash"}).resize == (248, 248)


def test_random_weights_are_the_same_each_time() -> None:
    first, second = (load_backbone(ModelRequest("mobilenet_v3_small", weights="random")) for _ in range(2))
    for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())
    assert first.weights.name == "random"
