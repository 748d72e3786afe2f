"""Foreign ONNX files that were read wrongly in silence, or refused though they are sound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.detections import Detections
from edgebone.core.manifest import Preprocess
from edgebone.preprocess import preprocess
from edgebone_export.errors import ExportError, ParityError
from edgebone_export.importers.conventions import find_labels
from edgebone_export.importers.importer import HeadSpec, import_onnx
from support.foreign import CELLS, HW, Foreign, yolox

PROGRAM = Path(sys.executable).with_name("edgebone")
LABELS = ("cat", "dog", "fox")
PIXELS = (HW[1], HW[0])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small pictures of blocks, each of which is another thing to these networks."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for index in range(2):
        blocks = rng.integers(0, 256, (8, 12, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(blocks, PIXELS, interpolation=cv2.INTER_NEAREST))
    return folder


def take(file: Path, pictures: Path, head: Any, how: str | None = "stretch", **settings: Any) -> edgebone.Model:
    """Import a file and load the bundle."""
    target = file.with_suffix(f".{len(list(file.parent.iterdir()))}.bundle")
    import_onnx(file, target, heads=head, preprocess=how, samples=pictures, **settings)
    return edgebone.load(target, engine="onnxruntime")


def refused(match: str, file: Path, pictures: Path, head: Any, how: str | None = "stretch", **settings: Any) -> None:
    target = file.with_suffix(".refused")
    with pytest.raises(ExportError, match=match):
        import_onnx(file, target, heads=head, preprocess=how, samples=pictures, **settings)
    assert not target.exists()


def plain(file: Path, picture: Path, how: Preprocess, layout: str = "nchw") -> list[np.ndarray]:
    """What onnxruntime alone answers for a picture, stretched, 0 to 1."""
    out = np.zeros((*how.size_hw, 3), np.uint8)
    preprocess(how, cv2.imread(str(picture)), out)
    session = ort.InferenceSession(file)
    own = session.get_inputs()[0]
    array = out[None] if own.type == "tensor(uint8)" else (out[None].astype(np.float32) / np.float32(255))
    array = array.transpose(0, 3, 1, 2) if layout == "nchw" else array
    array = array.astype({"tensor(double)": np.float64, "tensor(float16)": np.float16}.get(own.type, array.dtype))
    return session.run(None, {own.name: array})


def vector(net: Foreign, classes: int) -> str:
    """(n, classes): what a convolution makes of the whole picture."""
    return net.node("ReduceMean", net.cells(classes, 3.0), axes=[1], keepdims=0)


def rows_of(found: Any) -> np.ndarray:
    assert isinstance(found, Detections)
    return np.column_stack([found.xyxy, found.confidence, found.class_id])


def detr(path: Path, order: str = "boxes first") -> Path:
    """Three classes and "no object": logits and boxes both have four columns."""
    net = Foreign()
    boxes, logits = net.boxes((1, 1)), net.cells(4, 4.0)
    both = [(boxes, "dets"), (logits, "labels")]
    for value, name in both if order == "boxes first" else reversed(both):
        net.give(value, (CELLS, 4), name)
    return net.save(path)


@pytest.mark.parametrize("order", ["boxes first", "logits first"])
def test_two_outputs_that_could_be_either_are_asked_for(order: str, tmp_path: Path, pictures: Path) -> None:
    file, labels = detr(tmp_path / "m.onnx", order), (*LABELS, "none")
    words = r"both have four values per row.*--decoder detections=detr:(dets,labels|labels,dets), or "
    refused(words, file, pictures, HeadSpec("detr", labels=labels))
    ssd_words = words.replace("detr", "ssd")
    refused(ssd_words, file, pictures, HeadSpec("ssd", labels=labels))
    with take(file, pictures, {"d": HeadSpec("detr", ("labels", "dets"), labels)}) as model:
        picture = next(pictures.iterdir())
        found = rows_of(model(picture))
        given = dict(zip(("dets", "labels"), sorted_outputs(file, picture, model.manifest.preprocess), strict=True))
    scores = 1 / (1 + np.exp(-given["labels"][0]))
    assert len(found) == int((scores >= 0.5).sum()) > 3
    query, class_id = np.unravel_index(scores.argmax(), scores.shape)
    x, y, w, h = given["dets"][0, query] * [*PIXELS, *PIXELS]
    assert found[0, 5] == class_id
    np.testing.assert_allclose(
        found[0, :4], np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, PIXELS * 2), atol=0.01
    )
    refused(
        "not fractions of the sides.*name the logits first",
        file,
        pictures,
        {"d": HeadSpec("detr", ("dets", "labels"), labels)},
    )


def sorted_outputs(file: Path, picture: Path, how: Preprocess) -> list[np.ndarray]:
    names = [value.name for value in onnx.load(file).graph.output]
    answers = dict(zip(names, plain(file, picture, how), strict=True))
    return [answers[name] for name in sorted(names)]


def said(task: str, **more: str) -> dict[str, str]:
    names = str(dict(enumerate(LABELS)))
    return {"author": "Ultralytics", "stride": "32", "imgsz": str(list(HW)), "names": names, "task": task, **more}


def test_a_publishers_classifier_takes_pictures_as_its_classifiers_do(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    net.give(net.node("Softmax", vector(net, 3), axis=1), (3,))
    file = net.save(tmp_path / "m.onnx", said("classify"))
    for how in (None, "ultralytics"):
        with take(file, pictures, HeadSpec("classification"), how) as model:
            spec = model.manifest.preprocess
            # Not square: ultralytics' classify_transforms() resizes to the size itself.
            assert (spec.mode, spec.resize, spec.antialias, spec.mean, spec.std) == (
                "crop",
                HW,
                True,
                (0,) * 3,
                (1,) * 3,
            )
            picture = np.random.default_rng(1).integers(0, 255, (50, 200, 3)).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "wide.png"), picture)
            (wanted,) = plain(file, tmp_path / "wide.png", spec)
            np.testing.assert_allclose(model(picture).probabilities, wanted[0], atol=1e-5)
    twice = HeadSpec("classification", params={"activation": "softmax"})
    refused("already probabilities.*--set activation=none", file, pictures, twice, None)


@pytest.mark.parametrize(
    ("metadata", "decoder", "words"),
    [
        (said("classify"), "yolov8", "has task classify, read by classification, raw"),
        (said("detect"), "classification", "has task detect, read by yolov8, yolov5"),
        (said("segment"), "yolov8", "has task segment, read by yolov8-seg"),
        (said("pose"), "yolov8", "has task pose, read by yolov8-pose"),
        (said("obb"), "yolov8", "has task obb, read by yolov8-obb"),
        (said("detect", head="RTDETRDecoder"), "yolov8", "task detect, read by yolo-end2end"),
        (said("detect", kpt_shape="[17, 3]"), "yolov8", "task detect with kpt_shape"),
        (said("juggle"), "yolov8", "has the task 'juggle'"),
        (said("detect", imgsz="[640, 640]"), "yolov8", r"metadata has imgsz \[640, 640\]"),
        (said("detect", imgsz="(1e99,)"), "yolov8", r"\(imgsz\) in an unknown form"),
        (said("detect", names="{0: 'cat'}"), "yolov8", "3 class names given, but the file's own metadata .* has 1"),
    ],
)
def test_a_reading_that_contradicts_the_files_metadata_is_refused(
    metadata: dict[str, str], decoder: str, words: str, tmp_path: Path, pictures: Path
) -> None:
    net = Foreign()
    rows = net.node("Concat", net.boxes(PIXELS), net.scores(3), axis=2)
    net.give(net.node("Transpose", rows, perm=[0, 2, 1]), (7, CELLS))
    refused(words, net.save(tmp_path / "m.onnx", metadata), pictures, HeadSpec(decoder, labels=LABELS), None)


def test_a_free_size_is_the_metadatas(tmp_path: Path, pictures: Path) -> None:
    net = Foreign(free={2: "height", 3: "width"})
    rows = net.node("Concat", net.boxes(PIXELS), net.scores(3), axis=2)
    net.give(net.node("Transpose", rows, perm=[0, 2, 1]), (7, CELLS))
    with take(net.save(tmp_path / "m.onnx", said("detect")), pictures, HeadSpec("yolov8"), None) as model:
        assert model.manifest.preprocess.size_hw == HW


def end2end(path: Path, form: str, metadata: dict[str, str] | None = None) -> tuple[Path, str]:
    """Rows of a box, a score and a class, a row a cell, in a publisher's own order."""
    net = Foreign()
    score = net.scores(1)
    class_id = net.node("Floor", net.node("Mul", net.scores(1), net.constant(np.float32(2.99))))
    boxes = net.boxes((1, 1) if "shares" in form else PIXELS)
    if "corner" in form:
        first, middle, last, axis = (net.constant(np.array([i], np.int64)) for i in (0, 2, 4, 2))
        corner, size = net.node("Slice", boxes, first, middle, axis), net.node("Slice", boxes, middle, last, axis)
        boxes = net.node("Concat", corner, net.node("Add", corner, size), axis=2)
    parts = (class_id, score, boxes) if "class first" in form else (boxes, score, class_id)
    net.give(net.node("Concat", *parts, axis=2), (CELLS, 6), "rows")
    return net.save(path, metadata), "rows"


