"""Heads on maps, fitted on drawn scenes through a tiny backbone: segmentation, detection and anomalies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch

import edgebone
from edgebone.core.anomaly import Anomaly
from edgebone.core.bundle import open_bundle
from edgebone.core.detections import Detections
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head
from edgebone.core.segmentation import SegmentationMap
from edgebone.decode import make_decoder
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.engines.openvino.engine import OpenVinoEngine
from edgebone.engines.spec import Candidate
from edgebone.engines.tensorrt.builder import compile_engine
from edgebone.engines.tensorrt.settings import CompileSettings, Target
from edgebone.sinks.annotate import annotate
from edgebone_export.errors import ExportError, ParityError
from edgebone_export.heads.attach.artefact import make_artefact
from edgebone_export.heads.attach.attach import attach
from edgebone_export.heads.attach.join import graph_with_taps
from edgebone_export.heads.features.fitted import FittedHead
from edgebone_export.heads.features.taps import taps_of
from edgebone_export.heads.maps.anomaly import fit_anomaly, greedy_coreset, threshold_of
from edgebone_export.heads.maps.detection import fit_detection
from edgebone_export.heads.maps.detection_metrics import Boxes, best_score
from edgebone_export.heads.maps.detection_net import locations
from edgebone_export.heads.maps.detection_targets import BACKGROUND, assign, centerness_of, giou_loss
from edgebone_export.heads.maps.graph import write_graph
from edgebone_export.heads.maps.segmentation import fit_segmentation
from edgebone_export.heads.maps.segmentation_metrics import border_f1, confusion, ious, mean_iou, spread
from edgebone_export.heads.maps.training import set_aside
from support.networks import SIZE, classifier, write_network

HW = (SIZE, SIZE)
WHOLE = Geometry(HW, HW, (1.0, 1.0), (0.0, 0.0))
AREAS = ("background", "block", "disc", "line")
THINGS = ("block", "disc")
Maps = dict[str, np.ndarray]


@dataclass(frozen=True)
class Scene:
    """A drawn picture with what is in it."""

    bgr: np.ndarray
    mask: np.ndarray
    boxes: Boxes


def draw(seed: int, line: bool = True) -> Scene:
    """A grey ground with a white line, a red block and a green disc, where the dice fall."""
    rng = np.random.default_rng(seed)
    bgr = cv2.GaussianBlur(rng.integers(40, 120, (*HW, 3)).astype(np.uint8), (0, 0), 1)
    mask = np.zeros(HW, np.uint8)
    if line:
        ends = [(int(rng.integers(SIZE)), 0), (int(rng.integers(SIZE)), SIZE - 1)]
        for canvas, color in ((bgr, (255, 255, 255)), (mask, 3)):
            cv2.line(canvas, *ends, color, 2)
    found = []
    for kind in rng.permutation(2)[: rng.integers(1, 3)].tolist():
        radius = int(rng.integers(3, 7))
        x, y = rng.integers(radius, SIZE - radius, 2).tolist()
        for canvas, color in ((bgr, ((30, 40, 230), (40, 220, 30))[kind]), (mask, kind + 1)):
            if kind:
                cv2.circle(canvas, (x, y), radius, color, -1)
            else:
                cv2.rectangle(canvas, (x - radius, y - radius), (x + radius, y + radius), color, -1)
        found.append((x - radius, y - radius, x + radius + 1, y + radius + 1, kind))
    rows = np.array(found, np.float32)
    return Scene(bgr, mask, (rows[:, :4], rows[:, 4].astype(np.int64)))


def striped(seed: int, odd: bool = False) -> np.ndarray:
    """A striped cloth; an odd one has a stain."""
    rng = np.random.default_rng(seed)
    columns = 110 + 50 * np.sin(np.arange(SIZE) * 0.9 + rng.uniform(0, 6))
    bgr = (columns[None, :, None] + rng.normal(0, 6, (*HW, 3))).clip(0, 255).astype(np.uint8)
    if odd:
        cv2.circle(bgr, stain(seed), 4, (20, 30, 60), -1)
    return bgr


def stain(seed: int) -> tuple[int, int]:
    return 6 + seed * 7 % 20, 6 + seed * 5 % 20


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("dense") / "n.bundle", classifier(batch="batch"), batch=(1, 4))


@pytest.fixture(scope="session")
def maps_of(backbone: Path) -> Callable[[Sequence[np.ndarray]], Maps]:
    """What the backbone gives for pictures, through its own graph."""
    with open_bundle(backbone) as opened:
        taps = {name: tap for name, tap in taps_of(opened).items() if tap.stride}
        content, specs = graph_with_taps(opened.read("onnx/fp32.onnx"), taps, "test")
    assert list(taps) == ["features_s2", "features_s4"]

    def compute(pictures: Sequence[np.ndarray]) -> Maps:
        rgb = np.stack(pictures)[..., ::-1]
        with OnnxRuntimeEngine(content, threads=1) as engine:
            given = [engine.run({"images": np.ascontiguousarray(one[None])}) for one in rgb]
        return {name: np.concatenate([one[spec.name] for one in given]) for name, spec in specs.items()}

    return compute


@dataclass(frozen=True)
class Case:
    """Scenes to fit on and others to measure on, with their maps."""

    scenes: list[Scene]
    others: list[Scene]
    maps: Maps
    other_maps: Maps

    @property
    def masks(self) -> np.ndarray:
        return np.stack([scene.mask for scene in self.scenes])

    @property
    def other_masks(self) -> np.ndarray:
        return np.stack([scene.mask for scene in self.others])


@pytest.fixture(scope="session")
def case(maps_of: Callable[[Sequence[np.ndarray]], Maps]) -> Case:
    scenes, others = [draw(seed) for seed in range(80)], [draw(seed) for seed in range(1000, 1030)]
    maps, other_maps = (maps_of([scene.bgr for scene in side]) for side in (scenes, others))
    return Case(scenes, others, maps, other_maps)


@pytest.fixture(scope="session")
def segmenter(case: Case) -> FittedHead:
    return fit_segmentation(case.maps, case.masks, case.other_maps, case.other_masks, AREAS, output_stride=1, epochs=12)


@pytest.fixture(scope="session")
def detector(case: Case) -> FittedHead:
    boxes, others = [scene.boxes for scene in case.scenes], [scene.boxes for scene in case.others]
    return fit_detection(case.maps, boxes, case.other_maps, others, THINGS, HW, width=32, epochs=14)


@pytest.fixture(scope="session")
def anomalies(maps_of: Callable[[Sequence[np.ndarray]], Maps]) -> tuple[FittedHead, Maps]:
    normal, more, odd = (
        maps_of([striped(seed, is_odd) for seed in range(start, start + count)])
        for start, count, is_odd in ((0, 30, False), (100, 120, False), (300, 20, True))
    )
    return fit_anomaly(normal, held_out_normal=more, held_out_anomalous=odd, coreset=200, dimensions=32), odd


def answers(head: FittedHead, maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a head's graph gives, in onnxruntime."""
    with OnnxRuntimeEngine(head.graph, threads=1) as engine:
        return engine.run({name: np.ascontiguousarray(array, np.float32) for name, array in maps.items()})


