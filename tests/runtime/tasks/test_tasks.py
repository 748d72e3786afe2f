"""What a kind of output is, asked in one place."""

from __future__ import annotations

import ast
import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgebone.core.anomaly import Anomaly
from edgebone.core.depth import DepthMap
from edgebone.core.detections import Detections
from edgebone.core.errors import BundleError
from edgebone.core.geometry import Geometry
from edgebone.core.keypoints import KeyPoints, Skeleton
from edgebone.core.manifest import Head
from edgebone.core.masks import Masks
from edgebone.core.matches import Matches
from edgebone.core.place import load_place
from edgebone.core.results import Classification, Embedding, FeatureMaps, MultiLabel, RawTensors, Regression
from edgebone.core.segmentation import SegmentationMap
from edgebone.decode import decoder_names, find_spec
from edgebone.decode.heads import find_head, heads_of, need_heads
from edgebone.evaluate.contract import Evaluation
from edgebone.sinks.annotate import Drawing, annotate
from edgebone.tasks.boxed import BOXED, boxes_of, only_rows, with_tracks
from edgebone.tasks.contract import Task
from edgebone.tasks.table import TASKS, headlines, task_of_result
from support import ROOT

FLOATS = np.float32


def classes(best: int, decision: str | None = None) -> Classification:
    labels = ("cat", "dog")
    probabilities = np.array([0.9, 0.1] if best == 0 else [0.1, 0.9], FLOATS)
    order = np.array([best, 1 - best])
    return Classification(order, probabilities[order], tuple(labels[i] for i in order), probabilities, decision)


def labels_of(*names: str) -> MultiLabel:
    n = len(names)
    return MultiLabel(np.arange(n), np.full(n, 0.8, FLOATS), names, np.full(3, 0.5, FLOATS))


def boxes(*lefts: float, score: float = 0.9) -> Detections:
    n = len(lefts)
    xyxy = np.array([[left, 0, left + 10, 10] for left in lefts], FLOATS).reshape(n, 4)
    names = {"class_name": np.array(["car"] * n)}
    return Detections(xyxy, np.full(n, score, FLOATS), np.zeros(n, np.int64), names)


def turned(*lefts: float) -> Detections:
    found = boxes(*lefts)
    left, top, right, bottom = found.xyxy.T
    corners = np.stack([np.stack(pair, 1) for pair in ((left, top), (right, top), (right, bottom), (left, bottom))], 1)
    return replace(found, data={**found.data, "xyxyxyxy": corners, "angle": np.zeros(len(lefts), FLOATS)})


def points(*lefts: float) -> KeyPoints:
    found = boxes(*lefts)
    xy = np.stack([found.xyxy[:, :2], found.xyxy[:, 2:]], axis=1)
    skeleton = Skeleton(("first", "last"))
    return KeyPoints(xy, None, found.xyxy, found.confidence, found.class_id, skeleton, found.data)


def objects(*lefts: float, height: int = 10) -> Detections:
    """The boxes with areas in them, from their tops down."""
    found = boxes(*lefts)
    pixels = found.xyxy.astype(np.int64)
    pixels[:, 3] = height
    values = tuple(np.ones((1, 1), FLOATS) for _ in lefts)
    return replace(found, mask=Masks(values, found.xyxy.astype(np.float64), pixels, 0.5, (20, 40)))


def areas(rows: int) -> SegmentationMap:
    class_id = np.zeros((4, 4), np.uint8)
    class_id[:rows] = 1
    return SegmentationMap(class_id, ("ground", "road", "lane"))


def vector(*values: float) -> Embedding:
    return Embedding(np.array(values, FLOATS))


def anomaly(score: float) -> Anomaly:
    return Anomaly(score, 1.0, np.full((2, 2), score, FLOATS))


def depth(*values: float) -> DepthMap:
    return DepthMap(np.array([values], FLOATS), "metres", Geometry((1, 2), (1, 2), (1.0, 1.0), (0.0, 0.0)))


def numbers(*values: float) -> Regression:
    return Regression(("x", "y"), np.array(values, FLOATS))


def maps(*values: float) -> FeatureMaps:
    return FeatureMaps((np.array(values, FLOATS).reshape(1, 1, -1),), (8,))


def tensors(*values: float) -> RawTensors:
    return RawTensors({"out": np.array(values, FLOATS)})


def names(label: str) -> Matches:
    return Matches(("tea",), np.array([0.9], FLOATS), np.array([1]), label)


