"""A bundle's answers as training data."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import edgebone
from edgebone.core.detections import Detections
from edgebone.core.errors import BundleError, OutputError, SourceError
from edgebone.core.manifest import Head
from edgebone.core.masks import Masks
from edgebone.labelling import Boxes, label
from support.bundles import COLORS, write_boxes_bundle, write_colors_bundle
from support.camera_servers import mjpeg_server
from support.pictures import BLUE, GREEN, RED, picture, write_video
from support.program import edgebone as program

LABELS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes_bundle(tmp_path_factory.mktemp("label") / "teacher.bundle")


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Three good pictures, two of one name, and a damaged one."""
    folder = tmp_path / "shots"
    (folder / "sub").mkdir(parents=True)
    halves = np.concatenate([picture(BLUE), picture(RED)], axis=1)
    cv2.imwrite(str(folder / "a.png"), halves)
    cv2.imwrite(str(folder / "c.png"), picture(GREEN))
    cv2.imwrite(str(folder / "sub" / "a.png"), picture(RED))
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:60])
    return folder


def test_masks_of_a_folder_are_what_eval_reads(teacher: Path, shots: Path, tmp_path: Path) -> None:
    made = program("label", teacher, shots, "-o", tmp_path / "data", "--head", "areas")
    assert made.returncode == 0, made.stderr
    assert "3 pictures with segmentation by areas" in made.stdout
    assert "blue in 1, red in 2, green in 1; 1 could not be read" in made.stdout
    assert "b.png" in made.stderr
    data = tmp_path / "data"
    assert left_behind(data) == ["images", "labels.txt", "masks"]
    assert (data / "labels.txt").read_text().splitlines() == list(LABELS)
    assert left_behind(data / "images") == left_behind(data / "masks") == ["a-2.png", "a.png", "c.png"]
    mask = np.asarray(Image.open(data / "masks" / "a.png"))
    assert mask.shape == (48, 128)
    assert (mask[:, :60] == 0).all() and (mask[:, 68:] == 2).all()
    counted = program("eval", teacher, "--data", data, "--head", "areas", "--json")
    assert json.loads(counted.stdout)["mIoU"] == 1.0


def test_what_a_killed_run_left_is_cleared_up_by_the_next_one(teacher: Path, shots: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    killed = """
        import os, sys
        import edgebone
        from edgebone.labelling import label
        with edgebone.load(sys.argv[1]) as model:
            label(model, sys.argv[2], sys.argv[3], head="areas", progress=lambda *_: os.kill(os.getpid(), 9))
    """
    own.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(killed), str(teacher), str(shots), str(own / "data")]
    subprocess.run(command, check=False)
    (left,) = left_behind(own)
    assert left.startswith(".data.")
    with edgebone.load(teacher) as model:
        label(model, str(shots), own / "data", head="areas")
    assert left_behind(own) == ["data"]


def test_frames_of_a_video_are_picked_by_time(teacher: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "road.avi", [BLUE] * 4 + [GREEN] * 4 + [RED] * 4)
    with edgebone.load(teacher) as model:
        early = label(model, str(video), tmp_path / "early", head="areas", every=3, most=2)
        late = label(model, str(video), tmp_path / "late", head="areas", every=3, skip=5)
    assert left_behind(tmp_path / "early" / "images") == ["road_000000.png", "road_000003.png"]
    assert left_behind(tmp_path / "late" / "masks") == ["road_000005.png", "road_000008.png", "road_000011.png"]
    assert (early.pictures, early.found) == (2, {"blue": 2})
    assert (late.pictures, late.found) == (3, {"green": 1, "red": 2})