def decoded(head: FittedHead, maps: Mapping[str, np.ndarray], **settings: Any) -> list[Any]:
    given = answers(head, maps)
    entry = Head(head.decoder, tuple(spec.name for spec in head.outputs), head.labels, dict(head.params))
    decode = make_decoder("head", entry, head.outputs, HW, **settings)
    rows = len(next(iter(maps.values())))
    return [decode([given[spec.name][row] for spec in head.outputs], WHOLE) for row in range(rows)]


def test_segmentation_finds_areas_in_pictures_that_it_has_not_seen(case: Case, segmenter: FittedHead) -> None:
    found = np.stack([result.class_id for result in decoded(segmenter, case.other_maps)])
    counts = confusion(found, case.other_masks, len(AREAS))
    report = segmenter.report["held_out"]
    assert mean_iou(counts) == pytest.approx(report["miou"], abs=1e-5)
    # Background everywhere would have a mean of a fifth.
    assert report["miou"] > 0.6
    assert min(report["iou"].values()) > 0.4
    assert report["border_f1"]["line"] > 0.8
    assert list(report["iou"]) == list(AREAS)
    assert report["pictures"] == 30
    assert segmenter.report["train"]["pictures"] == 64
    assert segmenter.report["validation"]["pictures"] == 16
    assert 1 <= segmenter.report["best_epoch"] <= segmenter.report["epochs"] <= 12
    assert segmenter.outputs[0].dtype == "uint8"
    assert segmenter.outputs[0].shape == ("batch", *HW)


