"""Networks of transformers: proved against the library, read from a folder or the hub's cache, or refused in a line."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import transformers as hf

import edgebone
from edgebone_export import export
from edgebone_export.errors import ExportError, UnknownModelError, WeightsError
from edgebone_export.models.contract import InputSize, ModelRequest, run_eager
from edgebone_export.models.hf_preprocess import preprocess_of
from edgebone_export.models.registry import list_models, load_backbone
from edgebone_export.pictures import synthesize
from edgebone_export.proof.verify import check_preprocess
from support.hugging_face import NAMES, save_family

SIZES_HW = ((90, 120), (150, 100))


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Saves a family's network, once a session. Shared: copy the folder before you change it."""
    folder = tmp_path_factory.mktemp("hugging-face")

    def save(family: str) -> Path:
        path = folder / family
        return path if path.exists() else save_family(family, path)

    return save


@pytest.fixture(scope="module")
def pictures() -> list[Any]:
    rng = np.random.default_rng(0)
    return [synthesize(size_hw, rng) for size_hw in SIZES_HW]


@pytest.fixture(scope="module")
def samples(pictures: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    return folder


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("family", "decoder"),
    [
        ("resnet", "classification@1"),
        ("vit", "classification@1"),
        ("dinov2", "embedding@1"),
        pytest.param("convnextv2", "classification@1", marks=slow),
        pytest.param("hiera", "classification@1", marks=slow),
        pytest.param("segformer", "segmentation@1", marks=slow),
        ("depth_anything", "depth@1"),
        ("yolos", "boxes@1"),
        pytest.param("dinov3_vit", "embedding@1", marks=slow),
        pytest.param("swin", "classification@1", marks=slow),
        pytest.param("mobilevit", "classification@1", marks=slow),
        pytest.param("rt_detr", "boxes@1", marks=slow),
    ],
)
def test_a_family_is_proved_with_its_own_preprocessing(
    saved: Callable[[str], Path], family: str, decoder: str, samples: Path, pictures: list[Any], tmp_path: Path
) -> None:
    folder = saved(family)
    # Untrained, with batch norms that have seen nothing, these two return the same for every picture.
    weights = "random" if family in ("mobilevit", "rt_detr") else "default"
    report = export(f"hf:{folder}", tmp_path / "b", samples=samples, weights=weights)
    ((_, head),) = report.manifest.heads.items()
    assert head.decoder == decoder
    assert head.labels in ((), tuple(NAMES.values()))
    assert report.parity.max_rel < 1e-3
    assert report.preprocess_parity is not None
    assert report.preprocess_parity.max_steps <= 2
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert report.manifest.model.weights.sha256 == (digest if weights == "default" else "")
    assert report.manifest.model.library.startswith(f"transformers {hf.__version__}, ")
    with edgebone.load(tmp_path / "b") as model:
        result = model(pictures[0])
    if family == "vit":
        inputs = hf.ViTImageProcessor.from_pretrained(folder)(pictures[0][..., ::-1].copy(), return_tensors="pt")
        with torch.no_grad():
            scores = hf.ViTForImageClassification.from_pretrained(folder)(**inputs).logits.softmax(1)[0]
        assert result.label == NAMES[int(scores.argmax())]
        assert result.confidence[0] == pytest.approx(float(scores.max()), abs=5e-3)


def test_boxes_are_those_of_transformers_own_decoding(saved: Callable[[str], Path]) -> None:
    backbone = load_backbone(ModelRequest(f"hf:{saved('yolos')}"))
    model, processor = hf.YolosForObjectDetection.from_pretrained(saved("yolos")), hf.YolosImageProcessor()
    images = torch.randn(1, 3, *backbone.preprocess.size_hw)
    rows = run_eager(backbone.module, images)[0][0]
    with torch.no_grad():
        found = processor.post_process_object_detection(model(images), 0.0, [tuple(images.shape[2:])])[0]
    for box, score, label in zip(found["boxes"], found["scores"], found["labels"], strict=True):
        near = (rows[:, 5] == label) & ((rows[:, 4] - score).abs() < 1e-5)
        assert (rows[near, :4] - box).abs().max(dim=1).values.min() < 1e-3


def test_feature_maps_have_the_strides_of_the_network(saved: Callable[[str], Path]) -> None:
    def strides(family: str) -> list[int]:
        return [
            item.stride for item in load_backbone(ModelRequest(f"hf:{saved(family)}", output_kind="features")).features
        ]

    assert strides("resnet") == [4, 8, 16, 32]
    assert strides("swin") == [4, 8]
    assert strides("dinov2") == [14]


