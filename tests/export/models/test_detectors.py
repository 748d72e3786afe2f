"""torchvision's detectors in their static form, and segmentation networks, against torchvision itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorrt_rtx_build import build
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, nms

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.detections import Detections
from edgebone.core.manifest import Weights
from edgebone.core.segmentation import SegmentationMap
from edgebone_export import export
from edgebone_export.errors import ExportError, ParityError, WeightsError
from edgebone_export.models import segmenters, torchvision_models
from edgebone_export.models.contract import ModelRequest
from edgebone_export.models.detectors import composed, random_detectors, torchvision_detectors
from edgebone_export.models.detectors.boxes import best_pairs
from edgebone_export.models.detectors.composed import compose
from edgebone_export.models.detectors.roi_align import GridSampleRoIAlign
from edgebone_export.models.detectors.suppression import suppress
from edgebone_export.models.detectors.torchvision_detectors import canvas, names
from edgebone_export.models.registry import list_models, load_backbone
from edgebone_export.pictures import synthesize
from edgebone_export.proof.verify import check_against_library, check_preprocess, make_reference
from support.lowering import check_lowered_builds

SMALL = (128, 160)


@pytest.fixture(autouse=True)
def quick_random_weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    # Looking for random weights under which boxes survive takes as long as an export. SSD's pictures have one size.
    if "ssd" not in request.node.name:
        monkeypatch.setattr(random_detectors, "_SIDE", 96)


def random_boxes(rng: np.random.Generator, n: int, side: float = 64) -> torch.Tensor:
    corners = rng.uniform(-5, side, (n, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, side / 2, (n, 2))], axis=1).clip(0, side)
    return torch.from_numpy(boxes.astype(np.float32))


# --- suppression


@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.floats(0.2, 0.9))
def test_suppression_in_rounds_is_greedy_suppression(seed: int, n: int, iou: float) -> None:
    rng = np.random.default_rng(seed)
    batch = torch.stack([random_boxes(rng, n), random_boxes(rng, n)])
    valid = torch.from_numpy(rng.random((2, n)) < 0.8)
    scores = torch.linspace(1, 0.1, n)
    kept = suppress(batch, valid, iou)
    for boxes, takes_part, found in zip(batch, valid, kept, strict=True):
        places = torch.nonzero(takes_part).squeeze(1)
        wanted = torch.zeros(n, dtype=torch.bool)
        wanted[places[nms(boxes[places], scores[places], iou)]] = True
        assert torch.equal(found, wanted)


def test_a_chain_of_decisions_is_followed_as_far_as_there_are_rounds() -> None:
    # Each box overlaps its neighbours alone: greedy suppression keeps every second one.
    left = torch.arange(30.0)
    boxes = torch.stack([left, torch.zeros(30), left + 1.8, torch.ones(30)], dim=1)[None]
    valid = torch.ones(1, 30, dtype=torch.bool)
    wanted = torch.arange(30) % 2 == 0
    assert torch.equal(suppress(boxes, valid, 0.2, rounds=30)[0], wanted)
    few = suppress(boxes, valid, 0.2, rounds=20)[0]
    assert torch.equal(few[:20], wanted[:20])


def test_boxes_without_an_area_neither_suppress_nor_are_suppressed() -> None:
    boxes = torch.tensor([[[5.0, 5, 5, 9], [5, 5, 5, 9], [0, 0, 10, 10]]])
    assert suppress(boxes, torch.ones(1, 3, dtype=torch.bool), 0.5).all()


# --- RoIAlign


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([(64, 96), (70, 50), (128, 128)]))
def test_roi_align_by_grid_sample_is_torchvisions(seed: int, levels: int, size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    height, width = size_hw
    maps_hw = [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32)[:levels]]
    values = [rng.standard_normal((2, 5, *hw)).astype(np.float32) for hw in maps_hw]
    maps = {str(level): torch.from_numpy(value) for level, value in enumerate(values)}
    pool = MultiScaleRoIAlign(list(maps), output_size=7, sampling_ratio=2, canonical_scale=28)
    ours = GridSampleRoIAlign(pool, maps_hw, size_hw)
    boxes = torch.stack([random_boxes(rng, 12, 200) for _ in range(2)])
    boxes = torch.minimum(boxes, torch.tensor([width, height, width, height]))
    # Boxes at the edge, and boxes smaller than a cell: where implementations differ.
    boxes[:, 0] = torch.tensor([width - 0.3, height - 0.4, width, height])
    boxes[:, 1] = torch.tensor([0.0, 0.0, 0.1, 0.1])
    boxes[:, 2] = torch.tensor([0.0, 0.0, width, height])
    wanted = pool(maps, list(boxes), [size_hw] * 2)
    found = ours(list(maps.values()), boxes)
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=1e-4)


def test_a_pool_that_samples_by_size_is_refused() -> None:
    pool = MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=0)
    with pytest.raises(ExportError, match="sampling_ratio of 0"):
        GridSampleRoIAlign(pool, [(8, 8)], (32, 32))


def test_pairs_far_beyond_what_a_float_counts_are_taken_apart_exactly() -> None:
    # 17 million pairs: a float32 has 24 bits.
    scores = torch.zeros(1, 200_000, 91)
    scores[0, 199_999, 90], scores[0, 184_365, 7] = 2.0, 1.0
    best, place, classes = best_pairs(scores, 2)
    assert best.tolist() == [[2.0, 1.0]]
    assert place.tolist() == [[199_999, 184_365]]
    assert classes.tolist() == [[90, 7]]


# --- whole detectors


def test_the_detectors_that_the_readme_names_are_there() -> None:
    assert set(names()) == {
        "fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_fpn",
        "fasterrcnn_mobilenet_v3_large_320_fpn", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2",
        "fcos_resnet50_fpn", "ssd300_vgg16", "ssdlite320_mobilenet_v3_large",
    }  # fmt: skip
    assert {"fasterrcnn", "ssd300_vgg16", "lraspp_mobilenet_v3_large", "fcn_resnet50"} <= set(list_models("*"))


def test_the_canvas_is_torchvisions_padded_size_of_a_4_to_3_picture() -> None:
    assert canvas(800, 1333, 32) == (800, 1088)
    assert canvas(320, 640, 32) == (320, 448)


# Squares, cameras, phones held upright, panoramas. In floats, 720 times 448 / 1280 is a hair below 252.
ASPECTS_HW = ((256, 256), (480, 640), (720, 1280), (640, 480), (333, 500), (1920, 1080), (300, 1000), (667, 1000))


def of_eight_aspects() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [synthesize(size_hw, rng) for size_hw in ASPECTS_HW]


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("fasterrcnn_mobilenet_v3_large_320_fpn", "lraspp_mobilenet_v3_large")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in (*names(), *segmenters.names())
    ],
)  # fmt: skip
def test_pictures_of_any_aspect_fall_into_the_canvas_as_in_the_librarys_transform(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Weights do not matter here, and finding good ones takes most of the time.
    monkeypatch.setattr(torchvision_detectors, "randomize_detector", lambda _: None)
    backbone = load_backbone(ModelRequest(name, weights="random"))
    assert backbone.reference_transform is not None
    found = check_preprocess(backbone.preprocess, backbone.reference_transform, of_eight_aspects(), name)
    assert found.max_steps < 2


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    # Of this seed, random segmentation networks find several classes in the second.
    rng = np.random.default_rng(11)
    synthesize((240, 320), rng)
    for index, size_hw in enumerate([(300, 200), SMALL]):
        cv2.imwrite(str(folder / f"{index}.png"), synthesize(size_hw, rng))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size_hw", "batch"),
    [
        # These two at their defaults, as LR-ASPP is in test_benchmarks.py. At 800x1088 the others' eager networks take
        # minutes each; how pictures fall into their canvas is held above.
        ("fasterrcnn_mobilenet_v3_large_320_fpn", None, (1, 2)),
        ("ssdlite320_mobilenet_v3_large", None, (1, 1)),
        ("retinanet_resnet50_fpn_v2", SMALL, (1, 1)),
        ("fcos_resnet50_fpn", SMALL, (2, 2)),
    ],
)
def test_an_exported_detector_finds_what_torchvision_finds(
    name: str, size_hw: tuple[int, int] | None, batch: tuple[int, int], tmp_path: Path, pictures: Path
) -> None:
    report = export(name, tmp_path / "b", weights="random", size_hw=size_hw, batch=batch, samples=pictures)
    assert report.preprocess_parity is not None
    assert report.preprocess_parity.max_steps < 1
    assert report.parity.matched is not None and report.parity.matched >= 0.99
    with open_bundle(tmp_path / "b") as bundle:
        against = msgspec.json.decode(bundle.read("report.json"))["detections_against_library"]
        (head,) = bundle.manifest.heads.values()
    assert against["matched"] >= 0.99
    assert against["boxes"] > 100
    assert (head.decoder, len(head.labels)) == ("boxes@1", 91)
    assert build(str(tmp_path / "b/onnx/fp32.onnx")).size_bytes
    if name in ("fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"):
        # One of two stages and one of one stand for the others, which take minutes.
        check_lowered_builds(tmp_path / "b", tmp_path)
    files = sorted(pictures.iterdir())
    results = []
    for engine in ("onnxruntime", "openvino"):
        with edgebone.load(tmp_path / "b", engine=engine, precision="fp32") as model:
            results.append(model(list(files)))
    for path, one, other in zip(files, *results, strict=True):
        assert isinstance(one, Detections)
        assert len(one) > 10
        np.testing.assert_allclose(one.confidence[:10], other.confidence[:10], atol=1e-3)
        height, width = cv2.imread(str(path)).shape[:2]
        assert one.xyxy.min() >= 0
        assert (one.xyxy[:, 2:] <= (width, height)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "ssd300_vgg16"])
def test_the_static_form_finds_what_torchvision_finds(name: str) -> None:
    size_hw = None if name.startswith("ssd") else SMALL
    backbone = load_backbone(ModelRequest(name, weights="random", size_hw=size_hw))
    rng = np.random.default_rng(3)
    reference = make_reference(backbone, [synthesize((200, 260), rng)])
    found = check_against_library(backbone, reference)
    assert found.matched >= 0.99
    assert found.boxes > 10
    # A detector with other weights is told apart.
    with torch.no_grad():
        for parameter in backbone.library_detector.head.parameters() if size_hw is None else ():
            parameter.mul_(0.5)
    if size_hw is None:
        with pytest.raises(ParityError, match="of the boxes match the library's own detector"):
            check_against_library(backbone, reference)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "backbone"), [("fasterrcnn", "mobilenet_v2"), ("retinanet", "efficientnet_b0"), ("fcos", "timm/resnet18")]
)
def test_backbones_swap_under_heads(
    kind: str, backbone: str, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_few_proposals(*arguments: Any) -> Any:
        model = compose(*arguments)
        if kind == "fasterrcnn":
            # A thousand cost a hundred times as much as the backbone.
            model.rpn._pre_nms_top_n = model.rpn._post_nms_top_n = {"training": 100, "testing": 100}
            model.roi_heads.fg_bg_sampler.batch_size_per_image = 64
        return model

    monkeypatch.setattr(composed, "compose", with_few_proposals)
    labels = ("car", "traffic light ☂ 2")
    report = export(
        kind, tmp_path / "b", backbone=backbone, weights="random", size_hw=SMALL, labels=labels, samples=pictures
    )
    assert report.manifest.name == f"{kind} on {backbone.removeprefix('timm/')}"
    assert report.manifest.heads["detections"].labels == ("__background__", *labels)
    with edgebone.load(tmp_path / "b", precision="fp32") as model:
        found = model(next(pictures.iterdir()))
    # Trained as torchvision trains them, RetinaNet and FCOS never give class 0 either.
    assert set(found.labels) <= {*labels, *(("__background__",) if kind != "fasterrcnn" else ())}


def test_what_is_not_found_is_not_counted_as_found() -> None:
    backbone = load_backbone(ModelRequest("fcos", backbone="mobilenet_v3_small", weights="random", size_hw=SMALL))
    detector = backbone.library_detector
    with torch.no_grad():
        detector.head.classification_head.cls_logits.bias -= 50
    reference = make_reference(backbone, [synthesize((200, 260), np.random.default_rng(3))])
    found = check_against_library(backbone, reference)
    assert (found.matched, found.boxes, found.pictures) == (1.0, 0, 1)
    # One side alone that finds something is a difference.
    with torch.no_grad():
        detector.head.classification_head.cls_logits.bias += 50
    with pytest.raises(ParityError, match=r"only 0.0 % of the boxes"):
        check_against_library(backbone, reference)


def test_a_detector_trained_on_a_swapped_backbone_is_exported_with_its_weights(tmp_path: Path) -> None:
    body = load_backbone(ModelRequest("mobilenet_v3_small", weights="random", size_hw=SMALL, output_kind="features"))
    model = compose("fcos", body, 3).train()
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if "fpn" in name)
    target = {"boxes": torch.tensor([[20.0, 20, 90, 90]]), "labels": torch.tensor([1])}
    losses = model([torch.rand(3, *SMALL)] * 2, [target] * 2)
    sum(losses.values()).backward()
    torch.save(model.state_dict(), tmp_path / "trained.pth")
    loaded = load_backbone(
        ModelRequest(
            "fcos",
            backbone="mobilenet_v3_small",
            weights=str(tmp_path / "trained.pth"),
            size_hw=SMALL,
            labels=("a", "b"),
        )
    )
    ours, theirs = loaded.library_detector.state_dict(), model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    with pytest.raises(WeightsError, match=r"for 1 classes \(--labels\).*shape"):
        load_backbone(
            ModelRequest(
                "fcos",
                backbone="mobilenet_v3_small",
                weights=str(tmp_path / "trained.pth"),
                size_hw=SMALL,
                labels=("a",),
            )
        )


def test_published_weights_are_built_as_torchvision_builds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COCO_V1 of Faster R-CNN has frozen batch norms without an epsilon; a file of one's own has plain ones."""
    plain = torchvision.models.get_model("fasterrcnn_resnet50_fpn", weights=None, weights_backbone=None)
    state = {key: value for key, value in plain.state_dict().items() if "num_batches_tracked" not in key}
    torch.save(state, tmp_path / "w.pth")
    record = Weights("COCO_V1", "made up", "", "for this test")
    monkeypatch.setattr(torchvision_models, "resolve", lambda *_: (tmp_path / "w.pth", record))
    backbone = load_backbone(ModelRequest("fasterrcnn_resnet50_fpn", weights="COCO_V1", size_hw=SMALL))
    frozen = [layer for layer in backbone.library_detector.modules() if isinstance(layer, FrozenBatchNorm2d)]
    assert len(frozen) == 53
    assert {layer.eps for layer in frozen} == {0.0}
    assert backbone.weights.name == "COCO_V1"
    assert backbone.heads["detections"].labels == tuple(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
    own = load_backbone(ModelRequest("fasterrcnn_resnet50_fpn", weights=str(tmp_path / "w.pth"), size_hw=SMALL))
    assert not [layer for layer in own.library_detector.modules() if isinstance(layer, FrozenBatchNorm2d)]


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("fasterrcnn", {}, "fasterrcnn needs a backbone: --backbone mobilenet_v3_large"),
        ("fasterrcnn", {"backbone": "vit_b_16", "size_hw": (224, 224)}, r"feature maps of strides \[16\].*two or more"),
        ("resnet18", {"backbone": "resnet18"}, "--backbone applies to fasterrcnn, retinanet, fcos"),
        ("ssd300_vgg16", {"size_hw": (320, 320)}, "has a fixed input of 300x300"),
        ("ssdlite320_mobilenet_v3_large", {"output_kind": "logits"}, "returns detections, not logits"),
        ("lraspp_mobilenet_v3_large", {"output_kind": "features"}, "returns segmentation, not features"),
        ("resnet18", {"output_kind": "detections"}, "resnet18 is a classifier"),
        ("fcos_resnet50_fpn", {"decode": "host"}, "--decode host applies to segmentation"),
        ("fcos_resnet50_fpn", {"weights": "COCO_V1", "labels": ("a",)}, "to use other labels, pass your own weights"),
    ],
)
def test_what_does_not_go_together_is_refused(name: str, settings: dict[str, object], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        load_backbone(ModelRequest(name, **{"weights": "random", **settings}))  # type: ignore[arg-type]


# --- segmentation


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_segmentation_gives_torchvisions_classes(name: str, tmp_path: Path, pictures: Path) -> None:
    report = export(name, tmp_path / "graph", weights="random", size_hw=SMALL, samples=pictures)
    assert report.parity.matched is not None and report.parity.matched > 0.999
    export(name, tmp_path / "host", weights="random", size_hw=SMALL, samples=pictures, decode="host")
    assert build(str(tmp_path / "graph/onnx/fp32.onnx")).size_bytes
    if name.startswith("lraspp"):
        check_lowered_builds(tmp_path / "graph", tmp_path)
    backbone = load_backbone(ModelRequest(name, weights="random", size_hw=SMALL, decode="host"))
    with open_bundle(tmp_path / "graph") as bundle:
        golden = np.load(io.BytesIO(bundle.read("golden/tensors.npz")))
        labels = bundle.manifest.heads["segmentation"].labels
        assert bundle.manifest.outputs[0].dtype == "uint8"
    assert labels[:3] == ("__background__", "aeroplane", "bicycle")
    mean, std = np.array(backbone.preprocess.mean), np.array(backbone.preprocess.std)
    images = torch.from_numpy(((golden["input"] / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        wanted = backbone.module.model(images)["out"].argmax(dim=1).numpy()
    assert (golden["classes"] == wanted).mean() > 0.999
    path = sorted(pictures.iterdir())[1]
    maps = []
    for decode in ("graph", "host"):
        for engine in ("onnxruntime", "openvino"):
            with edgebone.load(tmp_path / decode, engine=engine, precision="fp32") as model:
                found = model(path)
            assert isinstance(found, SegmentationMap)
            maps.append(found.class_id)
    # This picture has the canvas' size: no pixel is moved.
    assert (maps[0] == golden_like(backbone, path)).mean() > 0.999
    assert all((maps[0] == other).mean() > 0.999 for other in maps)
    assert len(np.unique(maps[0])) > 2


def golden_like(backbone: object, path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    spec = backbone.preprocess  # type: ignore[attr-defined]
    normal = (image[..., ::-1] / 255 - np.array(spec.mean)) / np.array(spec.std)
    with torch.no_grad():
        logits = backbone.module(torch.from_numpy(normal.transpose(2, 0, 1)[None].astype(np.float32)))  # type: ignore[attr-defined]
    return np.asarray(logits.argmax(dim=1)[0].numpy())


def test_a_segmentation_networks_own_classes(tmp_path: Path) -> None:
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=2)
    torch.save(model.state_dict(), tmp_path / "lanes.pth")
    backbone = load_backbone(
        ModelRequest(
            "lraspp_mobilenet_v3_large", weights=str(tmp_path / "lanes.pth"), labels=("none", "lane"), size_hw=SMALL
        )
    )
    assert backbone.heads["segmentation"].labels == ("none", "lane")
    with pytest.raises(ExportError, match="has 2 classes, but 3 labels were passed"):
        load_backbone(
            ModelRequest("lraspp_mobilenet_v3_large", weights=str(tmp_path / "lanes.pth"), labels=("a", "b", "c"))
        )