def test_a_linear_decoder_is_smaller_and_not_as_good(case: Case, segmenter: FittedHead) -> None:
    head = fit_segmentation(
        case.maps, case.masks, case.other_maps, case.other_masks, AREAS, decoder_kind="linear", output_stride=1,
        epochs=8, learning_rate=1e-2,
    )  # fmt: skip
    assert head.report["parameters"] < segmenter.report["parameters"]
    assert 0.3 < head.report["held_out"]["miou"] < segmenter.report["held_out"]["miou"]
    operators = {node.op_type for node in onnx.load_from_string(head.graph).graph.node}
    assert operators <= {"Conv", "Add", "Resize", "Shape", "Concat", "ArgMax", "Cast"}


def test_what_does_not_count_is_not_learned_from(case: Case) -> None:
    masks = case.masks.copy()
    masks[masks == 3] = 255
    head = fit_segmentation(
        case.maps, masks, case.other_maps, case.other_masks, AREAS, decoder_kind="linear", epochs=2, output_stride=1
    )
    assert head.report["train"]["pixels"]["line"] == 0
    assert "line" not in {AREAS[index] for index in np.unique(answers(head, case.other_maps)["classes"])}


def test_detection_finds_boxes_in_pictures_that_it_has_not_seen(case: Case, detector: FittedHead) -> None:
    report = detector.report["held_out"]
    assert report["AP50"] > 0.7
    results: list[Detections] = decoded(detector, case.other_maps)
    assert 0 < detector.params["score"] < 1
    right = wrong = 0
    for result, scene in zip(results, case.others, strict=True):
        for xyxy, class_id in zip(result.xyxy, result.class_id, strict=True):
            near = np.abs(scene.boxes[0] - xyxy).max(axis=1) < 3
            hit = bool((near & (scene.boxes[1] == class_id)).any())
            right, wrong = right + hit, wrong + (not hit)
    boxes = sum(len(scene.boxes[1]) for scene in case.others)
    assert sum(report["boxes"].values()) == boxes
    assert right > 0.6 * boxes
    assert right > 2 * wrong


def test_an_anomaly_head_tells_what_is_odd_and_where(anomalies: tuple[FittedHead, Maps]) -> None:
    head, odd = anomalies
    held_out = head.report["held_out"]
    assert held_out["anomalous"]["auroc"] > 0.98
    assert held_out["anomalous"]["found"]["value"] > 0.8
    assert held_out["normal"]["false_alarms"]["value"] <= 0.02
    results: list[Anomaly] = decoded(head, odd)
    assert [result.is_anomalous for result in results].count(True) > 16
    off = [np.hypot(*np.subtract(result.worst_xy, stain(300 + row))) for row, result in enumerate(results)]
    assert np.mean(np.array(off) < 7) > 0.8


def test_an_anomaly_is_drawn_where_it_is(anomalies: tuple[FittedHead, Maps]) -> None:
    head, odd = anomalies
    picture, result = striped(300, odd=True), decoded(head, {name: array[:1] for name, array in odd.items()})[0]
    big = cv2.resize(picture, None, fx=10, fy=10)
    result = Anomaly(result.score, result.threshold, cv2.resize(result.map, None, fx=10, fy=10))
    drawn = annotate(big, result)
    x, y = result.worst_xy
    assert drawn[y, x, 2] > big[y, x, 2]
    calm = result.map < 0.8 * result.threshold
    calm[:120] = False
    assert np.array_equal(drawn[calm], big[calm])