@pytest.mark.parametrize(
    ("form", "settings", "words"),
    [
        (
            "shares",
            {"columns": "cx,cy,width,height,score,class", "unit": "relative"},
            "fractions of the sides.*unit=relative",
        ),
        ("pixels", {"columns": "cx,cy,width,height,score,class"}, "end before they begin.*columns=cx,cy"),
        ("shares corner", {"unit": "relative"}, "fractions of the sides, not pixels: --set unit=relative"),
        ("class first corner", {"columns": "class,score,left,top,right,bottom"}, "not probabilities.*columns=class"),
        ("corner", {}, None),
    ],
)
def test_rows_are_read_as_they_are_written(
    form: str, settings: dict[str, Any], words: str | None, tmp_path: Path, pictures: Path
) -> None:
    file, _ = end2end(tmp_path / "m.onnx", form)
    if words is not None:
        refused(words, file, pictures, HeadSpec("yolo-end2end", labels=LABELS))
    picture = next(pictures.iterdir())
    with take(file, pictures, HeadSpec("yolo-end2end", labels=LABELS, params=settings)) as model:
        found = rows_of(model(picture))
        (rows,) = plain(file, picture, model.manifest.preprocess)
    rows = rows[0]
    if "class first" in form:
        rows = rows[:, [2, 3, 4, 5, 1, 0]]
    boxes = rows[:, :4] * ([*PIXELS, *PIXELS] if "shares" in form else 1)
    if "corner" not in form:
        boxes = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    best = rows[:, 4].argmax()
    np.testing.assert_allclose(found[0, :4], boxes[best].clip(0, PIXELS * 2), atol=0.01)
    np.testing.assert_allclose(found[0, 4:], rows[best, 4:], atol=1e-5)


