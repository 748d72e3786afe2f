"""Foreign ONNX files: every family's decoding in the graph against the one on the host, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tensorrt_rtx_build import build

import edgebone
from edgebone.core.boxes import matched_share
from edgebone.core.bundle import open_bundle
from edgebone.core.detections import Detections
from edgebone.core.errors import EngineError, OutputError
from edgebone.core.segmentation import SegmentationMap
from edgebone.tasks.instances import INSTANCES
from edgebone_export.errors import ExportError
from edgebone_export.heads.features.taps import taps_of
from edgebone_export.importers.importer import HeadSpec, import_onnx
from edgebone_export.pictures import synthesize
from support.foreign import CELLS, HW, Foreign, yolo11, yolo26_seg, yolox

PROGRAM = Path(sys.executable).with_name("edgebone")
LABELS = ("person", "traffic light ☂ 2", "車")


def family(kind: str, path: Path, **settings: Any) -> Path:
    if kind == "yolox":
        return yolox(path, len(LABELS))
    net = Foreign(**settings)
    pixels = (HW[1], HW[0])
    if kind == "yolov5":
        net.give(net.node("Concat", net.boxes(pixels), net.scores(1), net.scores(3), axis=2), (CELLS, 8))
    elif kind == "yolov8":
        rows = net.node("Concat", net.boxes(pixels), net.scores(3), axis=2)
        net.give(net.node("Transpose", rows, perm=[0, 2, 1]), (7, CELLS))
    elif kind in ("yolov5-seg", "yolov8-seg"):
        rows = [net.boxes(pixels), *([net.scores(1)] if kind == "yolov5-seg" else []), net.scores(3), net.cells(4, 2.0)]
        joined = net.node("Concat", *rows, axis=2)
        planes = net.constant(np.array([0, 4, 16, 24], np.int64))
        net.give(net.node("Reshape", net.planes(4, 4, 2.0), planes), (4, 16, 24), "prototypes")
        if kind == "yolov5-seg":
            net.give(joined, (CELLS, 12))
        else:
            net.give(net.node("Transpose", joined, perm=[0, 2, 1]), (11, CELLS))
    elif kind == "detr":
        net.give(net.boxes((1, 1)), (CELLS, 4), "pred_boxes")
        net.give(net.cells(3, 4.0), (CELLS, 3), "logits")
    elif kind == "ssd":
        net.give(net.scores(3), (CELLS, 3), "scores")
        boxes = net.boxes((1, 1))
        starts, middle, end = (net.constant(np.array([i], np.int64)) for i in (0, 2, 4))
        axis = net.constant(np.array([2], np.int64))
        corner, size = net.node("Slice", boxes, starts, middle, axis), net.node("Slice", boxes, middle, end, axis)
        net.give(net.node("Concat", corner, net.node("Add", corner, size), axis=2), (CELLS, 4), "boxes")
    elif kind == "segmentation":
        maps = net.node("Transpose", net.cells(3, 2.0), perm=[0, 2, 1])
        net.give(net.node("Reshape", maps, net.constant(np.array([0, 3, 8, 12], np.int64))), (3, 8, 12))
    return net.save(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of blocks, each of which is another thing to these networks."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for index, size_hw in enumerate([(64, 96), (120, 100), (90, 200)]):
        blocks = rng.integers(0, 256, (8, 12, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(blocks, size_hw[::-1], interpolation=cv2.INTER_NEAREST))
    return folder


def rows(found: object) -> np.ndarray:
    assert isinstance(found, Detections)
    return np.column_stack([found.xyxy, found.confidence, found.class_id])


PREPROCESS = {"yolox": "yolox", "yolov5": "ultralytics", "yolov8": "ultralytics", "detr": "rt-detr", "ssd": "stretch"}
SETTINGS: dict[str, dict[str, Any]] = {
    "yolox": {"iou": 0.9, "score": 0.02},
    "yolov5": {"score": 0.02},
    "ssd": {"iou": 0.9},
}


@pytest.mark.parametrize("kind", list(PREPROCESS))
def test_decoding_in_the_graph_gives_what_the_host_decodes(kind: str, tmp_path: Path, pictures: Path) -> None:
    file = family(kind, tmp_path / "m.onnx")
    spec = HeadSpec(kind, labels=LABELS, params=SETTINGS.get(kind, {}))
    for decode in ("graph", "host"):
        import_onnx(
            file, tmp_path / decode, heads=spec, preprocess=PREPROCESS[kind], decode=decode,  # type: ignore[arg-type]
            samples=pictures,
        )  # fmt: skip
    with open_bundle(tmp_path / "graph") as bundle:
        (head,) = bundle.manifest.heads.values()
        assert head.decoder == "boxes@1"
        assert bundle.manifest.outputs[0].shape[2] == 6
        assert bundle.manifest.variants["fp32"].parity.matched == 1
    # TensorRT has every operator of it.
    assert build(str(tmp_path / "graph/onnx/fp32.onnx")).size_bytes
    for path in sorted(pictures.iterdir()):
        with edgebone.load(tmp_path / "host", engine="onnxruntime", precision="fp32") as model:
            assert model.manifest.heads["detections"].decoder == f"{kind}@1"
            wanted = rows(model(path))
        assert len(wanted) > 5
        for engine in ("onnxruntime", "openvino"):
            with edgebone.load(tmp_path / "graph", engine=engine, precision="fp32") as model:
                found = rows(model(path))
            assert len(found) == len(wanted)
            assert matched_share(found, wanted, min_score=0.0, full=False, score_within=1e-4) == 1


@pytest.mark.parametrize("settings", [{}, {"free": {0: "n"}}, {"half": True}], ids=["one", "batches", "half"])
def test_only_the_chosen_boxes_are_computed(settings: dict[str, Any], tmp_path: Path, pictures: Path) -> None:
    file, boxes = yolo11(tmp_path / "m.onnx", len(LABELS), **settings), 90
    batch = (1, 3) if "free" in settings else None
    for decode in ("graph", "host"):
        import_onnx(
            file, tmp_path / decode, heads=HeadSpec("yolov8", labels=LABELS, params={"score": 0.6}), batch=batch,
            preprocess="ultralytics", decode=decode, boxes=boxes, samples=pictures,  # type: ignore[arg-type]
        )  # fmt: skip
    graph = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "graph/onnx/fp32.onnx")).graph
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.value_info}
    each = {op: [shapes[node.output[0]] for node in graph.node if node.op_type == op] for op in ("Softmax", "Sigmoid")}
    assert {shape[-1] for shape in each["Softmax"]} == {boxes}
    # One share a box: its best class is looked for before, but in half precision, which onnxruntime's ReduceMax lacks.
    # And those of all classes for the chosen boxes.
    assert "half" in settings or sorted(shape[1:] for shape in each["Sigmoid"]) == [
        [len(LABELS), boxes],
        [8 * 12 + 4 * 6],
    ]
    files = sorted(pictures.iterdir())
    for engine in ("onnxruntime", "openvino"):
        with (
            edgebone.load(tmp_path / "graph", engine=engine, precision="fp32") as model,
            edgebone.load(tmp_path / "host", precision="fp32") as other,
        ):
            for found, path in zip(model(list(files)), files, strict=True):
                wanted = rows(other(path))
                assert 3 < len(wanted) <= boxes
                within = 0.02 if "half" in settings else 1e-4
                assert matched_share(rows(found), wanted, min_score=0.6, full=False, score_within=within) == 1


def test_an_input_that_is_left_out_keeps_the_places_of_the_others(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    # As torch writes clamp(max=…): the least value is left out.
    clipped = net.node("Clip", net.boxes((HW[1], HW[0])), "", net.constant(np.float32(40)))
    rows = net.node("Concat", clipped, net.scores(3), axis=2)
    net.give(net.node("Transpose", rows, perm=[0, 2, 1]), (7, CELLS))
    spec = HeadSpec("yolov8", labels=LABELS)
    made = import_onnx(
        net.save(tmp_path / "m.onnx"), tmp_path / "b", heads=spec, preprocess="ultralytics", samples=pictures
    )
    assert made.parity.matched == 1


def test_decoding_is_no_place_for_other_heads(tmp_path: Path) -> None:
    yolox(tmp_path / "m.onnx", len(LABELS))
    import_onnx(
        tmp_path / "m.onnx", tmp_path / "b", heads=HeadSpec("yolox", labels=LABELS), preprocess="yolox"
    )  # fmt: skip
    with open_bundle(tmp_path / "b") as bundle:
        found = {name: tap.shape for name, tap in taps_of(bundle).items()}
    # The pyramid's maps, not the scores, which decoding reads twice.
    assert found == {f"features_s{stride}": (8, HW[0] // stride, HW[1] // stride) for stride in (4, 8, 16, 32)}


@pytest.mark.parametrize(
    "settings",
    [{"opset": 11}, {"half": True}, {"layout": "nhwc"}, {"free": {0: "n"}}, {"free": {0: "n", 2: "h", 3: "w"}}],
    ids=["opset 11", "half", "nhwc", "free batch", "free everything"],
)
def test_files_of_every_form_are_taken(settings: dict[str, Any], tmp_path: Path, pictures: Path) -> None:
    file = family("yolov8", tmp_path / "m.onnx", **settings)
    free = settings.get("free", {})
    import_onnx(
        file, tmp_path / "b", heads=HeadSpec("yolov8", labels=LABELS), preprocess="ultralytics", samples=pictures,
        size_hw=HW if 2 in free else None, batch=(1, 3) if free else None,
    )  # fmt: skip
    plain = family("yolov8", tmp_path / "plain.onnx")
    import_onnx(
        plain, tmp_path / "p", heads=HeadSpec("yolov8", labels=LABELS), preprocess="ultralytics", samples=pictures
    )
    files = sorted(pictures.iterdir())
    for engine in ("onnxruntime", "openvino"):
        with (
            edgebone.load(tmp_path / "b", engine=engine, precision="fp32") as model,
            edgebone.load(tmp_path / "p", precision="fp32") as other,
        ):
            assert model.max_batch == (3 if free else 1)
            for found, path in zip(model(list(files)), files, strict=True):
                share = matched_share(
                    rows(found), rows(other(path)), min_score=0.3, full=False, iou=0.95, score_within=0.02
                )
                assert share > (0.8 if "half" in settings else 0.999)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("decode", ["graph", "host"])
def test_a_network_that_gives_nan_is_an_error_wherever_it_is_decoded(decode: Any, engine: str, tmp_path: Path) -> None:
    net = Foreign()
    found = net.node("Concat", net.boxes((96, 64)), net.scores(3), axis=2)
    # The logarithm of a picture's brightness, less a fifth: NaN for dark ones, and times zero for the others.
    brightness = net.node("ReduceMean", net.start, axes=[1, 2, 3], keepdims=0)
    logarithm = net.node("Log", net.node("Sub", brightness, net.constant(np.float32(0.2))))
    nothing = net.node("Mul", logarithm, net.constant(np.float32(0)))
    added = net.node("Add", found, net.node("Reshape", nothing, net.constant(np.array([-1, 1, 1], np.int64))))
    net.give(net.node("Transpose", added, perm=[0, 2, 1]), (7, CELLS))
    file, head = net.save(tmp_path / "m.onnx"), HeadSpec("yolov8", labels=LABELS)
    import_onnx(file, tmp_path / "b", heads=head, preprocess="stretch", decode=decode)
    with edgebone.load(tmp_path / "b", engine=engine, precision="fp32") as model:
        assert isinstance(model(np.full((64, 96, 3), 200, np.uint8)), Detections)
        with pytest.raises(EngineError, match="the network returned NaN or infinity"):
            model(np.zeros((64, 96, 3), np.uint8))


def test_several_outputs_have_a_decoder_each(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    maps = net.node("Transpose", net.cells(3, 2.0), perm=[0, 2, 1])
    net.give(net.node("Reshape", maps, net.constant(np.array([0, 3, 8, 12], np.int64))), (3, 8, 12), "area")
    net.give(net.node("Concat", net.boxes((96, 64)), net.scores(1), net.scores(3), axis=2), (CELLS, 8), "found")
    net.give(net.cells(5, 1.0), (CELLS, 5), "unread")
    file = net.save(tmp_path / "m.onnx")
    (tmp_path / "names.txt").write_text("person\r\ntraffic light ☂ 2\r\n車\r\n\r\n", encoding="utf-8")
    done = subprocess.run(
        [
            PROGRAM, "import", file, "-o", tmp_path / "b", "--decoder", "area=segmentation", "--decoder",
            "cars=yolov5:found", "--preprocess", "ultralytics", "--labels", "cars=" + str(tmp_path / "names.txt"),
            "--labels", "area=nothing, road, lane", "--set", "cars.score=0.4", "--boxes", "50", "--samples", pictures,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "against the imported file under onnxruntime on 3 pictures" in done.stdout
    with open_bundle(tmp_path / "b") as bundle:
        manifest = bundle.manifest
        assert [(spec.name, spec.dtype, spec.shape) for spec in manifest.outputs] == [
            ("area_classes", "uint8", (1, 8, 12)), ("cars_boxes", "float32", (1, 50, 6)),
        ]  # fmt: skip
        assert manifest.heads["cars"].labels == LABELS
        assert manifest.heads["cars"].params["score"] == 0.4
    with edgebone.load(tmp_path / "b", precision="fp32") as model:
        result = model(next(pictures.iterdir()))
    assert isinstance(result, dict)
    assert isinstance(result["area"], SegmentationMap)
    assert isinstance(result["cars"], Detections)
    assert result["cars"].confidence.min() >= 0.4
    assert subprocess.run([PROGRAM, "doctor", tmp_path / "b"], check=False, capture_output=True).returncode == 0


def test_a_class_map_in_the_graph_is_the_hosts(tmp_path: Path, pictures: Path) -> None:
    file = family("segmentation", tmp_path / "m.onnx")
    for decode in ("graph", "host"):
        import_onnx(
            file, tmp_path / decode, heads=HeadSpec("segmentation", labels=LABELS), preprocess="stretch",
            decode=decode, samples=pictures,  # type: ignore[arg-type]
        )  # fmt: skip
    assert build(str(tmp_path / "graph/onnx/fp32.onnx")).size_bytes
    path = next(pictures.iterdir())
    maps = []
    for decode, engine in (("graph", "onnxruntime"), ("graph", "openvino"), ("host", "onnxruntime")):
        with edgebone.load(tmp_path / decode, engine=engine, precision="fp32") as model:
            assert model.manifest.outputs[0].dtype == ("uint8" if decode == "graph" else "float32")
            found = model(path)
            assert isinstance(found, SegmentationMap)
            maps.append(found.class_id)
    assert len(np.unique(maps[0])) > 1
    assert all(np.array_equal(maps[0], other) for other in maps)


def test_outputs_that_no_decoder_knows_are_given_raw(tmp_path: Path) -> None:
    file = family("detr", tmp_path / "m.onnx")
    import_onnx(file, tmp_path / "b", heads=HeadSpec("raw"), preprocess="stretch")
    with edgebone.load(tmp_path / "b", precision="fp32") as model:
        result = model(synthesize((50, 50), np.random.default_rng(0)))
    assert isinstance(result, edgebone.RawTensors)
    assert result.tensors["logits"].shape == (CELLS, 3)


def test_a_classifier_and_an_embedding_are_wrapped(tmp_path: Path) -> None:
    net = Foreign()
    means = net.node("ReduceMean", net.cells(3, 3.0), axes=[1], keepdims=0)
    net.give(means, (3,))
    file = net.save(tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=r"classification@1 rejects its parameters.*activation"):
        import_onnx(file, tmp_path / "c", heads=HeadSpec("classification", labels=LABELS), preprocess="imagenet")
    import_onnx(
        file, tmp_path / "c", preprocess="imagenet",
        heads=HeadSpec("classification", labels=LABELS, params={"activation": "softmax"}),
    )  # fmt: skip
    import_onnx(file, tmp_path / "e", heads=HeadSpec("embedding"), preprocess="stretch")
    picture = synthesize((80, 120), np.random.default_rng(0))
    with edgebone.load(tmp_path / "c", precision="fp32") as model:
        assert set(model(picture).labels) == set(LABELS)
        assert model.manifest.preprocess.resize == 73
    with edgebone.load(tmp_path / "e", precision="fp32") as model:
        assert model(picture).vector.shape == (3,)


ULTRALYTICS = {
    "author": "Ultralytics", "stride": "32", "imgsz": "[64, 96]", "task": "detect",
    "names": "{0: 'person', 1: 'traffic light ☂ 2', 2: '車'}",
}  # fmt: skip


def test_rows_that_a_network_chose_itself_are_taken_on_every_engine(tmp_path: Path) -> None:
    file = yolo26_seg(tmp_path / "yolo26n-seg.onnx", 3)
    import_onnx(file, tmp_path / "b", heads=HeadSpec("yolo-end2end-seg"))
    engines = json.loads((tmp_path / "b" / "report.json").read_text())["engines"]
    assert engines["onnxruntime"] == engines["openvino"] == "right"
    picture = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    found = {}
    for engine in ("onnxruntime", "openvino"):
        with edgebone.load(tmp_path / "b", engine=engine, precision="fp32", score=0.0) as model:
            found[engine] = model(picture)
    one, other = found.values()
    assert len(one) == len(other) > 10
    assert np.allclose(one.xyxy, other.xyxy, atol=0.05)
    assert np.array_equal(one.class_id, other.class_id)


@pytest.mark.parametrize("kind", ["yolov5-seg", "yolov8-seg"])
def test_masks_are_the_same_wherever_their_boxes_are_decoded(kind: str, tmp_path: Path, pictures: Path) -> None:
    file = family(kind, tmp_path / "m.onnx")
    spec = HeadSpec(kind, labels=LABELS, params={"score": 0.02})
    for decode in ("graph", "host"):
        import_onnx(
            file, tmp_path / decode, heads=spec, preprocess="ultralytics", decode=decode,  # type: ignore[arg-type]
            samples=pictures,
        )  # fmt: skip
    with open_bundle(tmp_path / "graph") as bundle:
        assert bundle.manifest.heads["instances"].decoder == "instances@1"
        assert [spec.shape[1:] for spec in bundle.manifest.outputs] == [(CELLS, 10), (4, 16, 24)]
        assert bundle.manifest.variants["fp32"].parity.matched == 1
    path = min(pictures.iterdir())
    with edgebone.load(tmp_path / "host", engine="onnxruntime", precision="fp32") as model:
        wanted = model(path)
    for engine in ("onnxruntime", "openvino"):
        with edgebone.load(tmp_path / "graph", engine=engine, precision="fp32") as model:
            found = model(path)
            assert INSTANCES.agreement(found, wanted, {"score": 0.02}) == 1
            assert len(found) == len(wanted) > 5
    assert selftest(tmp_path / "graph") == 0


def selftest(bundle: Path) -> int:
    return subprocess.run([PROGRAM, "doctor", bundle], capture_output=True, check=False).returncode


def test_masks_that_contradict_the_file_are_refused(tmp_path: Path) -> None:
    net = Foreign()
    rows_ = net.node("Concat", net.boxes((96, 64)), net.scores(3), net.cells(4, 2.0), axis=2)
    net.give(net.node("Transpose", rows_, perm=[0, 2, 1]), (11, CELLS))
    said = {**ULTRALYTICS, "task": "segment"}
    lonely = net.save(tmp_path / "m.onnx", said)
    with pytest.raises(ExportError, match="then their prototypes"):
        import_onnx(lonely, tmp_path / "b", heads=HeadSpec("yolov8-seg"))
    with pytest.raises(ExportError, match=r"has task segment, read by yolov8-seg, .*not by yolov8"):
        import_onnx(lonely, tmp_path / "b", heads=HeadSpec("yolov8"))
    detect = net.save(tmp_path / "d.onnx", ULTRALYTICS)
    with pytest.raises(ExportError, match=r"has task detect, .*not by yolov8-seg"):
        import_onnx(detect, tmp_path / "b", heads=HeadSpec("yolov8-seg"))
    assert not (tmp_path / "b").exists()


def test_what_the_file_says_of_itself_is_taken(tmp_path: Path) -> None:
    net = Foreign()
    rows_ = net.node("Concat", net.boxes((96, 64)), net.scores(3), axis=2)
    net.give(net.node("Transpose", rows_, perm=[0, 2, 1]), (7, CELLS))
    import_onnx(net.save(tmp_path / "m.onnx", ULTRALYTICS), tmp_path / "b", heads=HeadSpec("yolov8"))
    with open_bundle(tmp_path / "b") as bundle:
        manifest = bundle.manifest
    assert manifest.heads["detections"].labels == LABELS
    spec = manifest.preprocess
    assert (spec.mode, spec.anchor, spec.pad_value, spec.color, spec.std) == (
        "letterbox",
        "center",
        114,
        "rgb",
        (1, 1, 1),
    )
    broken = {**ULTRALYTICS, "names": "{0: 'person', 2: __import__('os')}"}
    with pytest.raises(ExportError, match="class names in an unknown form"):
        import_onnx(net.save(tmp_path / "m.onnx", broken), tmp_path / "c", heads=HeadSpec("yolov8"))


def test_preprocessing_may_be_a_file(tmp_path: Path) -> None:
    file = family("yolox", tmp_path / "m.onnx")
    said = {
        "mode": "letterbox", "size_hw": [64, 96], "interpolation": "bilinear", "antialias": False, "color": "bgr",
        "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "pad_value": [1, 2, 3], "anchor": "top_left",
    }  # fmt: skip
    (tmp_path / "p.json").write_text(json.dumps(said))
    head = HeadSpec("yolox", labels=LABELS)
    import_onnx(file, tmp_path / "b", heads=head, preprocess=str(tmp_path / "p.json"))
    with open_bundle(tmp_path / "b") as bundle:
        assert msgspec.to_builtins(bundle.manifest.preprocess)["pad_value"] == (1, 2, 3)
    (tmp_path / "p.json").write_text(json.dumps({**said, "size_hw": [32, 32]}))
    with pytest.raises(ExportError, match=r"has size_hw \[32, 32\], but the network's input is \[64, 96\]"):
        import_onnx(file, tmp_path / "c", heads=head, preprocess=str(tmp_path / "p.json"))
    with pytest.raises(ExportError, match=r"no such preprocessing; did you mean ultralytics\? choose yolox"):
        import_onnx(file, tmp_path / "c", heads=head, preprocess="yolo")


def refused(match: str, file: Path, target: Path, **settings: Any) -> None:
    heads = settings.pop("heads", HeadSpec("yolov8", labels=LABELS))
    with pytest.raises(ExportError, match=match):
        import_onnx(file, target, heads=heads, **{"preprocess": "stretch", **settings})
    assert not target.exists()


def test_what_cannot_be_imported_is_refused_and_named(tmp_path: Path) -> None:
    target = tmp_path / "b"
    good = family("yolov8", tmp_path / "m.onnx")
    refused("m.onx: no such file", tmp_path / "m.onx", target)
    for name, content in (("junk.onnx", b"\x00\x01junk" * 100), ("empty.onnx", b"")):
        (tmp_path / name).write_bytes(content)
        refused(f"{name}: not an ONNX file", tmp_path / name, target)
    refused("the preprocessing is not known: pass --preprocess yolox, ultralytics", good, target, preprocess=None)
    refused("--size 32x32 cannot change it", good, target, size_hw=(32, 32))
    refused("fixed batch of 1", good, target, batch=(1, 4))
    free = family("yolov8", tmp_path / "free.onnx", free={2: "h", 3: "w"})
    refused(r"\[1, 3, h, w\]; pass its size: --size", free, target)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (HeadSpec("yolov8"), "needs class names: --labels"),
        (HeadSpec("yolov8", labels=("a", "b")), r"\[batch, 6, boxes\] \(4 \+ 2 labels\).*'batch', 7, 96"),
        (HeadSpec("yolo", labels=LABELS), "no decoder yolo; did you mean yolox.*choose yolox"),
        (HeadSpec("yolov8", ("o",), LABELS), r"no output o; the file has out \[7, 96\]"),
        ({"cars": HeadSpec("yolov8", (), LABELS)}, "name the outputs that it reads: cars=yolov8:OUTPUT"),
        (HeadSpec("yolov8", (), LABELS, {"iou": 7}), "iou must be 0 to 1, got 7"),
        (HeadSpec("yolo-end2end", (), LABELS), r"\(batch, k, 6\).*'batch', 7, 96"),
    ],
)
def test_heads_that_do_not_fit_are_refused_and_named(head: Any, words: str, tmp_path: Path) -> None:
    refused(words, family("yolov8", tmp_path / "m.onnx"), tmp_path / "b", heads=head)


def test_an_old_opset_is_decoded_on_the_host(tmp_path: Path) -> None:
    file = family("yolov8", tmp_path / "9.onnx", opset=9)
    refused("opset 9; decoding in the graph needs 11 or more: decode on the host", file, tmp_path / "b")
    head = HeadSpec("yolov8", (), LABELS)
    import_onnx(file, tmp_path / "host", heads=head, preprocess="stretch", decode="host")


def test_an_unknown_opset_is_refused(tmp_path: Path) -> None:
    model = onnx.load(family("yolov8", tmp_path / "m.onnx"))
    model.opset_import[0].version = 99
    onnx.save(model, tmp_path / "m.onnx")
    refused("opset 99 is not supported", tmp_path / "m.onnx", tmp_path / "b")
    model.opset_import[0].version = 17
    model.graph.node[0].op_type = "Convolve"
    onnx.save(model, tmp_path / "m.onnx")
    refused("m.onnx: onnxruntime cannot load the network.*Convolve", tmp_path / "m.onnx", tmp_path / "b")


def test_an_input_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    model = onnx.load(family("yolov8", tmp_path / "m.onnx"))
    model.graph.input.append(helper.make_tensor_value_info("sizes", TensorProto.INT64, [1, 2]))
    onnx.save(model, tmp_path / "m.onnx")
    refused("this network has 2: .*sizes", tmp_path / "m.onnx", tmp_path / "b")
    model.graph.input.pop()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    onnx.save(model, tmp_path / "m.onnx")
    refused(r"float or uint8 \[batch, 3, height, width\]", tmp_path / "m.onnx", tmp_path / "b")


def test_data_in_other_files_is_taken_from_beside_the_file_only(tmp_path: Path) -> None:
    plain = family("yolov8", tmp_path / "plain.onnx")
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(
        onnx.load(plain), folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0,
        convert_attribute=False,
    )  # fmt: skip
    head = HeadSpec("yolov8", labels=LABELS)
    import_onnx(folder / "m.onnx", tmp_path / "b", heads=head, preprocess="stretch")
    import_onnx(plain, tmp_path / "p", heads=head, preprocess="stretch")
    with open_bundle(tmp_path / "b") as one, open_bundle(tmp_path / "p") as other:
        assert one.manifest.model.parameters == other.manifest.model.parameters
    (folder / "m.data").rename(tmp_path / "secret.data")
    refused("is stored in m.data, which is missing", folder / "m.onnx", tmp_path / "c")
    model = onnx.load(folder / "m.onnx", load_external_data=False)
    for location in ("../secret.data", str(tmp_path / "secret.data")):
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        (folder / "m.onnx").write_bytes(model.SerializeToString())
        refused("outside the file's folder", folder / "m.onnx", tmp_path / "c")


def test_an_existing_bundle_is_replaced_only_when_asked(tmp_path: Path) -> None:
    file = family("yolov8", tmp_path / "m.onnx")
    head = HeadSpec("yolov8", labels=LABELS)
    import_onnx(file, tmp_path / "b.zip", heads=head, preprocess="stretch")
    with pytest.raises(OutputError, match="exists"):
        import_onnx(file, tmp_path / "b.zip", heads=head, preprocess="stretch")
    import_onnx(file, tmp_path / "b.zip", heads=head, preprocess="stretch", overwrite=True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--decoder", "yolov8", "--decoder", "raw"], 2, "each needs a name"),
        (["--decoder", "a=raw", "--decoder", "a=raw"], 2, "given twice"),
        (["--decoder", "yolov8", "--decode", "gpu"], 2, "'gpu' is not one of graph, host"),
        (["--decoder", "yolov8", "--set", "iou"], 2, "KEY=VALUE"),
        (["--decoder", "yolov8", "--labels", "nowhere.txt"], 8, "labels nowhere.txt: not a readable file"),
        (["--decoder", "yolov8", "--labels", "coco"], 8, r"4 + 80 labels"),
    ],
)
def test_wrong_words_give_one_line_and_a_code(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    file = family("yolov8", tmp_path / "m.onnx")
    command = [PROGRAM, "import", file, "-o", tmp_path / "b", "--preprocess", "stretch", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"COLUMNS": "300", "PATH": ""})
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_free_size_is_typed_width_by_height(tmp_path: Path) -> None:
    file = family("yolov8", tmp_path / "free.onnx", free={2: "h", 3: "w"})
    typed = [
        "--decoder",
        "yolov8",
        "--labels",
        ",".join(LABELS),
        "--preprocess",
        "stretch",
        "--size",
        f"{HW[1]}x{HW[0]}",
    ]
    done = subprocess.run(
        [PROGRAM, "import", file, "-o", tmp_path / "b", *typed], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"edgebone: the input is {HW[1]} wide, {HW[0]} high\n" in done.stderr
    with open_bundle(tmp_path / "b") as opened:
        assert opened.manifest.preprocess.size_hw == HW