@pytest.mark.parametrize("kind", ["segmenter", "detector", "anomalies"])
def test_graphs_are_what_every_engine_takes(kind: str, case: Case, request: pytest.FixtureRequest) -> None:
    head = request.getfixturevalue(kind)
    head = head[0] if isinstance(head, tuple) else head
    model = onnx.load_from_string(head.graph)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)]
    assert not {node.op_type for node in model.graph.node} & {"NonMaxSuppression", "BatchNormalization", "NonZero"}
    assert [item.name for item in model.graph.input] == ["features_s2", "features_s4"]
    for item in (*model.graph.input, *model.graph.output):
        dims = item.type.tensor_type.shape.dim
        assert dims[0].dim_param == "batch"
        assert all(dim.dim_value > 0 for dim in dims[1:])
    with OnnxRuntimeEngine(head.graph, threads=1) as ours, OpenVinoEngine(head.graph, precision="fp32") as theirs:
        assert [spec.dtype for spec in ours.outputs] == [spec.dtype for spec in head.outputs]
        for batch in (1, 3):
            feeds = {name: array[:batch] for name, array in case.other_maps.items()}
            want, have = ours.run(feeds), theirs.run(feeds)
            for name, array in want.items():
                if array.dtype == np.uint8:
                    assert (array == have[name]).mean() > 0.999
                else:
                    np.testing.assert_allclose(have[name][..., :5], array[..., :5], atol=2e-3)


@pytest.mark.slow
def test_nothing_is_chosen_on_the_pictures_that_are_measured_on(
    case: Case, anomalies: tuple[FittedHead, Maps], maps_of: Callable[[Sequence[np.ndarray]], Maps]
) -> None:
    boxes, few = [scene.boxes for scene in case.scenes[:40]], {name: a[:40] for name, a in case.maps.items()}
    others = [scene.boxes for scene in case.others]
    settings: dict[str, Any] = {"width": 16, "blocks": 1, "epochs": 3}
    alone = fit_detection(few, boxes, None, None, THINGS, HW, **settings)
    measured = fit_detection(few, boxes, case.other_maps, others, THINGS, HW, **settings)
    assert measured.graph == alone.graph
    assert measured.params == alone.params
    assert measured.report["held_out"]["f1"] != measured.report["validation"]["f1"]
    areas: dict[str, Any] = {"decoder_kind": "linear", "epochs": 2}
    plain = fit_segmentation(few, case.masks[:40], None, None, AREAS, **areas)
    seen = fit_segmentation(few, case.masks[:40], case.other_maps, case.other_masks, AREAS, **areas)
    assert seen.graph == plain.graph
    normal, usual, noisy = (
        maps_of([striped(seed, is_odd) for seed in range(start, start + 10)])
        for start, is_odd in ((0, False), (100, False), (300, True))
    )
    calm, odd = (fit_anomaly(normal, held_out_normal=own, coreset=50, dimensions=16) for own in (usual, noisy))
    assert odd.params == calm.params
    # Called normal, and yet alarms: the figure is of pictures that did not set the threshold.
    assert odd.report["held_out"]["normal"]["false_alarms"]["value"] > 0.5


def test_the_same_seed_gives_the_same_head(case: Case) -> None:
    boxes = [scene.boxes for scene in case.scenes[:16]]
    maps = {"features_s4": case.maps["features_s4"][:16]}
    before = torch.get_rng_state()
    first, again = (
        fit_detection(maps, boxes, None, None, THINGS, HW, width=16, blocks=1, epochs=2, seed=3) for _ in range(2)
    )
    assert first.graph == again.graph
    assert {**first.report, "seconds": 0} == {**again.report, "seconds": 0}
    assert torch.equal(torch.get_rng_state(), before)
    assert [rows.tolist() for rows in set_aside(np.arange(9), 3)] != [
        rows.tolist() for rows in set_aside(np.arange(9), 4)
    ]


def test_views_of_a_picture_are_set_aside_together(case: Case) -> None:
    picture = np.arange(40).repeat(2)
    train, held = set_aside(picture, seed=0)
    assert set(picture[train]) | set(picture[held]) == set(range(40))
    assert not set(picture[train]) & set(picture[held])
    assert len(held) == 16
    head = fit_segmentation(case.maps, case.masks, None, None, AREAS, picture=picture, decoder_kind="linear", epochs=1)
    assert head.report["train"]["pictures"] == 32
    assert head.report["validation"]["pictures"] == 8
    assert head.report["held_out"] is None