def test_a_network_is_built_at_another_size_and_at_random(saved: Callable[[str], Path]) -> None:
    backbone = load_backbone(ModelRequest(f"hf:{saved('vit')}", size_hw=(48, 64), weights="random"))
    assert backbone.preprocess.size_hw == (48, 64)
    assert backbone.weights.name == "random"
    assert run_eager(backbone.module, torch.zeros(1, 3, 48, 64))[0].shape == (1, 3)


def test_the_embedding_of_a_classifier_is_what_its_last_layer_takes(saved: Callable[[str], Path]) -> None:
    backbone = load_backbone(ModelRequest(f"hf:{saved('resnet')}", output_kind="embedding"))
    assert backbone.name == "resnet"
    assert run_eager(backbone.module, torch.zeros(1, 3, 64, 64))[0].shape == (1, 32)


def test_the_logits_of_a_detector_are_decoded_on_the_host(saved: Callable[[str], Path]) -> None:
    backbone = load_backbone(ModelRequest(f"hf:{saved('yolos')}", decode="host"))
    assert backbone.heads["detections"].decoder == "detr@1"
    assert backbone.heads["detections"].params["activation"] == "softmax"


PROCESSORS: dict[str, tuple[Callable[[], Any], str]] = {
    "height and width": (lambda: hf.ViTImageProcessorPil(size={"height": 40, "width": 48}), "stretch"),
    "shortest edge and crop": (
        lambda: hf.CLIPImageProcessorPil(size={"shortest_edge": 50}, crop_size={"height": 44, "width": 40}),
        "crop",
    ),
    "height, width and crop": (
        lambda: hf.EfficientNetImageProcessorPil(
            size={"height": 50, "width": 60}, crop_size={"height": 40, "width": 40}, do_center_crop=True
        ),
        "crop",
    ),
    "an offset": (
        lambda: hf.EfficientNetImageProcessorPil(
            size={"height": 40, "width": 40}, rescale_factor=1 / 127.5, rescale_offset=True, include_top=False
        ),
        "stretch",
    ),
    "a share": (
        lambda: hf.PoolFormerImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}),
        "crop",
    ),
    "a large ConvNeXt": (lambda: hf.ConvNextImageProcessorPil(size={"shortest_edge": 384}), "stretch"),
    "LeViT's margin": (
        lambda: hf.LevitImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        "crop",
    ),
    "BGR": (
        lambda: hf.MobileViTImageProcessorPil(size={"shortest_edge": 50}, crop_size={"height": 44, "width": 44}),
        "crop",
    ),
    "two edges": (lambda: hf.DetrImageProcessorPil(size={"shortest_edge": 60, "longest_edge": 100}), "letterbox"),
    "an aspect kept": (
        lambda: hf.DPTImageProcessorPil(
            size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14
        ),
        "stretch",
    ),
    "bytes": (
        lambda: hf.ViTImageProcessorPil(size={"height": 40, "width": 40}, do_rescale=False, do_normalize=False),
        "stretch",
    ),
    "nearest": (lambda: hf.ViTImageProcessorPil(size={"height": 40, "width": 40}, resample=0), "stretch"),
}


@pytest.mark.parametrize("form", PROCESSORS)
def test_preprocessing_is_that_of_the_processor(form: str, pictures: list[Any]) -> None:
    make, mode = PROCESSORS[form]
    spec, transform = preprocess_of(make(), InputSize(), "net")
    assert spec.mode == mode
    assert transform is not None
    parity = check_preprocess(spec, transform, pictures, "net")
    assert parity.max_steps <= 2
    assert parity.mean_steps < 0.5


def test_what_keeps_the_aspect_gets_the_size_of_a_camera_s_picture() -> None:
    make, _ = PROCESSORS["an aspect kept"]
    assert preprocess_of(make(), InputSize(), "net")[0].size_hw == (70, 98)
    with pytest.raises(ExportError, match=r"multiples of 14 \(ensure_multiple_of\)"):
        preprocess_of(make(), InputSize((60, 60)), "net")


def test_another_size_is_proved_too(pictures: list[Any]) -> None:
    for form, size_hw in (
        ("shortest edge and crop", (64, 64)),
        ("shortest edge and crop", (32, 64)),
        ("two edges", (64, 64)),
    ):
        spec, transform = preprocess_of(PROCESSORS[form][0](), InputSize(size_hw), "net")
        assert spec.size_hw == size_hw
        assert transform is not None
        assert check_preprocess(spec, transform, pictures, "net").max_steps <= 2


