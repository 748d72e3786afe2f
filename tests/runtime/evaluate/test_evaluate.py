"""Accuracy on labelled pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgebone
from edgebone.core.detections import Detections
from edgebone.core.errors import BundleError, SourceError
from edgebone.core.manifest import Head
from edgebone.core.masks import Masks
from edgebone.core.results import Classification
from edgebone.evaluate.answers import refuse
from edgebone.evaluate.classification import LabelledPicture, evaluate_classifier, read_labels
from edgebone.evaluate.evaluation_set import read_evaluation
from edgebone.evaluate.heads import choose_head, evaluation_of
from edgebone.evaluate.pictures import read_rows
from edgebone.evaluate.rehearsal import Rehearsal
from edgebone.tasks.instances import INSTANCES
from support.bundles import COLORS, write_boxes_bundle, write_colors_bundle
from support.pictures import BLUE, GREEN, RED, picture
from support.program import edgebone as program


def save(path: Path, color: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(color)[..., ::-1].copy()).save(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, color in (("b", BLUE), ("g", GREEN), ("r", RED), ("sub dir/r2 ☂", RED)):
        save(tmp_path / f"{name}.png", color)
    (tmp_path / "labels.csv").write_text(
        "wnid,file,class_index\nx,b.png,0\nx,g.png,1\nx,r.png,1\nx,sub dir/r2 ☂.png, 2 \n"
    )
    return tmp_path / "labels.csv"


@pytest.mark.parametrize("batch", [(1, 1), (1, 4), (3, 3)])
def test_top_1_counts_what_the_network_sees(data: Path, tmp_path: Path, batch: tuple[int, int]) -> None:
    done: list[int] = []
    with edgebone.load(write_colors_bundle(tmp_path / "a.bundle", batch)) as model:
        accuracy = evaluate_classifier(model, "classification", read_labels(data, COLORS), done.append)
    assert (accuracy.top1, accuracy.top5, accuracy.n) == (75.0, 100.0, 4)
    assert done[-1] == 4


def test_top_1_and_top_5_are_those_of_the_true_class(colors_bundle: Path) -> None:
    class Fixed:
        max_batch = 2
        manifest = edgebone.load(colors_bundle).manifest

        def __call__(self, pictures: list[Path]) -> list[Classification]:
            p = np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.02], np.float32)
            return [Classification(np.arange(1), p[:1], ("a",), p) for _ in pictures]

    labelled: Any = [LabelledPicture(Path("x"), index) for index in (0, 1, 4, 5, 6)]
    model: Any = Fixed()
    found = evaluate_classifier(model, "classification", labelled)
    assert (found.top1, found.top5, found.n) == (20.0, 60.0, 5)


def test_a_network_that_finds_all_classes_alike_is_not_called_right(colors_bundle: Path) -> None:

    class Silent:
        max_batch = 1
        manifest = edgebone.load(colors_bundle).manifest

        def __call__(self, pictures: list[Path]) -> list[Classification]:
            p = np.full(40, 0.25, np.float32)
            return [Classification(np.arange(1), p[:1], ("a",), p) for _ in pictures]

    labelled: Any = [LabelledPicture(Path("x"), index) for index in range(40)]
    model: Any = Silent()
    found = evaluate_classifier(model, "classification", labelled)
    assert found.top1 <= 100 / 40
    assert found.top5 <= 500 / 40


def test_a_csv_may_come_from_a_spreadsheet(data: Path) -> None:
    text = data.read_text()
    data.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert [item.class_index for item in read_labels(data, COLORS)] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no labelled pictures"),
        ("file,class_index\n", "no labelled pictures"),
        ("name,label\nb.png,0\n", "needs the columns file and class_index, has name, label"),
        ("name,label\nb.png,0,1,2\n", "needs the columns file and class_index, has name, label"),
        ("file,class_index\nb.png,4\n", "line 2: class_index '4' is not 0 to 3"),
        ("file,class_index\nb.png,-1\n", "line 2: class_index '-1'"),
        ("file,class_index\nb.png,1.0\n", "line 2: class_index '1.0'"),
        ("file,class_index\nb.png,²\n", "line 2: class_index '²'"),
        ("file,class_index\nb.png,\n", "line 2: class_index ''"),
        ("file,class_index\nb.png\n", "line 2: class_index ''"),
        ("file,class_index\nb.png,0\nmissing.png,0\n", r"line 3: no such picture: .*missing\.png"),
        ("file,class_index\n,0\n", "line 2: no such picture"),
        ("file,class_index\n{long},0\n".replace("{long}", "x" * 5000), "line 2: no such picture"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_with_its_line(data: Path, text: str, words: str) -> None:
    data.write_text(text)
    with pytest.raises(SourceError, match=words) as caught:
        read_labels(data, COLORS)
    assert str(data) in str(caught.value)


def test_a_csv_that_is_no_text_is_refused(data: Path) -> None:
    data.write_bytes(b"file,class_index\n\xff\xfe\n")
    with pytest.raises(SourceError, match="not a CSV in UTF-8"):
        read_labels(data, COLORS)
    with pytest.raises(SourceError, match="no such file"):
        read_labels(data.with_name("other.csv"), COLORS)


def test_rows_of_a_file_that_is_not_there_are_not_blamed_on_its_encoding(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"rows\.csv: cannot be read: no such file or directory$"):
        read_rows(tmp_path / "rows.csv")


def test_a_folder_of_class_folders_goes_by_label_or_index(tmp_path: Path, colors_bundle: Path) -> None:
    save(tmp_path / "blue" / "1.png", BLUE)
    save(tmp_path / "1" / "deep" / "1.jpg", GREEN)
    save(tmp_path / "traffic light ☂ 2" / "1.png", RED)
    (tmp_path / "blue" / "notes.txt").write_text("x")
    found = read_labels(tmp_path, COLORS)
    assert sorted(item.class_index for item in found) == [0, 1, 3]
    with edgebone.load(colors_bundle) as model:
        assert evaluate_classifier(model, "classification", found).top1 == pytest.approx(66.667)


@pytest.mark.parametrize("name", ["yellow", "9", "²", "-1", "Blue"])
def test_a_folder_of_an_unknown_class_is_named(tmp_path: Path, name: str) -> None:
    save(tmp_path / name / "1.png", BLUE)
    with pytest.raises(SourceError, match="neither a label of exactly one class"):
        read_labels(tmp_path, COLORS)


def test_a_label_that_two_classes_have_is_not_guessed(tmp_path: Path) -> None:
    save(tmp_path / "crane" / "1.png", BLUE)
    with pytest.raises(SourceError, match="'crane' is neither a label of exactly one class"):
        read_labels(tmp_path, ("crane", "heron", "crane"))


def test_the_head_that_can_be_evaluated_is_chosen() -> None:
    embedding, classes = Head("embedding@1", ("x",)), Head("classification@1", ("x",))
    boxes, areas = Head("boxes@1", ("y",)), Head("segmentation@1", ("z",))
    with pytest.raises(BundleError, match=r"or classes, the bundle has e: embedding@1; .*COCO's mAP"):
        choose_head({"e": embedding})
    with pytest.raises(BundleError, match=r"the bundle has 2 \(a: classification@1, b: boxes@1\).*--head"):
        choose_head({"a": classes, "b": boxes})
    with pytest.raises(BundleError, match=r"evaluation needs a head with .* or classes, which e is not"):
        choose_head({"e": embedding, "a": classes}, "e")
    with pytest.raises(BundleError, match=r"there is no head aa; did you mean a"):
        choose_head({"aaa": classes, "b": boxes}, "aa")
    assert choose_head({"e": embedding, "a": classes})[0] == "a"
    assert choose_head({"a": classes, "b": boxes}, "b")[0] == "b"
    assert choose_head({"e": embedding, "c": areas})[0] == "c"


# --- boxes


def annotated(folder: Path, **changes: object) -> Path:
    """Three pictures of one colour each, and what is in them as COCO writes it: the whole picture."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, color in enumerate((BLUE, GREEN, RED), start=1):
        save(folder / "images" / f"{number}.png", color)
        images.append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 64})
        row = {"id": number, "image_id": number, "category_id": 10 * number, "bbox": [0, 0, 64, 48]}
        annotations.append({**row, "area": 64 * 48, "iscrowd": 0})
    categories = [{"id": 10, "name": "blue"}, {"id": 20, "name": "green"}, {"id": 30, "name": "red"}]
    content = {"images": images, "annotations": annotations, "categories": categories, **changes}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_average_precision_is_cocos(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "b", "found")
    done = program("eval", bundle, "--data", annotated(tmp_path / "right"), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["AP"], found["AP50"], found["AP75"], found["AR1"]) == (1, 1, 1, 1)
    assert found["APs"] == -1  # there are no small objects
    assert (found["n"], found["engine"], found["precision"]) == (3, "openvino", "fp32")
    # Half of the picture: found, but with an IoU of a half.
    half = annotated(tmp_path / "half")
    content = json.loads(half.read_text())
    for row in content["annotations"]:
        row["bbox"] = [0, 0, 64, 25]
    half.write_text(json.dumps(content))
    done = program("eval", bundle, "--data", half, "--json")
    assert json.loads(done.stdout)["AP50"] == 1
    assert json.loads(done.stdout)["AP75"] == 0
    text = program("eval", bundle, "--data", half).stdout
    assert text.startswith("AP 0.100, AP50 1.000, AP75 0.000 on 3 pictures (openvino fp32)")