def test_maps_may_lie_on_disk_in_half_precision(case: Case, tmp_path: Path) -> None:
    halves = {}
    for name, array in case.maps.items():
        np.save(tmp_path / f"{name}.npy", array.astype(np.float16))
        halves[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    head = fit_segmentation(
        halves, case.masks, case.other_maps, case.other_masks, AREAS, decoder_kind="linear", epochs=2
    )
    assert head.report["held_out"]["miou"] > 0.2


def test_heads_of_all_kinds_answer_from_one_backbone(
    backbone: Path,
    case: Case,
    segmenter: FittedHead,
    detector: FittedHead,
    anomalies: tuple[FittedHead, Maps],
    tmp_path: Path,
) -> None:
    heads = {"areas": segmenter, "things": detector, "odd": anomalies[0]}
    with open_bundle(backbone) as opened:
        taps, reads = taps_of(opened), ["features_s2", "features_s4"]
        candidate = Candidate("onnxruntime", "fp32", "fp32")
        artefacts = {key: make_artefact(key, head, opened, taps, reads, candidate) for key, head in heads.items()}
    for detached in (False, True):
        path = tmp_path / f"{detached}.bundle"
        attach(backbone, artefacts, path, detached=detached)
        with edgebone.load(path, engine="onnxruntime", threads=1) as model:
            seen: list[Any] = model([scene.bgr for scene in case.others[:6]])
        for row, result in enumerate(seen):
            maps = {name: array[row : row + 1] for name, array in case.other_maps.items()}
            assert isinstance(result["areas"], SegmentationMap)
            np.testing.assert_array_equal(result["areas"].class_id, decoded(segmenter, maps)[0].class_id)
            np.testing.assert_allclose(result["things"].xyxy, decoded(detector, maps)[0].xyxy, atol=0.01)
            assert result["odd"].score == pytest.approx(decoded(anomalies[0], maps)[0].score, abs=1e-3)
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")
    with open_bundle(tmp_path / "False.bundle") as opened:
        content = opened.read("onnx/fp32.onnx")
    assert compile_engine(content, "heads", Target("tensorrt-rtx", ("SM86",)), CompileSettings(), (1, 4)).content


def one(xyxy: Sequence[float], class_id: int = 0) -> Boxes:
    return np.array([xyxy], np.float32), np.array([class_id])


NONE: Boxes = (np.empty((0, 4), np.float32), np.empty(0, np.int64))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": ("one",)}, "2 to 255 labels including the background, found 1"),
        ({"labels": ("a", "b")}, r"has class 3, but there are 2 labels \(0 to 1\); 255 marks pixels to ignore"),
        ({"train_masks": "smaller"}, "features_s2 has 16x16 cells of 2 pixels, which is not 16x16"),
        ({"train_masks": "fewer"}, "features_s2: expected maps of 79 pictures, found 80"),
        ({"train_masks": "empty"}, r"one class only \(background\)"),
        ({"train_masks": "ignored"}, r"one class only \(none that is not ignored\)"),
        ({"train_masks": "wide"}, r"masks must be uint8 \(n, height, width\), found int64 \[80, 32, 32\]"),
        ({"train_maps": {}}, "no maps; a dense head reads one tap or more"),
        ({"train_maps": "vectors"}, "reads maps, such as features_s8 for stride 8; found 'embedding'"),
        (
            {"held_out_maps": "one tap"},
            "features_s4 missing; the training pictures have the taps features_s2, features",
        ),
        ({"held_out_maps": "narrow"}, r"features_s4 has maps \[3, 8, 8\], the training pictures \[32, 8, 8\]"),
        ({"held_out_masks": None}, "found only one of them"),
        ({"decoder_kind": "unet"}, "lraspp or linear, found 'unet'"),
        ({"epochs": 0}, "epochs must be above 0, found 0"),
        ({"output_stride": 0}, "output_stride must be above 0, found 0"),
        ({"picture": np.arange(3)}, "expected a picture number for each of 80 rows of maps"),
    ],
)
def test_what_no_segmentation_can_be_fitted_on_is_refused(case: Case, change: dict[str, Any], words: str) -> None:
    masks = {
        "smaller": case.masks[:, ::2, ::2],
        "fewer": case.masks[1:],
        "empty": case.masks * 0,
        "ignored": case.masks * 0 + 255,
        "wide": case.masks.astype(np.int64),
    }
    maps = {
        "vectors": {"embedding": np.zeros((80, 4), np.float32)},
        "one tap": {"features_s2": case.other_maps["features_s2"]},
        "narrow": {**case.other_maps, "features_s4": case.other_maps["features_s4"][:, :3]},
    }
    named = {"train_masks": masks, "train_maps": maps, "held_out_maps": maps}
    change = {
        key: named[key][value] if key in named and isinstance(value, str) else value for key, value in change.items()
    }
    settings: dict[str, Any] = {
        "train_maps": case.maps,
        "train_masks": case.masks,
        "held_out_maps": case.other_maps,
        "held_out_masks": case.other_masks,
        "labels": AREAS,
    }
    with pytest.raises(ExportError, match=words):
        fit_segmentation(**{**settings, **change})


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([NONE] * 10, "training pictures have no boxes at all"),
        ([one((1, 1, 9, 9), 2)] * 10, r"row 0 has class 2, but there are 2 labels \(0 to 1\)"),
        ([one((9, 9, 1, 1))] * 10, r"a box \[9.0, 9.0, 1.0, 1.0\] without an area in the network's input of 32x32"),
        ([one((40, 40, 60, 60))] * 10, "without an area in the network's input"),
        ([one((1, 1, 9, 9))] * 9, "features_s2: expected maps of 9 pictures, found 10"),
        ([(np.zeros((2, 5), np.float32), np.zeros(2, np.int64))] * 10, r"found \[2, 5\] and \[2\]"),
    ],
)
def test_what_no_detector_can_be_fitted_on_is_refused(case: Case, boxes: list[Boxes], words: str) -> None:
    maps = {name: array[:10] for name, array in case.maps.items()}
    with pytest.raises(ExportError, match=words):
        fit_detection(maps, boxes, None, None, THINGS, HW)


