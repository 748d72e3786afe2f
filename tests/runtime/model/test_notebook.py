"""What a notebook does with a model and its results."""

from __future__ import annotations

import functools
import http.server
import io
import re
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import edgebone
from edgebone.core.errors import BundleError, EdgeboneError, MissingDependencyError, SourceError, TensorError
from support.bundles import COLORS, write_boxes_bundle
from support.pictures import BLUE, GREEN, RED, picture


@pytest.fixture
def model(colors_bundle: Path) -> Iterator[edgebone.Model]:
    with edgebone.load(colors_bundle, engine="onnxruntime") as model:
        yield model


@pytest.fixture
def detector(tmp_path: Path) -> Iterator[edgebone.Model]:
    with edgebone.load(write_boxes_bundle(tmp_path / "boxes.bundle", "found"), engine="onnxruntime") as model:
        yield model


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), picture(RED))
    return path


RGB = picture(RED)[..., ::-1]
ALPHA = np.full((48, 64, 1), 200, np.uint8)
RED_FORMS: dict[str, Any] = {
    "array": picture(RED),
    "array with alpha": np.concatenate([picture(RED), ALPHA], axis=2),
    "PIL": Image.fromarray(RGB),
    "PIL with alpha": Image.fromarray(np.concatenate([RGB, ALPHA], axis=2)),
    "PIL with a palette": Image.fromarray(RGB).quantize(4),
    "tensor of bytes": torch.from_numpy(RGB.transpose(2, 0, 1).copy()),
    "tensor of shares": torch.from_numpy(RGB.transpose(2, 0, 1) / np.float32(255)),
}


@pytest.mark.parametrize("form", RED_FORMS)
def test_a_picture_may_come_in_any_form(form: str, model: edgebone.Model) -> None:
    assert model(RED_FORMS[form]).label == "red"
    assert [found.label for found in model([RED_FORMS[form], picture(BLUE)])] == ["red", "blue"]


def test_a_file_may_come_as_its_path_its_bytes_or_open(model: edgebone.Model, red: Path) -> None:
    assert model(str(red)).label == model(red).label == model(red.read_bytes()).label == "red"
    assert model(io.BytesIO(red.read_bytes())).label == "red"
    with red.open("rb") as file:
        assert model(file).label == "red"
    with (
        red.open(errors="replace") as text,
        pytest.raises(SourceError, match=r"open a picture's file for reading bytes"),
    ):
        model(text)


def test_a_picture_may_be_behind_an_address(model: edgebone.Model, red: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(red.parent))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{server.server_port}"
        assert model(f"{where}/red.png").label == "red"
        with pytest.raises(SourceError, match=r"/none.png: .*HTTP 404") as caught:
            model(f"http://me:secret@127.0.0.1:{server.server_port}/none.png")
        assert "secret" not in str(caught.value)
        server.shutdown()


def test_an_array_is_what_it_is_said_to_be(model: edgebone.Model) -> None:
    assert model(RGB).label == "blue"
    assert model(RGB, color="rgb").label == "red"
    # Nothing else has a choice.
    assert model(Image.fromarray(RGB), color="rgb").label == "red"
    assert 'arrays are BGR unless color="rgb"' in repr(model)
    with pytest.raises(TensorError, match="bgr or rgb, not 'gbr'"):
        model(RGB, color="gbr")  # type: ignore[arg-type]


def test_grey_is_grey(model: edgebone.Model) -> None:
    grey = np.full((48, 64), 128, np.uint8)
    wanted = model(np.repeat(grey[..., None], 3, axis=2)).probabilities
    for form in (grey, grey[..., None], Image.fromarray(grey), torch.from_numpy(grey)[None]):
        np.testing.assert_array_equal(model(form).probabilities, wanted)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (torch.zeros(2, 3, 8, 8), r"one picture, RGB and channels first.*\[2, 3, 8, 8\]; pass several as a list"),
        (torch.full((3, 8, 8), 2.5), "floats must be a picture of 0 to 1, found 2.5 to 2.5: pass it before"),
        (torch.full((3, 8, 8), float("nan")), "floats must be a picture of 0 to 1"),
        (torch.zeros(3, 8, 8, dtype=torch.int32), "uint8, or floats of 0 to 1, not int32"),
        (object(), "a picture must be a path, a URL, bytes.*not object"),
    ],
)
def test_what_is_no_picture_is_named(what: Any, words: str, model: edgebone.Model) -> None:
    with pytest.raises(TensorError, match=words):
        model(what)


