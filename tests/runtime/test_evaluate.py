"""Accuracy on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BLUE, COLORS, GREEN, RED, picture, write_colors_bundle
from PIL import Image

import edgebone
from edgebone.core.errors import BundleError, SourceError
from edgebone.core.manifest import Head
from edgebone.core.results import Classification
from edgebone.evaluate.classification import LabelledPicture, evaluate_classifier, read_labels
from edgebone.evaluate.heads import choose_head


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
    with pytest.raises(SourceError, match="neither a label of the bundle"):
        read_labels(tmp_path, COLORS)


def test_a_label_that_two_classes_have_is_not_guessed(tmp_path: Path) -> None:
    save(tmp_path / "crane" / "1.png", BLUE)
    with pytest.raises(SourceError, match="'crane' is neither a label of the bundle that only one class has"):
        read_labels(tmp_path, ("crane", "heron", "crane"))


def test_the_head_that_can_be_evaluated_is_chosen() -> None:
    embedding, classes = Head("embedding@1", ("x",)), Head("classification@1", ("x",))
    boxes, areas = Head("boxes@1", ("y",)), Head("segmentation@1", ("z",))
    with pytest.raises(BundleError, match=r"0 heads.*e: embedding@1.*COCO's mAP"):
        choose_head({"e": embedding})
    with pytest.raises(BundleError, match=r"2 heads.*--head"):
        choose_head({"a": classes, "b": boxes})
    with pytest.raises(BundleError, match=r"no head e that can be evaluated"):
        choose_head({"e": embedding, "a": classes}, "e")
    assert choose_head({"e": embedding, "a": classes}) == ("classification", "a", classes)
    assert choose_head({"a": classes, "b": boxes}, "b") == ("detection", "b", boxes)
    assert choose_head({"e": embedding, "c": areas}) == ("segmentation", "c", areas)
