"""``--save``: annotated pictures, whole, each under a name of its own; ``--classes`` and ``--class-agnostic``."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import edgebone as package
from edgebone.core.detections import Detections
from edgebone.core.errors import BundleError, OutputError
from edgebone.core.frame import Frame
from edgebone.core.results import RawTensors
from edgebone.sinks.picture_files import PictureFilesSink
from support.bundles import write_boxes_bundle
from support.machine import needs
from support.pictures import BLUE, GREEN, RED, picture, write_video
from support.program import edgebone

NOTHING = RawTensors({})


def frame(path: str | None = None, source: str = "v.mp4", index: int = 0, page: int | None = None) -> Frame:
    return Frame(picture(GREEN), index, 0, source, None, path=path, page=page)


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_pictures_keep_their_names_and_frames_have_their_numbers(tmp_path: Path) -> None:
    sink = PictureFilesSink(tmp_path / "new" / "seen")
    for item in (
        frame("a/cat.png"), frame("b/cat.png"), frame("a/dog.webp"), frame("scan.tiff", page=3), frame(index=12),
        frame(source="usb:0", index=7), frame(source="rtsp://cam.local/stream?***", index=1), frame("a/..png"),
        frame("x" * 250 + ".jpg"),
    ):  # fmt: skip
        sink.write(item, NOTHING)
    sink.close()
    sink.close()
    assert names(tmp_path / "new" / "seen") == sorted([
        "cat.png", "cat-2.png", "dog.jpg", "scan-003.jpg", "v-000012.jpg", "usb-0-000007.jpg",
        "rtsp-cam.local-stream-000001.jpg", "picture.png", "x" * 200 + ".jpg",
    ])  # fmt: skip
    for item in (tmp_path / "new" / "seen").iterdir():
        assert cv2.imread(str(item)).shape == picture(GREEN).shape


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    original = tmp_path / "cat.jpg"
    original.write_bytes(b"the only one")
    for _ in range(2):
        sink = PictureFilesSink(tmp_path)
        sink.write(frame("cat.jpg"), NOTHING)
        sink.discard()
    assert names(tmp_path) == ["cat-2.jpg", "cat-3.jpg", "cat.jpg"]
    assert original.read_bytes() == b"the only one"


def test_a_file_system_without_links_is_written_to_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", link)
    sink = PictureFilesSink(tmp_path)
    sink.write(frame("cat.jpg"), NOTHING)
    sink.write(frame("cat.jpg"), NOTHING)
    sink.close()
    assert names(tmp_path) == ["cat-2.jpg", "cat.jpg"]


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="it is a file; pictures need a folder"):
        PictureFilesSink(tmp_path / "file")
    with pytest.raises(OutputError, match="part of its path is a file; the previous pictures are whole"):
        PictureFilesSink(tmp_path / "file" / "below").write(frame(), NOTHING)


def test_run_saves_pictures_and_frames(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "boxes.bundle", "found")
    Image.fromarray(picture(GREEN)[..., ::-1].copy()).save(tmp_path / "a.png")
    video = write_video(tmp_path / "v.avi", [RED] * 2)
    done = edgebone("run", bundle, tmp_path / "a.png", video, "--save", tmp_path / "seen")
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "seen") == ["a.png", "v-000000.jpg", "v-000001.jpg"]
    drawn = cv2.imread(str(tmp_path / "seen" / "a.png"))
    assert np.abs(drawn.astype(int) - picture(GREEN)).max() > 50
    (tmp_path / "file").touch()
    done = edgebone("run", bundle, tmp_path / "a.png", "--save", tmp_path / "file" / "x", "--sink-error", "log")
    assert done.returncode == 0
    assert "cannot be written" in done.stderr


def test_run_looks_for_some_classes_alone(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "boxes.bundle", "found")
    grey = np.full((48, 64, 3), 200, np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")

    def labels(*options: str) -> list[str]:
        done = edgebone("run", bundle, tmp_path / "a.png", "--json", *options)
        assert done.returncode == 0, done.stderr
        return sorted(box["label"] for box in json.loads(done.stdout)["detections"])

    assert labels() == ["blue", "green", "red"]
    assert labels("--classes", "red,blue") == ["blue", "red"]
    assert labels("--classes", "red", "--classes", "green") == ["green", "red"]
    assert len(labels("--class-agnostic")) == 1
    done = edgebone("run", bundle, tmp_path / "a.png", "--classes", "gren")
    assert (done.returncode, done.stdout) == (3, "")
    assert "there is no class 'gren'; did you mean green?" in done.stderr


@needs("supervision")
def test_zones_that_count_a_class_that_is_not_there_are_refused(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "boxes.bundle", "found")
    video = write_video(tmp_path / "v.avi", [RED] * 2)
    zone = {"name": "shelf", "polygon": [[0, 0], [1, 0], [1, 1]], "labels": ["blu"]}
    (tmp_path / "z.json").write_text(json.dumps({"schema": 1, "zones": [zone]}))
    done = edgebone("run", bundle, video, "--track", "--zones", tmp_path / "z.json")
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        "shelf counts blu, a class that the bundle does not have; did you mean blue? it has blue, green" in done.stderr
    )


def test_a_model_is_loaded_for_some_classes(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "boxes.bundle", "found")
    grey = np.full((48, 64, 3), 200, np.uint8)
    with package.load(bundle, classes=["red"]) as model:
        for found in (model(grey), *(result for _, result in model.stream([grey]))):
            assert isinstance(found, Detections)
            assert found.labels == ("red",)
        assert model(grey, classes=["blue"]).labels == ("blue",)
    with package.load(bundle, class_agnostic=True) as model:
        assert len(model(grey)) == 1


def test_classes_of_a_bundle_without_boxes_are_refused(tmp_path: Path, colors_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"classes choose boxes, and .* has no head that returns any"):
        package.load(colors_bundle, classes=["red"])


@pytest.mark.parametrize("color", [BLUE, RED])
def test_an_empty_choice_of_classes_shows_no_box(tmp_path: Path, color: tuple[int, int, int]) -> None:
    bundle = write_boxes_bundle(tmp_path / "boxes.bundle", "found")
    with package.load(bundle, classes=[]) as model:
        assert len(model(picture(color))) == 0