@pytest.mark.parametrize(
    ("processor", "field"),
    [
        (lambda: hf.ViTImageProcessorPil(do_resize=False), "do_resize is false"),
        (lambda: hf.ViTImageProcessorPil(resample=5), "resample is 5"),
        (lambda: hf.ZoeDepthImageProcessorPil(), "do_pad is true"),
        (lambda: hf.GLPNImageProcessorPil(), "size is not given"),
        (lambda: hf.DonutImageProcessorPil(), "do_thumbnail is true"),
        (lambda: hf.ViTImageProcessorPil(image_mean=[99.0] * 3), "image_mean, image_std, rescale_factor"),
    ],
)
def test_a_processor_that_no_bundle_describes_is_refused_by_its_field(processor: Callable[[], Any], field: str) -> None:
    with pytest.raises(ExportError, match=f"preprocessor_config.json: {field}.*, which a bundle cannot describe"):
        preprocess_of(processor(), InputSize(), "net")


def changed(saved: Callable[[str], Path], folder: Path, **config: Any) -> Path:
    """A copy of a folder with other values in its configuration."""
    shutil.copytree(saved("resnet"), folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return folder


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"auto_map": {"AutoModel": "code.Net"}}, "auto_map names code in the folder"),
        ({"architectures": ["ResNetForBirds"]}, "ResNetForBirds is not exported"),
        ({"architectures": ["NoSuchModel"]}, "has no network NoSuchModel"),
        ({"architectures": None}, "architectures must name one class"),
        ({"model_type": "birdnet"}, "transformers does not read it"),
        ({"num_channels": 1}, "num_channels is 1, but pictures have 3"),
        ({"quantization_config": {}}, "quantization_config: export the network in full precision"),
        ({"architecture": "resnet50", "pretrained_cfg": {}}, "export it as timm/resnet50"),
    ],
)
def test_a_folder_that_cannot_be_trusted_or_built_is_refused(
    saved: Callable[[str], Path], tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    folder = changed(saved, tmp_path / "net", **config)
    with pytest.raises((ExportError, UnknownModelError), match=words) as caught:
        load_backbone(ModelRequest(f"hf:{folder}"))
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = changed(saved, tmp_path / "deeper", depths=[2, 1, 1, 1])
    with pytest.raises(WeightsError, match=r"do not fit ResNetForImageClassification \(missing: .* more\)"):
        load_backbone(ModelRequest(f"hf:{folder}"))
    wider = changed(saved, tmp_path / "wider", hidden_sizes=[8, 16, 16, 64])
    with pytest.raises(WeightsError, match="do not fit ResNetForImageClassification"):
        load_backbone(ModelRequest(f"hf:{wider}"))
    (folder / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(WeightsError, match="do not fit ResNetForImageClassification"):
        load_backbone(ModelRequest(f"hf:{folder}"))


def test_options_that_a_network_does_not_have_are_refused(saved: Callable[[str], Path], tmp_path: Path) -> None:
    vit = f"hf:{saved('vit')}"
    for request, words in (
        (ModelRequest(vit, output_kind="depth"), "it returns logits, embedding, features or raw, not depth"),
        (ModelRequest(vit, output_kind="features"), "has no backbone of vit that returns maps"),
        (ModelRequest(vit, weights="net.pth"), "has its weights in its folder"),
        (ModelRequest(vit, weights_dir=tmp_path), "leave out --weights-dir"),
        (ModelRequest(f"hf:{saved('dinov2')}", output_kind="logits"), "returns embedding or features, not logits"),
        (ModelRequest(f"hf:{saved('segformer')}", labels=["road"]), "has 3 classes, but 1 labels were passed"),
        (ModelRequest(f"hf:{saved('segformer')}", output_kind="logits"), "returns segmentation, not logits"),
    ):
        with pytest.raises((ExportError, WeightsError), match=words):
            load_backbone(request)


def test_a_repository_is_taken_from_the_hub_s_cache_and_its_hash_is_the_hub_s(
    saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--owner--tiny-vit"
    snapshot = repository / "snapshots" / commit
    shutil.copytree(saved("vit"), snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir()
    weights = snapshot / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.rename(repository / "blobs" / digest)
    weights.symlink_to(repository / "blobs" / digest)
    record = load_backbone(ModelRequest("hf:owner/tiny-vit")).weights
    assert record.name == "owner/tiny-vit at 0123456789ab"
    assert record.sha256 == digest
    assert record.verified == "its sha256 is the publisher's"
    (repository / "blobs" / digest).write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="sha256 should start with"):
        load_backbone(ModelRequest("hf:owner/tiny-vit"))
    with pytest.raises(WeightsError, match="not complete in the model hub's cache"):
        load_backbone(ModelRequest("hf:owner/other"))


def test_families_are_listed() -> None:
    assert {"hf:resnet", "hf:dinov2", "hf:segformer", "hf:rt_detr", "hf:depth_anything"} <= set(list_models("hf:*"))