ANSWERS: dict[str, tuple[Any, set[str], list[tuple[Any, float]]]] = {
    # A result, its headlines, and how much others agree with it.
    "classification": (classes(0), {"cat"}, [(classes(0), 1), (classes(1), 0)]),
    "multilabel": (labels_of("a", "b"), {"a", "b"}, [(labels_of("b", "a"), 1), (labels_of("a"), 0)]),
    "regression": (numbers(3, 4), set(), [(numbers(3, 4), 1), (numbers(3, 5), 0.8), (numbers(30, 40), 0)]),
    "detection": (boxes(0, 20), {"car"}, [(boxes(20, 0), 1), (boxes(0), 0.5), (boxes(), 0)]),
    "oriented": (turned(0, 20), {"car"}, [(turned(20, 0), 1), (turned(0), 0.5), (turned(), 0)]),
    "keypoints": (points(0, 20), {"car"}, [(points(20, 0), 1), (points(0), 0.5), (points(), 0)]),
    "instances": (
        objects(0, 20),
        {"car"},
        [(objects(20, 0), 1), (objects(0), 0.5), (objects(), 0), (objects(0, 20, height=4), 0)],
    ),
    "segmentation": (areas(2), {"road"}, [(areas(2), 1), (areas(1), 0.75), (areas(0), 0.5)]),
    "depth": (depth(1, 3), set(), [(depth(1, 3), 1), (depth(2, 3), 0.75), (depth(9, 9), 0)]),
    "anomaly": (anomaly(0.5), {"anomaly"}, [(anomaly(0.9), 1), (anomaly(2.0), 0)]),
    "embedding": (vector(1, 0), {"embedding"}, [(vector(2, 0), 1), (vector(0, 1), 0), (vector(0, 0), 0)]),
    "features": (maps(1, 0), {"featuremaps"}, [(maps(2, 0), 1), (maps(-1, 0), -1)]),
    "raw": (tensors(1, 0), {"rawtensors"}, [(tensors(2, 0), 1), (tensors(0, 1), 0)]),
    "matches": (names("tea"), {"tea"}, [(names("tea"), 1), (names("unknown"), 0)]),
}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_knows_its_results_and_what_they_say(task: Task[Any]) -> None:
    result, said, others = ANSWERS[task.name]
    assert [item.name for item in TASKS if item.of(result) is not None] == [task.name]
    assert task_of_result(result) is task
    assert headlines(result) == said
    for other, agreed in others:
        assert task.agreement(other, result, {}) == pytest.approx(agreed, abs=1e-6)


def test_a_result_of_no_task_is_named_by_its_class() -> None:
    class Depth:
        def to_dict(self) -> dict[str, Any]:
            return {}

    assert headlines(Depth()) == {"depth"}
    # What nobody knows how to draw is a line of text.
    assert (annotate(np.full((90, 160, 3), 128, np.uint8), Depth()) != 128).any()


def test_the_boxes_of_objects_are_boxes_and_their_rows_keep_their_areas() -> None:
    found = objects(0, 20)
    plain = boxes_of(found)
    assert plain is not None and plain.mask is None
    assert headlines(plain) == {"car"}
    tracked = with_tracks(only_rows(found, [1]), np.array([7]))
    assert isinstance(tracked, Detections) and tracked.mask is not None and tracked.tracker_id is not None
    assert (tracked.mask.pixels.tolist(), tracked.tracker_id.tolist()) == ([[20, 0, 30, 10]], [7])
    assert boxes_of(areas(1)) is None


def test_the_area_of_an_object_is_tinted_under_its_box() -> None:
    grey, xyxy = np.full((100, 200, 3), 128, np.uint8), np.array([[20, 20, 180, 90]], FLOATS)
    values, cells = (np.ones((1, 1), FLOATS),), xyxy.astype(np.float64)
    drawn = []
    for bottom in (90, 60):
        masks = Masks(values, cells, np.array([[20, 20, 180, bottom]]), 0.5, (100, 200))
        drawn.append(annotate(grey, replace(boxes(0), xyxy=xyxy, mask=masks)))
    whole, part = drawn
    assert (whole[80, 150] != 128).any()
    assert (part[80, 150] == 128).all()
    assert (part[50, 150] == whole[50, 150]).all()


def test_boxes_agree_from_the_least_score_on_that_the_head_shows() -> None:
    (detection,) = (task for task in TASKS if task.name == "detection")
    assert detection.agreement(boxes(0, score=0.3), boxes(), {"score": 0.25}) == 0
    assert detection.agreement(boxes(0, score=0.3), boxes(), {"score": 0.5}) == 1


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_place_that_a_task_names_is_there(task: Task[Any]) -> None:
    assert bool(task.evaluation) == (task.metric is not None) == bool(task.figures)
    if task.evaluation:
        assert isinstance(load_place(task.evaluation), Evaluation)
    if task.drawing:
        assert isinstance(load_place(task.drawing), Drawing)
    if task.writer:
        assert callable(load_place(task.writer))


@pytest.mark.parametrize("decoder", decoder_names())
def test_a_decoders_row_has_its_name_a_task_of_the_table_and_places_that_are_there(decoder: str) -> None:
    spec = find_spec(decoder)
    assert spec is not None
    assert spec.name == decoder
    assert spec.task in TASKS
    assert (spec.box_reader is not None) == (spec.task in BOXED) == spec.may_be_empty
    assert not spec.in_graph or callable(load_place(spec.in_graph))