def test_what_no_anomaly_head_can_be_fitted_on_is_refused(case: Case) -> None:
    few = {name: array[:4] for name, array in case.maps.items()}
    with pytest.raises(ExportError, match="an anomaly head needs 5 normal pictures, better 50; found 4"):
        fit_anomaly(few, held_out_normal=case.maps)
    with pytest.raises(ExportError, match="an anomaly head needs 5 normal pictures, better 50; found 4"):
        fit_anomaly(case.maps, held_out_normal=few, picture=np.arange(80) // 20)
    with pytest.raises(ExportError, match="anomalous pictures: features_s4 missing"):
        fit_anomaly(case.maps, held_out_normal=case.maps, held_out_anomalous={"features_s2": few["features_s2"]})
    with pytest.raises(ExportError, match="a false alarm rate between 0 and 1, found 1000, 128 and 1"):
        fit_anomaly(case.maps, held_out_normal=case.maps, false_alarm_rate=1)
    broken = {name: array.copy() for name, array in case.maps.items()}
    broken["features_s2"][3, 0, 0, 0] = np.nan
    with pytest.raises(ExportError, match="NaN or infinity; check the backbone's output"):
        fit_anomaly(broken, held_out_normal=case.maps)
    with pytest.raises(ExportError, match="the loss is not finite; check the maps for NaN"):
        fit_segmentation(broken, case.masks, None, None, AREAS, decoder_kind="linear", epochs=1)


def test_a_graph_that_is_not_the_module_is_refused(case: Case) -> None:
    class Fickle(torch.nn.Module):
        """Gives another answer each time that it is asked."""

        def forward(self, *maps: torch.Tensor) -> torch.Tensor:
            scale = 1.0 if torch.compiler.is_exporting() else 1.01
            return sum(item.mean(dim=(1, 2, 3)) for item in maps) * scale + 1

    with pytest.raises(ParityError, match="output score, batch 1: the graph differs from the fitted module by"):
        write_graph(Fickle(), case.maps, ["score"])


def test_each_cell_learns_of_the_smallest_box_that_it_is_central_to() -> None:
    centers, strides = locations((8, 16), ((8, 8), (4, 4)))
    large, small, tiny = [0.0, 0, 64, 64], [10.0, 10, 30, 30], [41.0, 41, 43, 43]
    boxes = torch.tensor([large, small, tiny]), torch.tensor([0, 1, 2])
    targets = assign([boxes, (torch.empty(0, 4), torch.empty(0, dtype=torch.int64))], centers, strides)
    found, sides = targets.classes[0], targets.sides[0]
    assert (targets.classes[1] == BACKGROUND).all()
    at = {tuple(center.tolist()): int(class_id) for center, class_id in zip(centers[:64], found[:64], strict=True)}
    assert at[(20.0, 20.0)] == 1
    assert at[(4.0, 4.0)] == BACKGROUND
    # Smaller than a cell, so that no cell's centre is in it: the nearest one learns of it.
    assert at[(44.0, 44.0)] == 2 or at[(36.0, 36.0)] == 2
    assert (found == 2).sum() == 1
    for index in torch.nonzero(found == 1)[:, 0]:
        x, y = centers[index].tolist()
        assert sides[index].tolist() == [x - 10, y - 10, 30 - x, 30 - y]
    assert set(strides[found == 0].tolist()) <= {8.0, 16.0}


def test_box_losses_are_those_of_the_papers() -> None:
    a = torch.tensor([[2.0, 2, 2, 2], [1, 1, 1, 1]])
    assert giou_loss(a, a).tolist() == [0, 0]
    assert giou_loss(a[:1], a[1:]).item() == pytest.approx(1 - 4 / 16)
    # Apart: the boxes of 1x2 and 2x1 share one unit; the hull is 2x2.
    left, right = torch.tensor([[1.0, 1, 0, 1]]), torch.tensor([[0.0, 1, 1, 1]])
    assert giou_loss(left, right).item() == pytest.approx(1.0)
    assert centerness_of(torch.tensor([[2.0, 3, 2, 3], [1, 1, 4, 1]])).tolist() == pytest.approx([1.0, 0.5])


def test_the_best_score_is_the_one_with_the_best_f1() -> None:
    truth = [one((0, 0, 10, 10)), NONE]
    rows = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], np.float32)
    seen = Detections(rows, np.array([0.9, 0.8, 0.3], np.float32), np.zeros(3, np.int64), {})
    stray = Detections(rows[2:], np.array([0.4], np.float32), np.zeros(1, np.int64), {})
    assert best_score([seen, stray], truth) == (0.899, 1.0)
    assert best_score([stray, stray], truth) == (0.5, 0.0)