def test_the_model_says_what_it_is(model: edgebone.Model, colors_bundle: Path) -> None:
    assert model.labels == COLORS
    assert repr(model).startswith(
        f"<edgebone.Model {colors_bundle}: classification (4 classes); onnxruntime fp32 (onnxruntime "
    )


def test_a_call_has_its_own_settings(detector: edgebone.Model) -> None:
    everything = detector(picture(GREEN), score=0.0, iou=1.0)
    usual = detector(picture(GREEN))
    assert isinstance(everything, edgebone.Detections)
    assert isinstance(usual, edgebone.Detections)
    assert len(everything) > len(usual) > 0
    least = float(usual.confidence[0])
    few = detector(picture(GREEN), score=least)
    assert (few.confidence >= least).all()  # type: ignore[union-attr]
    label = everything.labels[0]
    only = detector(picture(GREEN), score=0.0, iou=1.0, classes=[label])
    assert only.labels == tuple(item for item in everything.labels if item == label)  # type: ignore[union-attr]
    # The next call has the model's own again.
    assert len(detector(picture(GREEN))) == len(usual)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=f"there is no class '{label[:-1]}'; did you mean {label}"):
        detector(picture(GREEN), classes=[label[:-1]])


def test_a_setting_that_no_head_has_is_refused(model: edgebone.Model) -> None:
    with pytest.raises(BundleError, match="no head of this bundle has the setting score"):
        model(picture(RED), score=0.5)


def test_a_result_draws_itself(detector: edgebone.Model, tmp_path: Path, red: Path) -> None:
    found = detector(Image.fromarray(picture(GREEN)[..., ::-1]))
    drawn = found.draw()  # type: ignore[union-attr]
    assert drawn.size == (64, 48)
    # RGB: what nothing was drawn on is still green.
    colors, counts = np.unique(np.asarray(drawn).reshape(-1, 3), axis=0, return_counts=True)
    assert tuple(colors[counts.argmax()]) == GREEN[::-1]
    assert len(colors) > 1
    found.save(tmp_path / "drawn.jpg")  # type: ignore[union-attr]
    assert cv2.imread(str(tmp_path / "drawn.jpg")).shape == (48, 64, 3)
    # A file is read again; another picture may be given; one of a list knows none.
    assert detector(str(red)).draw().size == (64, 48)  # type: ignore[union-attr]
    assert found.draw(picture(RED, (96, 128))).size == (128, 96)  # type: ignore[union-attr]
    (alone,) = detector([picture(GREEN)])
    with pytest.raises(EdgeboneError, match="does not know its picture"):
        alone.draw()  # type: ignore[union-attr]
    for frame, result in detector.stream([picture(GREEN)]):
        assert result.draw(frame).size == (64, 48)  # type: ignore[union-attr]


def test_a_result_is_a_line_a_table_and_a_page(
    detector: edgebone.Model, model: edgebone.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes, classes = detector(picture(GREEN)), model(picture(RED))
    assert re.fullmatch(r"<Detections: \d .*>", repr(boxes))
    assert repr(classes).startswith("<Classification: red ")
    first = boxes.rows()[0]  # type: ignore[union-attr]
    assert list(first) == ["left", "top", "width", "height", "category_id", "label", "score"]
    assert classes.rows()[0]["label"] == "red"  # type: ignore[union-attr]
    page = boxes._repr_html_()  # type: ignore[union-attr]
    assert '<img src="data:image/jpeg;base64,' in page
    assert f"<td>{first['label']}</td>" in page
    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        boxes.to_df()  # type: ignore[union-attr]
    made: list[Any] = []
    pandas = types.ModuleType("pandas")
    pandas.DataFrame = made.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    boxes.to_df()  # type: ignore[union-attr]
    assert made == [boxes.rows()]  # type: ignore[union-attr]


def test_several_heads_are_shown_together(tmp_path: Path) -> None:
    with edgebone.load(write_boxes_bundle(tmp_path / "both.bundle"), engine="onnxruntime") as both:
        found = both(picture(GREEN))
        assert both.labels == {"found": COLORS[:3], "areas": COLORS[:3]}
    assert isinstance(found, dict)
    assert [(row["head"], row["label"]) for row in found.rows()] == [("found", "green"), ("areas", "green")]  # type: ignore[attr-defined]
    assert found.draw().size == found["areas"].draw().size == (64, 48)  # type: ignore[attr-defined, union-attr]
    assert repr(found).startswith("<HeadResults: found: 1 green")


def test_labels_cannot_write_the_page() -> None:
    hostile = edgebone.Classification(
        np.array([0]), np.array([0.9], np.float32), ("<script>alert(1)</script>",), np.array([0.9], np.float32)
    )
    assert "<script>" not in hostile._repr_html_()