def test_boxes_below_the_bundles_own_score_are_counted_down_to_a_hundredth(tmp_path: Path) -> None:
    data = annotated(tmp_path)
    content = json.loads(data.read_text())
    # The other colours are found with a score of 0.02 to 0.04, far below the bundle's 0.3.
    content["annotations"] += [
        {**row, "id": 10 + row["id"], "category_id": 10 if row["category_id"] == 30 else 30}
        for row in content["annotations"]
        if row["category_id"] != 20
    ]
    data.write_text(json.dumps(content))
    done = program("eval", write_boxes_bundle(tmp_path / "b", "found"), "--data", data, "--json")
    assert json.loads(done.stdout)["AR10"] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"categories": [{"id": 10, "name": "cyan"}]},
            "annotates classes that are not labels of the bundle: 20, 30",
        ),
        ({"images": [{"id": 1, "file_name": "gone.png"}]}, "1 of its pictures are missing, such as"),
        ({"images": []}, "it lists no pictures; say where they are with --images"),
        ({"annotations": [{"image_id": 1}]}, "not COCO's annotations"),
    ],
)
def test_annotations_that_do_not_fit_are_exit_code_4(tmp_path: Path, change: dict[str, object], words: str) -> None:
    done = program("eval", write_boxes_bundle(tmp_path / "b", "found"), "--data", annotated(tmp_path, **change))
    assert done.returncode == 4
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_pictures_may_lie_elsewhere(tmp_path: Path) -> None:
    data = annotated(tmp_path)
    (tmp_path / "images").rename(tmp_path / "photos")
    bundle = write_boxes_bundle(tmp_path / "b", "found")
    assert program("eval", bundle, "--data", data).returncode == 4
    assert program("eval", bundle, "--data", data, "--images", tmp_path / "photos").returncode == 0
    assert program("eval", bundle, "--data", tmp_path / "nowhere.json").returncode == 4