def test_a_head_is_found_by_its_task_or_the_answer_says_what_there_is() -> None:
    by_name = {task.name: task for task in TASKS}
    classification, detection, embedding = (by_name[key] for key in ("classification", "detection", "embedding"))
    heads = {"kind": Head("classification@1", ("x",)), "cars": Head("yolox@1", ("y",)), "more": Head("ssd@1", ("z",))}
    assert heads_of(heads, detection) == {"cars": detection, "more": detection}
    assert find_head(heads, classification, None, "a shelf") == ("kind", classification)
    assert find_head(heads, (classification, detection), "more", "a shelf") == ("more", detection)
    assert need_heads(heads, (detection,), "tracking follows boxes", "a.bundle") == ("cars", "more")
    everything = "kind: classification@1, cars: yolox@1, more: ssd@1"
    for tasks, name, words in (
        (detection, None, f"a test needs one head with boxes, the bundle has 2 ({everything}); name one with --head"),
        (detection, "kind", f"a test needs a head with boxes, which kind is not (the bundle has {everything})"),
        (detection, "car", f"there is no head car; did you mean cars? the bundle has {everything}"),
        (embedding, None, f"a test needs a head with an embedding, the bundle has {everything}; look elsewhere"),
        (embedding, "cars", f"a test needs a head with an embedding, the bundle has {everything}; look elsewhere"),
    ):
        with pytest.raises(BundleError) as caught:
            find_head(heads, tasks, name, "a test", advice="look elsewhere")
        assert str(caught.value) == words
    with pytest.raises(
        BundleError, match=f"an eye needs boxes, and b has no head that returns any; it has {everything[:10]}"
    ):
        need_heads({"kind": heads["kind"]}, (detection,), "an eye needs boxes", "b")
    with pytest.raises(BundleError, match="head odd needs decoder odd@1"):
        find_head({"odd": Head("odd@1", ("x",))}, detection, None, "a test")


def test_a_head_that_was_replaced_by_one_of_another_kind_is_said() -> None:
    (embedding,) = (task for task in TASKS if task.name == "embedding")
    found = vector(1, 0)
    assert embedding.pick(found, "any") is embedding.pick({"emb": found}, "emb") is found
    with pytest.raises(
        BundleError, match="head emb no longer returns an embedding: it was replaced by a head of another kind"
    ):
        embedding.pick({"emb": classes(0)}, "emb")


# --- the question is asked nowhere else

RESULTS = {task.result.__name__ for task in TASKS}
# Where the question has its answer.
ASKED_IN = ("runtime/edgebone/tasks/", "runtime/edgebone/decode/", "runtime/edgebone/sinks/annotate.py")
# These ask about a decoder's tensors: how raw outputs are compared, and the forms that files have them in.
TENSORS = (
    "export/edgebone_export/importers/heads.py",
    "export/edgebone_export/importers/meaning.py",
    "runtime/edgebone/core/compare.py",
)


def asks(node: ast.AST) -> bool:
    """Whether code asks what kind of output there is, by a result's class or by a decoder's name."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
        return bool({name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)} & RESULTS)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("startswith", "partition", "split") and ast.unparse(node.func.value).endswith(
            ".decoder"
        )
    if isinstance(node, ast.Compare):
        own = {item for side in (node.left, *node.comparators) for item in constants(side)}
        return bool(own & set(decoder_names()))
    return False


def constants(node: ast.AST) -> set[object]:
    return {item.value for item in ast.walk(node) if isinstance(item, ast.Constant)}


@pytest.mark.parametrize("root", ["runtime/edgebone", "export/edgebone_export"])
def test_what_kind_of_output_there_is_is_asked_in_the_rooms_that_know(root: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / root).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.expr) and asks(node)
    }
    assert {place for place in found if not place.startswith((*ASKED_IN, *TENSORS))} == set()


def test_the_question_is_recognised() -> None:
    for text, expected in (
        ("isinstance(a, Detections)", True),
        ("isinstance(a, (int, Embedding))", True),
        ("isinstance(a, dict)", False),
        ("head.decoder.startswith('boxes@')", True),
        ("name.startswith('boxes@')", False),
        ("decoder == 'boxes@1'", True),
        ("decoder in ('ssd@1', 'detr@1')", True),
        ("Head('boxes@1', outputs)", False),
    ):
        assert asks(ast.parse(text, mode="eval").body) == expected, text


def test_tasks_import_nothing_heavy() -> None:
    assert importlib.import_module("edgebone.tasks.table")
    places = {path.name: ast.parse(path.read_text()) for path in (ROOT / "runtime/edgebone/tasks").glob("*.py")}
    imported = {
        node.module.split(".")[0]
        for tree in places.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert imported <= {"__future__", "collections", "dataclasses", "typing", "numpy", "edgebone"}
