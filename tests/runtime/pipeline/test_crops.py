"""Cascades: a second model is asked about the first one's boxes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgebone import Gallery, Model, load
from edgebone.core.bundle import open_bundle
from edgebone.core.detections import Detections
from edgebone.core.errors import BundleError, EdgeboneError, EngineError, TensorError
from edgebone.core.frame import Frame
from edgebone.core.masks import Masks
from edgebone.gallery.embedding import about, dimension_of, embed_pictures, space_of
from edgebone.pipeline import Crops, Pipeline
from edgebone.pipeline.asked import Asked
from edgebone.preprocess import preprocess
from edgebone.sinks import open_sink
from edgebone.sinks.annotate import annotate
from support import foreign
from support.bundles import two_heads_bundle, write_boxes_bundle, write_colors_bundle
from support.pictures import BLUE, GREEN, RED, picture, write_video
from support.program import edgebone as program
from support.program import lines_of

THIRDS = ((0, 0, 10, 32), (11, 0, 21, 32), (22, 0, 32, 32))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``finder`` finds a box in each third of a grey picture, ``color`` names colours. Shared: do not change it."""
    folder = tmp_path_factory.mktemp("cascade")
    write_boxes_bundle(folder / "finder.bundle", "found", corners=THIRDS)
    write_boxes_bundle(folder / "inner.bundle", "found", corners=((4, 4, 28, 28),) * 3)
    write_colors_bundle(folder / "color.bundle", (1, 4))
    return folder


@pytest.fixture(scope="module")
def finder(bundles: Path) -> Iterator[Model]:
    with load(bundles / "finder.bundle") as model:
        yield model


def found(xyxy: Any, ids: list[int] | None = None, labels: Any = None) -> Detections:
    boxes = np.asarray(xyxy, np.float32).reshape(-1, 4)
    n = len(boxes)
    names = np.array(["bottle"] * n if labels is None else labels, np.str_)
    tracks = None if ids is None else np.array(ids, np.int64)
    return Detections(
        boxes, np.linspace(0.9, 0.5, n, dtype=np.float32), np.zeros(n, np.int64), {"class_name": names}, tracks
    )


def frame_of(image: np.ndarray, index: int = 0, fps: float = 10.0, source: str = "video") -> Frame:
    return Frame(image, index, 0, source, index / fps)


def tricolor(colors: Any = (RED, GREEN, BLUE), px: int = 40) -> np.ndarray:
    return np.hstack([picture(color, (60, px)) for color in colors])


BOXES = [(0, 0, 40, 60), (40, 0, 80, 60), (80, 0, 120, 60)]