# --- areas


def masked(folder: Path, *masks: np.ndarray, mode: str = "L") -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(masks):
        save(folder / "images" / f"{number}.png", (BLUE, GREEN, RED)[number % 3])
        Image.fromarray(mask).convert(mode).save(folder / "masks" / f"{number}.png")
    return folder


def test_mean_iou_is_over_all_pixels_and_leaves_out_what_is_not_counted(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "b", "areas")
    blue = np.zeros((48, 64), np.uint8)
    green = np.ones((48, 64), np.uint8)
    green[:, :16] = 0  # a quarter is said to be blue, and found to be green
    blue[:24] = 255
    blue[0, 0] = 255
    done = program("eval", bundle, "--data", masked(tmp_path / "d", blue, green), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    both_blue, said_blue = 24 * 64, 24 * 64 + 48 * 16
    assert found["IoU"]["blue"] == pytest.approx(both_blue / said_blue, abs=1e-6)
    assert found["IoU"]["green"] == pytest.approx(0.75, abs=1e-6)
    assert "red" not in found["IoU"]
    assert found["mIoU"] == pytest.approx((found["IoU"]["blue"] + 0.75) / 2, abs=1e-6)
    assert found["n"] == 2
    assert program("eval", bundle, "--data", tmp_path / "d").stdout.startswith("mIoU 0.7")


@pytest.mark.parametrize(
    ("mask", "mode", "words"),
    [
        (np.full((48, 64), 7, np.uint8), "L", "it holds class 7, the bundle has 3 labels"),
        (np.zeros((20, 20), np.uint8), "L", "the mask is 20x20, its picture, upright, 64x48"),
        (np.zeros((48, 64), np.uint8), "RGB", "a mask must have one channel or a palette, this is RGB"),
    ],
)
def test_masks_that_do_not_fit_are_exit_code_4(tmp_path: Path, mask: np.ndarray, mode: str, words: str) -> None:
    data = masked(tmp_path / "d", mask, mode=mode)
    done = program("eval", write_boxes_bundle(tmp_path / "b", "areas"), "--data", data)
    assert done.returncode == 4
    assert words in done.stderr


def test_masks_without_pictures_are_exit_code_4(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "b", "areas")
    data = masked(tmp_path / "d", np.zeros((48, 64), np.uint8))
    (data / "images" / "0.png").rename(data / "images" / "1.png")
    assert "there is no picture of that name" in program("eval", bundle, "--data", data).stderr
    (data / "masks" / "0.png").write_bytes(b"no picture")
    (data / "images" / "1.png").rename(data / "images" / "0.png")
    assert "not a picture in a supported format" in program("eval", bundle, "--data", data).stderr
    (data / "masks" / "0.png").unlink()
    assert "no masks (.png) in it" in program("eval", bundle, "--data", data).stderr
    assert "no such folder of pictures" in program("eval", bundle, "--data", tmp_path / "b").stderr


def test_one_of_several_heads_is_evaluated_when_named(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "b")
    data = annotated(tmp_path)
    done = program("eval", bundle, "--data", data)
    assert done.returncode == 3
    assert "name one with --head" in done.stderr
    assert program("eval", bundle, "--data", data, "--head", "found").returncode == 0
    done = program("eval", bundle, "--data", masked(tmp_path / "d", np.zeros((48, 64), np.uint8)), "--head", "areas")
    assert done.stdout.startswith("mIoU 1.000, pixel accuracy 1.000 on 1 pictures")


@pytest.mark.parametrize(
    "head",
    [
        Head("multilabel@1", ("logits",), COLORS),
        Head("regression@1", ("logits",), (), {"names": ["blue", "green", "red", "other"]}),
    ],
    ids=["multilabel", "regression"],
)
def test_a_rehearsal_compares_several_labels_and_numbers(data: Path, tmp_path: Path, head: Head) -> None:
    bundle = write_colors_bundle(tmp_path / "b", heads={"own": head})
    with edgebone.load(bundle, engine="onnxruntime") as model:
        rehearsal = Rehearsal(model.manifest, read_evaluation(data.parent, model.manifest), model.engine)
        assert rehearsal.baseline.agreement == pytest.approx(100)
        assert rehearsal.score(_Opposite(model.engine)).agreement < 50


class _Opposite:
    """An engine that gives the opposite of another's answers."""

    def __init__(self, engine: Any) -> None:
        self.inputs = engine.inputs
        self._engine = engine

    def run(self, feeds: Any) -> dict[str, Any]:
        return {name: -values for name, values in self._engine.run(feeds).items()}


# --- masks


def test_average_precision_of_masks_is_cocos(tmp_path: Path) -> None:
    data = annotated(tmp_path)
    head = Head("instances@1", ("x", "y"), COLORS[:3])
    with pytest.raises(SourceError, match="3 of 3 annotations have no segmentation"):
        evaluation_of(INSTANCES).read("found", head, data, None)
    content = json.loads(data.read_text())
    for row in content["annotations"]:
        row["segmentation"] = [[0, 0, 64, 0, 64, 48, 0, 48]]
    data.write_text(json.dumps(content))

    class Fixed:
        """Finds each picture's colour: of 48 rows the upper 32, which is an IoU of two thirds."""

        max_batch = 1

        def __call__(self, pictures: list[Path]) -> list[Detections]:
            found = []
            for path in pictures:
                place = np.array([[0, 0, 64, 32]])
                masks = Masks((np.ones((1, 1), np.float32),), place.astype(np.float64), place, 0.5, (48, 64))
                whole = np.float32([[0, 0, 64, 48]])
                class_id = np.array([int(path.stem) - 1])
                found.append(Detections(whole, np.float32([0.9]), class_id, mask=masks))
            return found

    model: Any = Fixed()
    figures = evaluation_of(INSTANCES).read("found", head, data, None).count(model, lambda _: None, refuse).record
    # Right from 0.50 to 0.65, four of ten thresholds; by the boxes alone it would be all.
    assert (figures["AP"], figures["AP50"], figures["AP75"], figures["n"]) == (pytest.approx(0.4), 1, 0, 3)