def test_a_publishers_rtdetr_is_read_by_its_head(tmp_path: Path, pictures: Path) -> None:
    file, _ = end2end(tmp_path / "m.onnx", "shares", said("detect", head="RTDETRDecoder"))
    with take(file, pictures, HeadSpec("yolo-end2end", params={"score": 0.0}), None) as model:
        assert model.manifest.preprocess.mode == "stretch"
        assert len(rows_of(model(next(pictures.iterdir())))) == CELLS


def test_boxes_that_were_decoded_already_are_refused(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    rows = net.node("Concat", net.boxes(PIXELS), net.scores(1), net.scores(3), axis=2)
    start, end, axis = (net.constant(np.array([item], np.int64)) for item in (0, 30, 1))
    net.give(net.node("Concat", rows, net.node("Slice", rows, start, end, axis), axis=1), (126, 8))
    file = net.save(tmp_path / "m.onnx")
    refused("times as large.*--decoder yolov5", file, pictures, HeadSpec("yolox", labels=LABELS))
    take(file, pictures, HeadSpec("yolov5", labels=LABELS)).close()


def test_shares_read_as_pixels_and_logits_read_as_scores_are_refused(tmp_path: Path, pictures: Path) -> None:
    for name, unit, scores in (("shares", (1, 1), "scores"), ("logits", PIXELS, "cells")):
        net = Foreign()
        values = net.scores(3) if scores == "scores" else net.cells(3, 4.0)
        net.give(net.node("Transpose", net.node("Concat", net.boxes(unit), values, axis=2), perm=[0, 2, 1]), (7, CELLS))
        net.save(tmp_path / f"{name}.onnx")
    head = HeadSpec("yolov8", labels=LABELS)
    refused("fractions of the sides.*--set unit=relative", tmp_path / "shares.onnx", pictures, head)
    with take(
        tmp_path / "shares.onnx", pictures, HeadSpec("yolov8", labels=LABELS, params={"unit": "relative"})
    ) as model:
        boxes = rows_of(model(next(pictures.iterdir())))[:, :4]
        assert (boxes.max(axis=0) > 20).all()
    refused("not probabilities.*sigmoid", tmp_path / "logits.onnx", pictures, head)


def test_scores_that_are_no_probabilities_or_already_are_refused(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    net.give(vector(net, 3), (3,))
    file = net.save(tmp_path / "m.onnx")
    none = HeadSpec("classification", labels=LABELS, params={"activation": "none"})
    refused("not probabilities.*activation=softmax or", file, pictures, none)


def test_one_number_is_no_softmax(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    net.give(vector(net, 1), (1,))
    file, softmax = net.save(tmp_path / "m.onnx"), {"activation": "softmax"}
    refused(
        "always 100 %.*multilabel.*regression",
        file,
        pictures,
        HeadSpec("classification", labels=("age",), params=softmax),
    )
    picture = next(pictures.iterdir())
    with take(file, pictures, HeadSpec("regression", labels=("age",))) as model:
        (wanted,) = plain(file, picture, model.manifest.preprocess)
        assert float(model(picture).values[0]) == pytest.approx(float(wanted[0, 0]), abs=1e-5)
    with take(file, pictures, HeadSpec("multilabel", labels=("old",))) as model:
        assert float(model(picture).probabilities[0]) == pytest.approx(1 / (1 + np.exp(-wanted[0, 0])), abs=1e-5)


@pytest.mark.slow
def test_a_doubt_is_said_and_recorded(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    zero = net.node("Mul", vector(net, 3), net.constant(np.float32(0)))
    net.give(net.node("Add", zero, net.constant(np.array([1, 2, 3], np.float32))), (3,))
    file = net.save(tmp_path / "m.onnx")
    done = subprocess.run(
        [
            PROGRAM, "import", file, "-o", tmp_path / "b", "--decoder", "classification", "--set", "activation=softmax",
            "--labels", "a,b,c", "--preprocess", "stretch", "--samples", pictures,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING: head classification returns the same for each of 2 pictures" in done.stderr
    assert "whether the file is read rightly, it cannot know" in done.stdout
    assert "returns the same" in json.loads((tmp_path / "b/report.json").read_text())["doubts"][0]


def test_answers_of_the_users_own_prove_the_reading(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    rows = net.node("Concat", net.boxes(PIXELS), net.scores(3), axis=2)
    net.give(net.node("Transpose", rows, perm=[0, 2, 1]), (7, CELLS))
    file = net.save(tmp_path / "m.onnx")
    answers = {}
    with take(file, pictures, HeadSpec("yolov8", labels=LABELS)) as model:
        for path in pictures.iterdir():
            found = model(path).to_dict()["detections"]
            name = os.path.relpath(path, tmp_path)
            answers[name] = [{"label": item["label"], "bbox": item["bbox"]} for item in found[:5]]
    (tmp_path / "boxes.json").write_text(json.dumps(answers))
    right = {"samples": pictures, "preprocess": "stretch", "expect": tmp_path / "boxes.json"}
    report = import_onnx(file, tmp_path / "right", heads=HeadSpec("yolov8", labels=LABELS), **right)
    assert report.reading is not None
    assert report.reading.agreement == "10 of 10 expected answers in 2 pictures"
    with pytest.raises(ParityError, match="0 of 10 expected answers"):
        import_onnx(file, tmp_path / "wrong", heads=HeadSpec("yolov8", labels=("dog", "fox", "cat")), **right)
    assert not (tmp_path / "wrong").exists()
    (tmp_path / "boxes.json").write_text('{"0.png": [{"label": "cow", "bbox": [0, 0, 1]}]}')
    with pytest.raises(ExportError, match="not a file of expected answers"):
        import_onnx(file, tmp_path / "wrong", heads=HeadSpec("yolov8", labels=LABELS), **right)


def test_an_empty_line_keeps_its_place(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "gap.txt").write_bytes("\ufeffcat\r\n\r\nfox\u2028red\n\n".encode())
    labels = find_labels(str(tmp_path / "gap.txt"))
    assert labels == ("cat", "", "fox\u2028red")
    net = Foreign()
    net.give(vector(net, 3), (3,))
    file = net.save(tmp_path / "m.onnx")
    with take(file, pictures, HeadSpec("classification", labels=labels, params={"activation": "softmax"})) as model:
        result = model(next(pictures.iterdir()))
    assert dict(zip(result.class_id.tolist(), result.labels, strict=True)) == {0: "cat", 1: "", 2: "fox\u2028red"}
    (tmp_path / "none.txt").write_text("\n\n")
    with pytest.raises(ExportError, match="has no class names"):
        find_labels(str(tmp_path / "none.txt"))
    assert find_labels("char") == ("char",)
    with pytest.raises(ExportError, match="not a readable file"):
        find_labels("char.txt")


@pytest.mark.parametrize(
    ("mean", "std", "advice"),
    [
        (
            [123.675, 116.28, 103.53],
            [58.395, 57.12, 57.375],
            r"write mean \[0.485, 0.456, 0.406\], std \[0.229, 0.224, 0.225\]",
        ),
        ([104, 117, 123], [1, 1, 1], r"std \[0.00392157"),
        ([0, 0, 0], [255, 255, 255], r"std \[1.0, 1.0, 1.0\]"),
        ([0.5, 0.5, 0.5], [127.5, 127.5, 127.5], r"std \[0.5, 0.5, 0.5\]"),
    ],
)
def test_means_in_units_of_bytes_are_refused(mean: list[float], std: list[float], advice: str) -> None:
    how = {"mode": "stretch", "size_hw": [64, 96], "interpolation": "bilinear", "antialias": False, "color": "rgb"}
    with pytest.raises(msgspec.ValidationError, match=f"in units of 0 to 1.*{advice}"):
        msgspec.convert({**how, "mean": mean, "std": std}, Preprocess)


def old_zoo(path: Path, picture_last: bool, pooled: bool) -> Path:
    """IR 3: every weight is among the graph's inputs, too."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(10, 3, 8, 8)) / 8, "b": rng.normal(size=10)}
    nodes = [
        helper.make_node("Conv", ["data", "w", "b"], ["c"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in weights.items()]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, *HW])
    output = helper.make_tensor_value_info(
        "p" if pooled else "f", TensorProto.FLOAT, [1, 10, 1, 1] if pooled else [1, 10]
    )
    graph = helper.make_graph(
        nodes, "zoo", [*inputs, data] if picture_last else [data, *inputs], [output],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3), path)
    return path


@pytest.mark.parametrize("pooled", [False, True], ids=["[1, 10]", "[1, 10, 1, 1]"])
@pytest.mark.parametrize("picture_last", [False, True])
def test_weights_may_be_among_the_inputs(picture_last: bool, pooled: bool, tmp_path: Path, pictures: Path) -> None:
    file = old_zoo(tmp_path / "m.onnx", picture_last, pooled)
    head = HeadSpec("classification", labels=tuple("abcdefghij"), params={"activation": "softmax"})
    picture = next(pictures.iterdir())
    with take(file, pictures, head) as model:
        (wanted,) = plain(file, picture, model.manifest.preprocess)
        exponentials = np.exp(wanted.ravel())
        np.testing.assert_allclose(model(picture).probabilities, exponentials / exponentials.sum(), atol=1e-5)


def with_type(file: Path, kind: int, layout: str) -> Path:
    """The same network with an input of another type."""
    model = onnx.load(file)
    old = model.graph.input[0]
    shape = [1, 3, *HW] if layout == "nchw" else [1, *HW, 3]
    new = helper.make_tensor_value_info("pixels", kind, shape)
    nodes = [helper.make_node("Cast", ["pixels"], ["as_floats"], to=TensorProto.FLOAT)]
    value = "as_floats"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [value], ["planes"], perm=[0, 3, 1, 2]))
        value = "planes"
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == old.name:
                node.input[place] = value
    del model.graph.input[:]
    model.graph.input.append(new)
    # Last, so that the nodes are out of order, too.
    model.graph.node.extend(nodes)
    onnx.save(model, file)
    return file


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_every_type_and_layout_of_input_is_taken(kind: int, layout: str, tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    start = net.node("Mul", net.start, net.constant(np.float32(1 / 255))) if kind == TensorProto.UINT8 else net.start
    net.start = start
    net.give(vector(net, 3), (3,))
    file = with_type(net.save(tmp_path / "m.onnx"), kind, layout)
    picture = next(pictures.iterdir())
    head = HeadSpec("classification", labels=LABELS, params={"activation": "softmax"})
    with take(file, pictures, head) as model:
        (wanted,) = plain(file, picture, model.manifest.preprocess, layout)
        exponentials = np.exp(wanted[0].astype(np.float64))
        np.testing.assert_allclose(model(picture).probabilities, exponentials / exponentials.sum(), atol=1e-4)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.UINT8])
def test_one_channel_is_given_grey(kind: int, layout: str, color: str, tmp_path: Path, pictures: Path) -> None:
    file = tmp_path / "m.onnx"
    shape, free = ([1, 1, *HW], [2, 3]) if layout == "nchw" else ([1, *HW, 1], [1, 2])
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["rows"], axes=free[:1], keepdims=0),
        helper.make_node("Flatten", ["rows"], ["row"]),
    ]
    given = [helper.make_tensor_value_info("pixels", kind, shape)]
    asked = [helper.make_tensor_value_info("row", TensorProto.FLOAT, [1, HW[1]])]
    graph = helper.make_graph(nodes, "grey", given, asked)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)
    said = Preprocess("stretch", HW, "bilinear", False, color, (0.2,) * 3, (0.5,) * 3)  # type: ignore[arg-type]
    picture = next(pictures.iterdir())
    with take(file, pictures, HeadSpec("raw"), said) as model:
        (found,) = model(picture).tensors.values()
    grey = cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2GRAY).astype(np.float32)
    wanted = grey if kind == TensorProto.UINT8 else (grey / 255 - 0.2) / 0.5
    # OpenCV rounds grey to whole steps.
    np.testing.assert_allclose(found.ravel(), wanted.mean(axis=0), atol=0.5 if kind == TensorProto.UINT8 else 4e-3)
    uneven = msgspec.structs.replace(said, mean=(0.2, 0.3, 0.4))
    refused(r"takes one channel: the preprocessing must repeat one mean", file, pictures, HeadSpec("raw"), uneven)


def test_our_own_graph_is_taken_with_its_own_preprocessing(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    net.give(vector(net, 3), (3,))
    head = HeadSpec("classification", labels=LABELS, params={"activation": "softmax"})
    picture = next(pictures.iterdir())
    with take(net.save(tmp_path / "m.onnx"), pictures, head, "imagenet") as model:
        wanted, spec = model(picture).probabilities, model.manifest.preprocess
        (tmp_path / "ours.onnx").write_bytes(next(tmp_path.glob("*.bundle/onnx/fp32.onnx")).read_bytes())
    with take(tmp_path / "ours.onnx", pictures, head, None) as model:
        assert model.manifest.preprocess == spec
        np.testing.assert_array_equal(model(picture).probabilities, wanted)


def test_free_sizes_may_be_written_as_minus_one(tmp_path: Path, pictures: Path) -> None:
    net = Foreign(free={0: "n"})
    net.give(vector(net, 3), (3,))
    file = net.save(tmp_path / "m.onnx")
    model = onnx.load(file)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(model, file)
    head = HeadSpec("embedding")
    with take(file, pictures, head, batch=(1, 3)) as loaded:
        assert loaded.max_batch == 3
        assert loaded([next(pictures.iterdir())] * 3)[2].vector.shape == (3,)


@pytest.mark.parametrize("form", ["ZipMap", "label and scores"])
def test_strings_and_maps_are_left_alone(form: str, tmp_path: Path, pictures: Path) -> None:
    net = Foreign(free={0: "n"})
    scores = net.node("Softmax", vector(net, 3), axis=1)
    net.give(scores, (3,), "scores")
    best = net.node("ArgMax", scores, axis=1, keepdims=1)
    names = list(LABELS)
    domain: dict[str, Any] = {"domain": "ai.onnx.ml"}
    net.nodes.append(
        helper.make_node("LabelEncoder", [best], ["label"], keys_int64s=[0, 1, 2], values_strings=names, **domain)
    )
    net.outputs.insert(0, helper.make_tensor_value_info("label", TensorProto.STRING, ["n", 1]))
    if form == "ZipMap":
        net.nodes.append(helper.make_node("ZipMap", ["scores"], ["maps"], classlabels_strings=names, **domain))
        kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        net.outputs[1] = helper.make_value_info("maps", helper.make_sequence_type_proto(kind))
    file = net.save(tmp_path / "m.onnx")
    model = onnx.load(file)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    onnx.save(model, file)
    picture = next(pictures.iterdir())
    with take(file, pictures, HeadSpec("classification", labels=LABELS, params={"activation": "none"})) as loaded:
        answers = plain(file, picture, loaded.manifest.preprocess)
        assert loaded(picture).labels[0] == answers[0][0, 0]
    del model.graph.output[1]
    onnx.save(model, file)
    refused("strings, sequences or maps", file, pictures, HeadSpec("raw"))


def rtdetr(path: Path, classes: int = TensorProto.INT64, size: str = "orig_target_sizes") -> Path:
    """RT-DETR's deployed form: sizes beside the picture; classes, boxes and scores out."""
    net = Foreign(free={0: "n"})
    flat = net.constant(np.array([0, -1], np.int64))
    labels = net.node("ArgMax", net.cells(3, 4.0), axis=2, keepdims=0)
    if classes != TensorProto.INT64:
        labels = net.node("Cast", labels, to=classes)
    first, middle, last, axis = (net.constant(np.array([i], np.int64)) for i in (0, 2, 4, 2))
    boxes = net.boxes((1, 1))
    corner, extent = net.node("Slice", boxes, first, middle, axis), net.node("Slice", boxes, middle, last, axis)
    shares = net.node("Concat", corner, net.node("Add", corner, extent), axis=2)
    # Joined to a number a picture: a row a picture is needed, one for all does not do.
    number = net.node("Reshape", net.node("ReduceMean", net.start, axes=[1, 2, 3]), net.constant(np.array([-1, 1])))
    sides = net.node("Concat", net.node("Cast", size, to=TensorProto.FLOAT), number, axis=1)
    zero, two, one_axis = (net.constant(np.array([i], np.int64)) for i in (0, 2, 1))
    sides = net.node("Slice", sides, zero, two, one_axis)
    sides = net.node("Concat", sides, sides, axis=1)
    one = net.constant(np.array([1], np.int64))
    net.give(labels, (CELLS,), "labels", classes)
    net.give(net.node("Mul", shares, net.node("Unsqueeze", sides, one)), (CELLS, 4), "boxes")
    net.give(net.node("Reshape", net.scores(1), flat), (CELLS,), "scores")
    file = net.save(path)
    model = onnx.load(file)
    model.graph.input.append(helper.make_tensor_value_info(size, TensorProto.INT64, ["n", 2]))
    onnx.save(model, file)
    return file


@pytest.mark.parametrize("batch", [(1, 1), (1, 3), (2, 2)])
def test_sizes_beside_the_picture_are_bound(batch: tuple[int, int], tmp_path: Path, pictures: Path) -> None:
    file = rtdetr(tmp_path / "m.onnx")
    picture = next(pictures.iterdir())
    with take(file, pictures, HeadSpec("detr", labels=LABELS, params={"score": 0.01}), batch=batch) as model:
        found = rows_of(model([picture] * batch[1])[-1])
        out = np.zeros((*HW, 3), np.uint8)
        preprocess(model.manifest.preprocess, cv2.imread(str(picture)), out)
    feeds = {
        "pixels": out[None].transpose(0, 3, 1, 2).astype(np.float32) / 255,
        "orig_target_sizes": np.array([PIXELS]),
    }
    labels, boxes, scores = ort.InferenceSession(file).run(["labels", "boxes", "scores"], feeds)
    best = scores[0].argmax()
    assert (found[0, 5], found[0, 4]) == (labels[0, best], pytest.approx(scores[0, best], abs=1e-5))
    np.testing.assert_allclose(found[0, :4], boxes[0, best].clip(0, PIXELS * 2), atol=0.01)


def test_what_is_not_known_of_second_inputs_and_three_outputs_is_asked_for(tmp_path: Path, pictures: Path) -> None:
    file = rtdetr(tmp_path / "m.onnx", size="sides")
    head = HeadSpec("detr", labels=LABELS)
    refused("network has 2:.*--bind sides=VALUE", file, pictures, head)
    refused("no input side to bind", file, pictures, head, bound={"side": [1, 1]})
    refused("is not a value for the input sides", file, pictures, head, bound={"sides": "wide"})
    refused(r"value \[1, 2, 3\] does not fit", file, pictures, head, bound={"sides": [1, 2, 3]})
    take(file, pictures, head, bound={"sides": list(PIXELS)}).close()
    floats = rtdetr(tmp_path / "f.onnx", classes=TensorProto.FLOAT)
    refused("name the classes, boxes and scores.*detr:CLASSES,BOXES,SCORES", floats, pictures, head)
    take(floats, pictures, {"d": HeadSpec("detr", ("labels", "boxes", "scores"), LABELS)}).close()
    swapped = {"d": HeadSpec("detr", ("scores", "boxes", "labels"), LABELS)}
    refused("not probabilities|is not a class id", floats, pictures, swapped)


def test_the_batch_may_be_another_axis_when_that_is_said(tmp_path: Path, pictures: Path) -> None:
    net = Foreign(free={0: "n"})
    moved = net.node("Transpose", net.cells(5, 1.0), perm=[1, 0, 2])
    net.nodes.append(helper.make_node("Identity", [moved], ["out"]))
    net.outputs.append(helper.make_tensor_value_info("out", TensorProto.FLOAT, [CELLS, "n", 5]))
    file = net.save(tmp_path / "m.onnx")
    refused(r"shape \[96, 1, 5\].*--set batch_axis=1", file, pictures, HeadSpec("raw"))
    picture = next(pictures.iterdir())
    with take(file, pictures, HeadSpec("raw", params={"batch_axis": 1}), batch=(1, 2)) as model:
        (wanted,) = plain(file, picture, model.manifest.preprocess)
        for result in model([picture, picture]):
            np.testing.assert_allclose(result.tensors["out"], wanted[:, 0], atol=1e-5)
        path = next(tmp_path.glob("*.bundle"))
    with edgebone.load(path, engine="openvino", precision="fp32") as model:
        np.testing.assert_allclose(model(picture).tensors["out"], wanted[:, 0], atol=1e-4)
    refused("batch_axis must be 0 or more", file, pictures, HeadSpec("raw", params={"batch_axis": "one"}))


def test_a_wrong_shape_that_the_file_says_of_an_output_is_forgotten(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    net.give(net.node("Transpose", net.cells(3, 3.0), perm=[1, 0, 2]), (CELLS, 1, 3))
    file = net.save(tmp_path / "m.onnx")
    model = onnx.load(file)
    del model.graph.value_info[:]
    sizes = model.graph.output[0].type.tensor_type.shape.dim
    del sizes[:]
    sizes.add().dim_value = 1
    sizes.add().dim_value = 0
    onnx.save(model, file)
    picture = next(pictures.iterdir())
    with take(file, pictures, HeadSpec("raw", params={"batch_axis": 1})) as loaded:
        (wanted,) = plain(file, picture, loaded.manifest.preprocess)
        (found,) = loaded(picture).tensors.values()
    np.testing.assert_allclose(found, wanted[:, 0], atol=1e-5)


def test_an_output_without_a_batch_gets_one_when_that_is_said(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    rows = net.node("Concat", net.node("Mul", net.scores(1), net.constant(np.float32(0))), net.scores(1), axis=2)
    first, middle, last, axis = (net.constant(np.array([i], np.int64)) for i in (0, 2, 4, 2))
    boxes = net.boxes(PIXELS)
    corner, extent = net.node("Slice", boxes, first, middle, axis), net.node("Slice", boxes, middle, last, axis)
    rows = net.node("Concat", rows, corner, net.node("Add", corner, extent), axis=2)
    flat = net.node("Reshape", rows, net.constant(np.array([CELLS, 6], np.int64)))
    net.nodes.append(helper.make_node("Identity", [flat], ["out"]))
    net.outputs.append(helper.make_tensor_value_info("out", TensorProto.FLOAT, [CELLS, 6]))
    file, columns = net.save(tmp_path / "m.onnx"), {"columns": "class,score,left,top,right,bottom"}
    refused("batch_axis=null", file, pictures, HeadSpec("yolo-end2end", labels=LABELS, params=columns))
    with take(file, pictures, HeadSpec("yolo-end2end", labels=LABELS, params={**columns, "batch_axis": None})) as model:
        assert set(model(next(pictures.iterdir())).labels) == {"cat"}


def test_rows_of_another_number_for_every_picture_are_refused(tmp_path: Path, pictures: Path) -> None:
    net = Foreign()
    found = net.node("NonZero", net.node("Greater", net.cells(3, 4.0), net.constant(np.float32(0))))
    net.nodes.append(helper.make_node("Transpose", [found], ["out"], perm=[1, 0]))
    net.outputs.append(helper.make_tensor_value_info("out", TensorProto.INT64, ["found", 3]))
    refused("for one picture and .* for another", net.save(tmp_path / "m.onnx"), pictures, HeadSpec("raw"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images", "images_float", "normalize_scale", "normalize_cast_out", "detections_boxes",
                                  "detections_boxes/value_2", "frame_input/0", "v1_normalized_1"])  # fmt: skip
def test_names_in_the_file_do_not_clash_with_ours(name: str, tmp_path: Path, pictures: Path) -> None:
    file = yolox(tmp_path / "m.onnx", 3)
    with take(file, pictures, HeadSpec("yolox", labels=LABELS, params={"score": 0.01}), "imagenet") as model:
        wanted = rows_of(model(next(pictures.iterdir())))
    proto = onnx.load(file)
    proto.graph.node[0].name = "normalize_subtract"
    # An inner value, a constant and an output, one after the other.
    for old in (proto.graph.node[3].output[0], proto.graph.initializer[2].name, "out"):
        other = onnx.ModelProto.FromString(proto.SerializeToString())
        for node in other.graph.node:
            node.input[:] = [name if item == old else item for item in node.input]
            node.output[:] = [name if item == old else item for item in node.output]
        for value in (*other.graph.initializer, *other.graph.output):
            value.name = name if value.name == old else value.name
        onnx.save(other, file)
        outputs = (name,) if old == "out" else ("out",)
        head = {"detections": HeadSpec("yolox", outputs, LABELS, {"score": 0.01})}
        with take(file, pictures, head, "imagenet") as model:
            np.testing.assert_array_equal(rows_of(model(next(pictures.iterdir()))), wanted)


def test_more_than_a_file_can_hold_is_said_at_once(tmp_path: Path, pictures: Path) -> None:
    # Sparse: it takes no room on the disk, and must not be read.
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(2**31 + 1000)
    refused("has 2.00 GiB.*half precision.*external_data", tmp_path / "large.onnx", pictures, HeadSpec("raw"))
    net = Foreign()
    net.give(vector(net, 3), (3,))
    proto = onnx.load(net.save(tmp_path / "m.onnx"))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    with (tmp_path / "m.data").open("r+b") as file:
        file.truncate(2**32)
    refused("has 4.00 GiB.*half precision", tmp_path / "m.onnx", pictures, HeadSpec("raw"))


@pytest.mark.parametrize("ir_version", [3, 8, onnx.IR_VERSION])
def test_every_version_of_the_format_is_taken(ir_version: int, tmp_path: Path, pictures: Path) -> None:
    net = Foreign(opset=8 if ir_version == 3 else 17)
    net.give(vector(net, 3), (3,))
    proto = onnx.load(net.save(tmp_path / "m.onnx"))
    proto.ir_version = ir_version
    if ir_version == 3:
        for tensor in proto.graph.initializer:
            proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(proto, tmp_path / "m.onnx")
    with take(tmp_path / "m.onnx", pictures, HeadSpec("embedding")) as model:
        assert model(next(pictures.iterdir())).vector.shape == (3,)
    with open_bundle(next(tmp_path.glob("*.bundle"))) as bundle:
        written = onnx.load_model_from_string(bundle.read("onnx/fp32.onnx"))
    assert 8 <= written.ir_version <= 10