class Counting:
    """A model that counts what it is asked, and fails when it is told to."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.asked: list[int] = []
        self.broken = False
        self.least_width = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, pictures: Any, **options: Any) -> Any:
        self.asked.append(len(pictures))
        if self.broken:
            raise EngineError("the device is lost")
        if any(item.shape[1] < self.least_width for item in pictures):
            raise TensorError("a picture is too narrow")
        return self._model(pictures, **options)


@pytest.fixture
def color(bundles: Path) -> Iterator[Any]:
    with load(bundles / "color.bundle") as model:
        yield Counting(model)


def test_each_box_is_named_and_the_first_results_stay(finder: Model, color: Any) -> None:
    step = Crops(color, name="color")
    step.prepare(finder)
    first = found(BOXES, [7, 8, -1])
    results, events = step.look(frame_of(tricolor()), first, finder)
    assert isinstance(results, Detections)
    assert results["color"].tolist() == ["red", "green", "blue"]
    assert (results["color_score"] > 0.9).all()
    assert [answer["color"].label for answer in results["crops"]] == ["red", "green", "blue"]
    assert not events
    for name in ("xyxy", "confidence", "class_id", "tracker_id"):
        assert (getattr(results, name) == getattr(first, name)).all()
    entry = results.to_dict()["detections"][0]
    assert entry["crops"]["color"]["classes"][0]["label"] == "red"
    assert {key: entry[key] for key in entry if key != "crops"} == first.to_dict()["detections"][0]
    assert str(results) == "3 bottle (best 90.0 %): 1 red, 1 green, 1 blue"
    assert results[1:].answers == ("green", "blue")
    # All three in one run.
    assert color.asked == [3]
    assert step.summary() == ["color (color.bundle): asked about 3 crops in 1 frames; most often red, green, blue"]
    assert (annotate(tricolor(), results) != annotate(tricolor(), first)).any()


def by_hand(bundle: Path, image: np.ndarray, xyxy: np.ndarray, output: str) -> np.ndarray:
    """A plain script: slice, resize, run, with onnxruntime alone."""
    with open_bundle(bundle) as opened:
        session = onnxruntime.InferenceSession(opened.read("onnx/fp32.onnx"))
        spec = opened.manifest.preprocess
    rows = []
    for left, top, right, bottom in xyxy.tolist():
        cut = image[int(np.floor(top)) : int(np.ceil(bottom)), int(np.floor(left)) : int(np.ceil(right))].copy()
        network_input = np.zeros((1, *spec.size_hw, 3), np.uint8)
        preprocess(spec, cut, network_input[0])
        rows.append(session.run([output], {"images": network_input})[0][0])
    return np.array(rows)


def test_two_hundred_crops_are_those_of_a_script_by_hand(finder: Model, bundles: Path, layout_bundle: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (720, 1280, 3), np.uint8)
    corner, size = rng.uniform(0, (1150, 620), (200, 2)), rng.uniform(8, 100, (200, 2))
    boxes = found(np.concatenate([corner, corner + size], axis=1))
    with Crops(layout_bundle, name="embed") as embed, Crops(bundles / "color.bundle", name="color") as color:
        for step in (embed, color):
            step.prepare(finder)
        results, _ = embed.look(frame_of(image), boxes, finder)
        results, _ = color.look(frame_of(image), results, finder)
    assert isinstance(results, Detections)
    vectors = np.array([answers["embed"].vector for answers in results["crops"]])
    wanted = by_hand(layout_bundle, image, boxes.xyxy, "embedding")
    cosine = (vectors * wanted).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(wanted, axis=1)
    assert (1 - cosine).max() <= 1e-4
    labels = by_hand(bundles / "color.bundle", image, boxes.xyxy, "logits").argmax(axis=1)
    assert [int(answers["color"].class_id[0]) for answers in results["crops"]] == labels.tolist()
    # An embedding without a gallery has no words.
    assert set(results["embed"].tolist()) == {""}


def test_a_track_is_asked_about_once_and_again_on_time_by_the_sources_clock(finder: Model, color: Any) -> None:
    step = Crops(color, name="color", once_a_track=2)
    step.prepare(finder)
    image = np.hstack([picture(RED, (60, 40))] * 12)
    xyxy = [(40 * n, 0, 40 * n + 40, 60) for n in range(12)]
    told = []
    for index in range(50):
        results, events = step.look(frame_of(image, index), found(xyxy, list(range(1, 13))), finder)
        told += events
        assert results["color"].tolist() == ["red"] * 12  # type: ignore[index]
    # At 0, 2 and 4 s of five seconds, whatever time it took; in batches of four.
    assert sum(color.asked) == 36
    assert color.asked == [4] * 9
    assert told[0].to_dict() == {
        "source": "video", "frame": 0, "position_s": 0.0, "tracker_id": 1, "label": "bottle", "crops": "color",
        "answer": "red", "event": "named",
    }  # fmt: skip
    assert len(told) == 12


def test_the_latest_answers_of_a_track_outvote_a_bad_look_and_end_with_it(finder: Model, color: Any) -> None:
    step = Crops(color, name="color", once_a_track=0)
    step.prepare(finder)

    def look(index: int, bgr: Any, number: int = 1) -> tuple[str, list[str]]:
        results, events = step.look(frame_of(picture(bgr), index), found([(0, 0, 64, 48)], [number]), finder)
        return results["color"][0], [event.answer for event in events]  # type: ignore[index, attr-defined]

    assert [look(index, bgr)[0] for index, bgr in enumerate([RED, RED, BLUE, RED])] == ["red"] * 4
    # What it has become is the mean of the latest eight looks.
    seen = [look(index, BLUE) for index in range(4, 12)]
    assert seen[0][0] == "red"
    assert seen[-1][0] == "blue"
    assert [answers for _, answers in seen if answers] == [["blue"]]
    # Out of sight for longer than a second: it ended, and what was known of it.
    assert look(40, GREEN, 2) == ("green", ["green"])
    assert look(41, RED, 1) == ("red", ["red"])
    assert len(step._asked or ()) == 2


def test_a_budget_holds_for_a_thousand_boxes_and_what_is_left_out_is_counted(finder: Model, color: Any) -> None:
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 500, (1000, 2))
    boxes = found(np.concatenate([corner, corner + rng.uniform(5, 100, (1000, 2))], axis=1))
    step = Crops(color, name="color", budget=16)
    step.prepare(finder)
    results, _ = step.look(frame_of(np.zeros((600, 600, 3), np.uint8)), boxes, finder)
    asked = np.array([bool(answers) for answers in results["crops"]])  # type: ignore[index]
    assert (asked.sum(), sum(color.asked)) == (16, 16)
    # The largest ones.
    assert boxes.area[asked].min() >= boxes.area[~asked].max()
    assert "984 left out by the budget of 16 a frame" in step.summary()[0]


def test_with_tracks_a_budget_goes_to_those_that_waited_longest(finder: Model, color: Any) -> None:
    step = Crops(color, name="color", budget=1, once_a_track=0)
    step.prepare(finder)
    turns = []
    for index in range(6):
        step.look(frame_of(tricolor(), index), found(BOXES, [1, 2, 3]), finder)
        assert step._asked is not None
        known = step._asked._tracks["video"]
        turns.append(max(known, key=lambda number: -1 if known[number].asked_s is None else known[number].asked_s))
    assert sorted(turns[:3]) == [1, 2, 3]
    assert turns[:3] == turns[3:]


def test_boxes_without_pixels_too_small_or_beyond_the_frame(finder: Model, color: Any) -> None:
    boxes = found(
        [
            (0, 0, 40, 60),
            (10, 10, 10, 40),
            (200, 200, 300, 300),
            (-50, -50, -1, -1),
            (100, 30, 500, 500),
            (0, 0, 9, 60),
        ],
    )
    step = Crops(color, name="color", least_size=10)
    step.prepare(finder)
    results, _ = step.look(frame_of(tricolor()), boxes, finder)
    assert results["color"].tolist() == ["red", "", "", "", "blue", ""]  # type: ignore[index]
    assert step.summary()[0].startswith(
        "color (color.bundle): asked about 2 crops in 1 frames; 1 smaller than 10 pixels; 3 without pixels in the frame"
    )
    assert "crops" not in results.to_dict()["detections"][1]  # type: ignore[union-attr]


def test_only_these_classes_are_cut_out_and_no_box_is_no_question(finder: Model, color: Any) -> None:
    step = Crops(color, name="color", classes=["red"])
    step.prepare(finder)
    results, _ = step.look(frame_of(tricolor()), found(BOXES, labels=["red", "green", "red"]), finder)
    assert results["color"].tolist() == ["red", "", "blue"]  # type: ignore[index]
    empty, _ = step.look(frame_of(tricolor()), Detections.empty(), finder)
    assert empty.to_dict() == {"detections": []}  # type: ignore[union-attr]
    with pytest.raises(EdgeboneError, match="no class 'rad'; did you mean red"):
        Crops(color, classes=["rad"]).prepare(finder)


def test_a_second_model_that_fails_is_said_once_and_the_first_results_come(finder: Model, color: Any) -> None:
    said: list[str] = []
    step = Crops(color, name="color", notice=said.append)
    step.prepare(finder)
    color.broken = True
    for index in range(3):
        results, _ = step.look(frame_of(tricolor(), index), found(BOXES), finder)
        assert len(results.to_dict()["detections"]) == 3  # type: ignore[union-attr]
        assert results["color"].tolist() == ["", "", ""]  # type: ignore[index]
    assert len(said) == 1
    assert "the device is lost" in said[0]
    assert "9 failed (the device is lost)" in step.summary()[0]
    color.broken = False
    results, _ = step.look(frame_of(tricolor(), 3), found(BOXES), finder)
    assert results["color"].tolist() == ["red", "green", "blue"]  # type: ignore[index]


def test_a_crop_that_cannot_be_resized_costs_the_others_nothing(finder: Model, color: Any) -> None:
    step = Crops(color, name="color", notice=lambda _: None)
    step.prepare(finder)
    boxes = found([(0, 0, 40, 60), (0, 0, 1, 60), (0, 0, 40, 60)])
    color.least_width = 2
    results, _ = step.look(frame_of(picture(RED, (60, 64))), boxes, finder)
    assert results["color"].tolist() == ["red", "", "red"]  # type: ignore[index]
    assert "1 failed" in step.summary()[0]


def test_only_the_objects_own_area_is_asked_about(bundles: Path, finder: Model, color: Any) -> None:
    # Half of the box is another object.
    image = np.hstack([picture(RED, (60, 10)), picture(BLUE, (60, 30))])
    boxes = found([(0, 0, 40, 60)])
    part = np.array([[0, 0, 10, 60]])
    left = Masks((np.ones((1, 1), np.float32),), part.astype(float), part, 0.5, (60, 40))
    masked = replace(boxes, mask=left)
    plain, own = Crops(color, name="color"), Crops(color, name="color", masked=True)
    plain.prepare(finder)
    assert plain.look(frame_of(image), masked, finder)[0]["color"].tolist() == ["blue"]  # type: ignore[index]
    with pytest.raises(BundleError, match="cutting out areas needs a head with masks"):
        own.prepare(finder)
    own._heads[finder] = "found"
    assert own.look(frame_of(image), masked, finder)[0]["color"].tolist() == ["red"]  # type: ignore[index]


def test_time_that_goes_back_asks_again_and_numbers_are_no_events() -> None:
    asked = Asked(5.0)
    (track,) = asked.see("video", np.array([1]), 100.0)
    assert track is not None
    track.asked_s = 100.0
    assert not asked.is_due(track, 104.0)
    assert asked.is_due(track, 0.0)


@pytest.fixture(scope="module")
def importer() -> Any:
    return pytest.importorskip("edgebone_export.importers.importer")


def test_masks_in_the_pixels_of_a_crop_are_refused(importer: Any, tmp_path: Path) -> None:
    path = foreign.yolo26_seg(tmp_path / "m.onnx", 2)
    importer.import_onnx(path, tmp_path / "seg.bundle", heads=importer.HeadSpec("yolo-end2end-seg"))
    with pytest.raises(EdgeboneError, match=r"head instances returns .*only whole frames"):
        Crops(tmp_path / "seg.bundle")


@pytest.mark.parametrize("kind", ["pose", "obb"])
def test_keypoints_and_turned_boxes_within_boxes_are_in_the_frames_pixels(
    kind: str, finder: Model, importer: Any, tmp_path: Path
) -> None:
    path, params = tmp_path / "m.onnx", {}
    if kind == "pose":
        foreign.yolo_pose(path, 1, 5, 3, {})
        params = {"keypoints": "a,b,c,d,e"}
    else:
        foreign.yolo_obb(path, 1, {})
    head = importer.HeadSpec(f"yolov8-{kind}", labels=("person",), params=params)
    importer.import_onnx(path, tmp_path / "second.bundle", heads=head, preprocess="stretch")
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    with Crops(tmp_path / "second.bundle", name="second") as step:
        step.prepare(finder)
        results, _ = step.look(frame_of(image), found([(0, 0, 80, 60), (60, 50, 150, 110)]), finder)
        within: Any = results["second"]  # type: ignore[index]
        for row, (left, top, right, bottom) in enumerate([(0, 0, 80, 60), (60, 50, 150, 110)]):
            alone: Any = step._second.model(image[top:bottom, left:right])
            own = within[within["parent"] == row]
            assert len(own) == len(alone) > 0
            have, want = (item.xy if kind == "pose" else item["xyxyxyxy"] for item in (own, alone))
            assert np.allclose(have, want + np.array([left, top]), atol=1e-3)
            assert np.allclose(own.xyxy[:, 0], alone.xyxy[:, 0] + left, atol=0.5)
        scores = within.detection_confidence if kind == "pose" else within.confidence
        assert (np.diff(scores) <= 0).all()


def test_margins_and_squares_stay_within_the_picture() -> None:
    from edgebone.vision.cutting import rectangles

    boxes = np.array([(10, 10, 30, 20), (0, 0, 20, 10), (90, 40, 120, 60)], np.float32)
    assert rectangles(boxes, (50, 100)).tolist() == [[10, 10, 30, 20], [0, 0, 20, 10], [90, 40, 100, 50]]
    assert rectangles(boxes, (50, 100), margin=0.1).tolist()[0] == [8, 9, 32, 21]
    squares = rectangles(boxes, (50, 100), square=True).tolist()
    assert squares == [[10, 5, 30, 25], [0, 0, 20, 20], [70, 20, 100, 50]]
    assert rectangles(np.array([(0, 0, 100, 10)]), (50, 100), square=True).tolist() == [[0, 0, 100, 50]]
    # A box cut at sub-pixels has every pixel that it touches.
    assert rectangles(np.array([(1.2, 1.2, 1.4, 3.5)]), (50, 100)).tolist() == [[1, 1, 2, 4]]
    assert rectangles(np.array([(np.nan, 0, 5, 5)]), (50, 100)).tolist() == [[0, 0, 0, 0]]


def turned(degrees: float, center: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    along, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    half_w, half_h = size[0] / 2 * along, size[1] / 2 * down
    return np.array(center) + np.array([-half_w - half_h, half_w - half_h, half_w + half_h, -half_w + half_h])


@pytest.mark.parametrize("degrees", [0, 20, -40, 70, 90, 180])
def test_a_turned_box_is_cut_upright_and_leads_back(degrees: float) -> None:
    import cv2

    from edgebone.vision.cutting import straightened

    corners = turned(degrees, (100, 80), (60, 30))
    image = np.zeros((160, 200, 3), np.uint8)
    cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], (255, 255, 255))
    for start in range(4):
        cut = straightened(image, np.roll(corners, start, axis=0))
        assert sorted(cut.pixels.shape[:2]) == [30, 60]
        # By the smallest angle: from 45 degrees on what was upright lies.
        assert cut.pixels.shape[0] == (30 if abs(degrees) % 180 <= 45 else 60)
        assert cut.pixels[2:-2, 2:-2].min() > 250
        (box,) = cut.boxes_in_picture(np.array([[0, 0, *cut.pixels.shape[1::-1]]], np.float32))
        assert box == pytest.approx([*corners.min(axis=0), *corners.max(axis=0)], abs=0.01)
    # Half of what is twice as wide is the box.
    assert straightened(image, corners, margin=0.5).pixels.mean() == pytest.approx(255 / 4, abs=6)


def test_a_turned_box_is_named_by_what_is_in_it(finder: Model, color: Any) -> None:
    import cv2

    corners = turned(45, (60, 60), (80, 16))
    image = picture(BLUE, (120, 120))
    cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], RED)
    upright = found([(*corners.min(axis=0), *corners.max(axis=0))])
    oriented = Detections(
        upright.xyxy,
        upright.confidence,
        upright.class_id,
        {**upright.data, "xyxyxyxy": corners[None].astype(np.float32)},
    )
    step = Crops(color, name="color")
    step.prepare(finder)
    assert step.look(frame_of(image), upright, finder)[0]["color"].tolist() == ["blue"]  # type: ignore[index]
    assert step.look(frame_of(image), oriented, finder)[0]["color"].tolist() == ["red"]  # type: ignore[index]


def test_boxes_within_boxes_are_in_the_frames_pixels_and_are_cut_out_again(
    finder: Model, bundles: Path, tmp_path: Path
) -> None:
    image = np.full((320, 320, 3), 200, np.uint8)
    image[:, :100] = (255, 40, 200)
    with (
        Crops(bundles / "inner.bundle", name="plate") as plates,
        Crops(bundles / "color.bundle", of=plates, name="color") as colors,
    ):
        pipeline = Pipeline(finder, [plates, colors], [open_sink(tmp_path / "all.jsonl")])
        pipeline.run([image])
    (line,) = [json.loads(text) for text in (tmp_path / "all.jsonl").read_text().splitlines()]
    first, plate = line["heads"]["found"]["detections"], line["heads"]["plate"]["detections"]
    assert len(first) == 3
    # A box of each channel above its threshold in each third: the middle of it, in the frame's pixels.
    own = [item for item in plate if item["parent"] == [box["label"] for box in first].index("blue")]
    assert own[0]["bbox"] == [pytest.approx(12.5, abs=0.2), 40, pytest.approx(75, abs=0.2), 240]
    assert {item["crops"]["color"]["classes"][0]["label"] for item in plate if item["parent"] == own[0]["parent"]} == {
        "blue"
    }
    with pytest.raises(EdgeboneError, match="cutting out what color finds needs a head with boxes"):
        Crops(bundles / "color.bundle", of=Crops(bundles / "color.bundle", name="color"))


def test_several_heads_of_the_second_model_and_a_merged_embedding(finder: Model, tmp_path: Path) -> None:
    with Crops(two_heads_bundle(tmp_path / "two.bundle"), once_a_track=0) as step:
        step.prepare(finder)
        for index, bgr in enumerate((RED, GREEN)):
            results, _ = step.look(frame_of(picture(bgr), index), found([(0, 0, 64, 48)], [1]), finder)
    answer = results["crops"][0]["two"]  # type: ignore[index]
    assert set(answer) == {"classification", "colour"}
    # The mean of the unit vectors, of length one; in RGB.
    unit = [np.array(bgr[::-1]) / np.linalg.norm(bgr) for bgr in (RED, GREEN)]
    mean = np.mean(unit, axis=0)
    assert answer["colour"].vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_tracks_are_needed_for_once_a_track_and_names_must_differ(finder: Model, color: Any) -> None:
    step = Crops(color, name="color", once_a_track=1)
    step.prepare(finder)
    with pytest.raises(EdgeboneError, match="needs tracked detections"):
        step.look(frame_of(tricolor()), found(BOXES), finder)
    for name in ("class_name", "crops", "found"):
        other = Crops(color, name=name)
        other.prepare(finder)
        with pytest.raises(EdgeboneError, match=f"the results have {name} already"):
            other.look(frame_of(tricolor()), found(BOXES), finder)
    with pytest.raises(EdgeboneError, match="needs a head with"):
        Crops(color).prepare(color)
    for wrong in ({"budget": 0}, {"margin": -1}, {"once_a_track": -1}, {"least_size": float("nan")}):
        with pytest.raises(ValueError, match="must be"):
            Crops(color, **wrong)  # type: ignore[arg-type]


def save_gallery(bundle: Path, path: Path, **colors: Any) -> Path:
    with load(bundle) as model:
        gallery = Gallery(space_of(model), dimension_of(model), about=about(model))
        gallery.add(embed_pictures(model, list(colors.values())), list(colors))
        return gallery.save(path, overwrite=True)


def halves(top: Any, bottom: Any) -> np.ndarray:
    return np.vstack([picture(top), picture(bottom)])


def test_a_gallery_names_its_own_head_alone_and_is_reloaded(finder: Model, tmp_path: Path) -> None:
    bundle = two_heads_bundle(tmp_path / "two.bundle")
    path = save_gallery(bundle, tmp_path / "a.gallery", jam=picture(RED), milk=picture(GREEN))
    said: list[str] = []
    with Crops(bundle, name="product", once_a_track=60, gallery=path, notice=said.append) as step:
        pipeline = Pipeline(finder, [step])
        results, _ = step.look(frame_of(tricolor()), found(BOXES[:2], [1, 2]), finder)
        assert results["product"].tolist() == ["jam", "milk"]  # type: ignore[index]
        save_gallery(bundle, path, cherry=picture(RED), milk=picture(GREEN))
        step._second.follow_gallery(at_once=True)
        step._asked.name_again()  # type: ignore[union-attr]
        # Without another question.
        results, events = step.look(frame_of(tricolor(), 1), found(BOXES[:2], [1, 2]), finder)
        assert results["product"].tolist() == ["cherry", "milk"]  # type: ignore[index]
        assert [event.answer for event in events] == ["cherry"]  # type: ignore[attr-defined]
        assert step._second.asked == 2
        pipeline.reload()
        step.load_again(finder)
        results, _ = step.look(frame_of(tricolor(), 2), found(BOXES[:2], [1, 2]), finder)
        assert results["product"].tolist() == ["cherry", "milk"]  # type: ignore[index]
        assert step._second.asked == 4
    assert len(said) == 1


def test_a_cascade_from_the_command_line(bundles: Path, layout_bundle: Path, tmp_path: Path) -> None:
    import cv2

    gallery = save_gallery(layout_bundle, tmp_path / "p.gallery", flag=halves(RED, GREEN), dawn=halves(GREEN, RED))
    cv2.imwrite(
        str(tmp_path / "a.png"), np.vstack([picture((120, 120, 250), (160, 320)), picture((120, 250, 120), (160, 320))])
    )
    command = ["run", bundles / "finder.bundle", tmp_path / "a.png", "--then", f"embed={layout_bundle}"]
    done = program(*command, "--gallery", gallery, "--then-classes", "red,green", "--json")
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    said = {item["label"]: item.get("crops") for item in line["detections"]}
    assert said["blue"] is None
    assert (said["red"]["embed"]["label"], said["green"]["embed"]["label"]) == ("flag", "flag")
    assert "embed (layout.bundle): asked about 2 crops in 1 frames; most often flag" in done.stderr
    # Two second models, both asked about the boxes of the first; the gallery by its name.
    more = ["--then", bundles / "color.bundle", "--gallery", f"embed={gallery}", "--then-budget", "1"]
    done = program(*command, *more)
    assert done.returncode == 0, done.stderr
    assert "1 flag, " in done.stdout.splitlines()[0]
    for options, words in (
        (["--gallery", f"embod={gallery}"], "there is no head embod"),
        (["--then-classes", "rad"], "no class 'rad'; did you mean red"),
        (["--then", f"embed={bundles / 'color.bundle'}"], "two second models have the name embed"),
        (["--then", tmp_path / "none.bundle"], "none.bundle"),
        (["--then-again", "3"], "--then-again needs --track"),
    ):
        done = program(*command, *options)
        assert done.returncode
        assert words in done.stderr.replace("\n", " ")
        assert "Traceback" not in done.stderr
    assert "needs --then" in program("run", bundles / "finder.bundle", tmp_path, "--then-budget", "3").stderr


def test_tracked_objects_of_a_video_are_asked_about_once_and_told_of(bundles: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [(200, 200, 200)] * 50)
    events, lines = tmp_path / "events.jsonl", tmp_path / "lines.jsonl"
    done = program(
        "run", bundles / "finder.bundle", video, "--track", "--then", bundles / "color.bundle", "--then-again", "1",
        "--events", events, "--jsonl", lines, "--video", tmp_path / "seen.mp4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Two seconds: tracks begin at the second frame, and are asked about then and a second later.
    assert "color (color.bundle): asked about 6 crops in 50 frames" in done.stdout
    told = lines_of(events)
    assert [(event["event"], event["crops"], event["tracker_id"]) for event in told] == [
        ("named", "color", number) for number in (1, 2, 3)
    ]
    assert all(item["crops"]["color"] for item in lines_of(lines)[-1]["detections"])
    assert (tmp_path / "seen.mp4").stat().st_size