def test_boxes_are_cocos_and_eval_finds_them_all(teacher: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "road.avi", [BLUE, RED, GREEN])
    made = program("label", teacher, video, "-o", tmp_path / "data", "--head", "found", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["report"]["found"] == {"blue": 1, "red": 1, "green": 1}
    whole = json.loads((tmp_path / "data" / "instances.json").read_text())
    assert [item["name"] for item in whole["categories"]] == list(LABELS)
    assert [item["category_id"] for item in whole["annotations"]] == [1, 3, 2]
    assert whole["annotations"][0]["bbox"] == [0, 0, 64, 48]
    pytest.importorskip("faster_coco_eval")
    counted = program("eval", teacher, "--data", tmp_path / "data" / "instances.json", "--head", "found", "--json")
    assert json.loads(counted.stdout)["AP"] == 1.0


def test_boxes_below_a_score_are_no_labels(teacher: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture((250, 180, 5)))
    for score, classes in (("0.5", {"blue", "green"}), ("0.8", {"blue"})):
        out = tmp_path / f"data {score}"
        made = program("label", teacher, tmp_path / "a.png", "-o", out, "--head", "found", "--score", score, "--json")
        assert set(json.loads(made.stdout)["report"]["found"]) == classes


def test_classes_are_rows_and_what_is_undecided_is_left_out(tmp_path: Path) -> None:
    sure = {"activation": "softmax", "top_k": 1, "abstain_below": 0.9}
    head = Head("classification@1", ("logits",), COLORS, sure)
    bundle = write_colors_bundle(tmp_path / "colors.bundle", heads={"classification": head})
    (tmp_path / "shots").mkdir()
    for name, color in (("b", BLUE), ("g", GREEN), ("grey", (120, 120, 120))):
        cv2.imwrite(str(tmp_path / "shots" / f"{name}.png"), picture(color))
    made = program("label", bundle, tmp_path / "shots", "-o", tmp_path / "data")
    assert made.returncode == 0, made.stderr
    assert "2 pictures with classification" in made.stdout and "1 undecided" in made.stdout
    with (tmp_path / "data" / "labels.csv").open(newline="") as file:
        rows = [(row["file"], row["label"], row["class_index"]) for row in csv.DictReader(file)]
    assert rows == [("images/b.png", "blue", "0"), ("images/g.png", "green", "1")]
    counted = program("eval", bundle, "--data", tmp_path / "data" / "labels.csv", "--json")
    assert json.loads(counted.stdout)["top1"] == 100.0


@pytest.mark.parametrize("sure", [{}, {"abstain_below": 0.9}])
def test_of_two_classes_with_one_name_the_one_that_was_seen_is_written(tmp_path: Path, sure: dict[str, float]) -> None:
    labels = ("thing", "thing", "red", "other")
    head = Head("classification@1", ("logits",), labels, {"activation": "softmax", "top_k": 3, **sure})
    bundle = write_colors_bundle(tmp_path / "colors.bundle", heads={"classification": head})
    (tmp_path / "shots").mkdir()
    for name, color in (("b", BLUE), ("g", GREEN), ("r", RED), ("grey", (120, 120, 120))):
        cv2.imwrite(str(tmp_path / "shots" / f"{name}.png"), picture(color))
    with edgebone.load(bundle) as model:
        made = label(model, str(tmp_path / "shots"), tmp_path / "data")
    with (tmp_path / "data" / "labels.csv").open(newline="") as file:
        rows = [(row["file"], row["label"], row["class_index"]) for row in csv.DictReader(file)]
    assert rows[:2] == [("images/b.png", "thing", "0"), ("images/g.png", "thing", "1")]
    assert ("images/r.png", "red", "2") in rows
    assert made.undecided == len(sure)


@pytest.mark.parametrize("head", ["found", "areas", "classification"])
def test_names_that_are_not_utf8_are_written_as_ones_that_are(teacher: Path, tmp_path: Path, head: str) -> None:
    shots = tmp_path / os.fsdecode(b"\xe9t\xe9")
    shots.mkdir()
    for name, color in ((b"caf\xe9", BLUE), (b"caf\xe8", RED)):
        content = cv2.imencode(".png", picture(color))[1].tobytes()
        (shots / os.fsdecode(name + b".png")).write_bytes(content)
    (shots / os.fsdecode(b"bad\xe9.png")).write_bytes(content[:60])
    bundle = write_colors_bundle(tmp_path / "colors.bundle") if head == "classification" else teacher
    made = program("label", bundle, shots, "-o", shots / "data", "--head", head, "--json")
    assert made.returncode == 0, made.stderr
    said = json.loads(made.stdout)
    assert said["path"] == f"{tmp_path}/�t�/data"
    assert list(said["report"]["unreadable"]) == [f"{tmp_path}/�t�/bad�.png"]
    data = shots / "data"
    assert left_behind(data / "images") == ["caf�-2.png", "caf�.png"]
    if head == "areas":
        assert left_behind(data / "masks") == left_behind(data / "images")
        return
    kept = data / ("instances.json" if head == "found" else "labels.csv")
    assert "caf�-2.png" in kept.read_text(encoding="utf-8")
    if head == "found":
        pytest.importorskip("faster_coco_eval")
    counted = program("eval", bundle, "--data", kept, "--head", head, "--json")
    assert counted.returncode == 0, counted.stderr


def test_a_recording_that_breaks_off_gives_what_came_before(teacher: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.avi", [BLUE] * 40)
    content = whole.read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) // 2])
    made = program("label", teacher, tmp_path / "cut.avi", "-o", tmp_path / "data", "--head", "areas")
    assert made.returncode == 0, made.stderr
    assert 5 < len(left_behind(tmp_path / "data" / "images")) < 40


@pytest.mark.parametrize(
    ("source", "options", "said", "code"),
    [
        ("good.png", [], "or classes, the bundle has 2 (found: boxes@1", 3),
        ("good.png", ["--head", "none"], "there is no head none; the bundle has found: boxes@1, areas", 3),
        ("bad.png", ["--head", "areas"], "nothing to label", 4),
        ("absent.mp4", ["--head", "areas"], "absent.mp4", 4),
        ("synthetic://64x48@30", ["--head", "areas"], "a camera has no end", 4),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    teacher: Path, tmp_path: Path, source: str, options: list[str], said: str, code: int
) -> None:
    cv2.imwrite(str(tmp_path / "good.png"), picture(RED))
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    before = left_behind(tmp_path)
    given = source if "://" in source else tmp_path / source
    made = program("label", teacher, given, "-o", tmp_path / "data", *options)
    assert made.returncode == code
    assert said in made.stderr and len(made.stderr.splitlines()) == 1
    assert left_behind(tmp_path) == before


def test_a_camera_gives_as_many_as_are_asked_for(teacher: Path, tmp_path: Path) -> None:
    with edgebone.load(teacher) as model:
        made = label(model, "synthetic://64x48@60", tmp_path / "data", head="areas", most=3)
    assert made.pictures == 3
    assert len(left_behind(tmp_path / "data" / "masks")) == 3


def test_damaged_frames_of_a_camera_are_left_out_and_counted(teacher: Path, tmp_path: Path) -> None:
    good = cv2.imencode(".jpg", picture(RED))[1].tobytes()
    with mjpeg_server([good, b"no picture", good, good[:200]]) as url:
        made = program("label", teacher, url, "-o", tmp_path / "data", "--head", "areas", "--pictures", 5, "--json")
        assert made.returncode == 0, made.stderr
        report = json.loads(made.stdout)["report"]
        assert (report["pictures"], report["unreadable"]) == (5, {})
        assert 3 <= report["damaged"] <= 20
        assert made.stderr.count("damaged") == 1
        text = program("label", teacher, url, "-o", tmp_path / "more", "--head", "areas", "--pictures", 5).stdout
    assert "5 pictures with segmentation" in text and " frames were damaged" in text
    assert len(left_behind(tmp_path / "data" / "masks")) == 5


def test_a_folder_that_is_there_is_not_touched(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    cv2.imwrite(str(tmp_path / "good.png"), picture(RED))
    with edgebone.load(teacher) as model, pytest.raises(OutputError, match="exists"):
        label(model, str(tmp_path / "good.png"), tmp_path / "data", head="areas")
    assert left_behind(tmp_path / "data") == []


def test_an_interruption_leaves_nothing(teacher: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "road.avi", [BLUE] * 5)

    def stop(done: int, total: int | None) -> None:
        assert total == 5
        if done == 2:
            raise KeyboardInterrupt

    with edgebone.load(teacher) as model, pytest.raises(KeyboardInterrupt):
        label(model, str(video), tmp_path / "data", head="areas", progress=stop)
    assert left_behind(tmp_path) == ["road.avi"]


def test_a_head_that_only_describes_cannot_label(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "c.bundle", heads={"vector": Head("embedding@1", ("logits",))})
    cv2.imwrite(str(tmp_path / "good.png"), picture(RED))
    with edgebone.load(bundle) as model:
        with pytest.raises(BundleError, match=r"labelling needs a head with areas, .* or classes, the bundle has v"):
            label(model, str(tmp_path / "good.png"), tmp_path / "data", head="vector")
        with pytest.raises(BundleError, match=r"labelling needs a head with areas, .* or classes"):
            label(model, str(tmp_path / "good.png"), tmp_path / "data")
    with edgebone.load(write_boxes_bundle(tmp_path / "b.bundle", "areas")) as model, pytest.raises(SourceError):
        label(model, str(tmp_path / "absent.png"), tmp_path / "data")


def test_areas_of_objects_are_written_as_run_lengths(tmp_path: Path) -> None:
    api = pytest.importorskip("faster_coco_eval.core.mask")
    place = np.array([[2, 1, 6, 5], [0, 0, 3, 2]])
    masks = Masks(tuple(np.ones((2, 1, 1), np.float32)), place.astype(np.float64), place, 0.5, (8, 10))
    xyxy = place.astype(np.float32)
    found = Detections(xyxy, np.float32([0.9, 0.8]), np.array([1, 0]), mask=masks)
    writer = Boxes(tmp_path, LABELS)
    writer.add("empty", (8, 10), Detections.empty())
    assert writer.add("one", (8, 10), found) == [0, 1]
    writer.close()
    rows = json.loads((tmp_path / "instances.json").read_text())["annotations"]
    assert [row["area"] for row in rows] == [16, 6]
    for row, wanted in zip(rows, masks.full(), strict=True):
        np.testing.assert_array_equal(api.decode(row["segmentation"]), wanted)