def test_borders_that_are_nearly_met_count_as_met() -> None:
    truth = np.zeros((100, 100), np.uint8)
    truth[:, 50:52] = 1
    near, far = np.roll(truth, 2, axis=1), np.roll(truth, 20, axis=1)
    (_, found), tolerance = border_f1([(near, truth)], 2, (100, 100))
    assert tolerance == 2
    assert found > 0.99
    assert ious(confusion(near, truth, 2))[1] == 0
    assert border_f1([(far, truth)], 2, (100, 100))[0][1] == 0
    assert border_f1([(near * 0, truth)], 2, (100, 100))[0][1] == 0
    assert border_f1([(truth * 0, truth * 0)], 2, (100, 100))[0] == [None, None]
    np.testing.assert_array_equal(spread(truth[None, ::2, ::2], (100, 100))[0], truth)


def test_a_threshold_holds_what_it_says() -> None:
    rng = np.random.default_rng(0)
    alarms = [
        float((rng.gamma(4, size=500) > threshold_of(rng.gamma(4, size=199), 0.05)[0]).mean()) for _ in range(200)
    ]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.01)
    few = rng.gamma(4, size=20)
    threshold, words = threshold_of(few, 0.01)
    assert threshold >= few.max() - 1e-6
    assert "99 pictures would show it, 20 cannot" in words


def test_a_coreset_leaves_nothing_far_from_it() -> None:
    rng = np.random.default_rng(0)
    corners = np.eye(12, dtype=np.float32) * 9
    crowd = np.concatenate([corners.repeat(50, axis=0), corners[:1].repeat(2000, axis=0)])
    crowd += rng.normal(0, 0.05, crowd.shape).astype(np.float32)
    chosen = greedy_coreset(crowd, 12, seed=1)
    assert sorted(chosen.argmax(axis=1).tolist()) == list(range(12))
    assert len(greedy_coreset(crowd[:5], 12, seed=1)) == 5
    assert len(greedy_coreset(np.ones((100, 3), np.float32), 12, seed=1)) == 1
