"""``edgebone fit`` for heads on maps: masks, boxes and normal pictures become bundles, by the command."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgebone
from edgebone.core.errors import EdgeboneError
from edgebone_export.heads.fit.fit import fit
from edgebone_export.heads.fit.work import Settings
from support.networks import classifier, write_network
from support.program import edgebone as program

# No test finds what another one kept.
pytestmark = pytest.mark.usefixtures("own_cache")
SIZE = 64


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("dense") / "net.bundle", classifier(batch="batch"), (1, 4))


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int]]:
    """A dark picture with a bright red square, its mask, and its box as left, top, width, height."""
    rng = np.random.default_rng(seed)
    left, top = rng.integers(4, 28, 2).tolist()
    picture = rng.integers(20, 60, (SIZE, SIZE, 3)).astype(np.uint8)
    picture[top : top + 30, left : left + 30] = (30, 30, 240)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[top : top + 30, left : left + 30] = 1
    return picture, mask, (left, top, 30, 30)


def write_drawn(folder: Path, count: int, seed: int = 0) -> Path:
    """Pictures with masks and COCO's annotations beside them."""
    images, annotations = [], []
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        picture, mask, box = draw(seed + number)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), picture)
        cv2.imwrite(str(folder / "masks" / f"{number}.png"), mask)
        images.append({"id": number, "file_name": f"{number}.png"})
        annotations.append({"id": number, "image_id": number, "category_id": 3, "bbox": box})
    categories = [{"id": 3, "name": "square"}]
    text = json.dumps({"images": images, "categories": categories, "annotations": annotations})
    (folder / "instances.json").write_text(text)
    (folder / "labels.txt").write_text("ground\nsquare\n")
    return folder


@pytest.mark.slow
def test_masks_become_a_head_that_finds_the_area(bundle: Path, tmp_path: Path) -> None:
    data, out = write_drawn(tmp_path / "data", 16), tmp_path / "out.bundle"
    done = program(
        "fit", bundle, "--data", data, "--kind", "segmentation", "--views", 2, "--epochs", 12, "--output-stride", 2,
        "-o", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "held out: mIoU" in done.stdout
    assert "square: IoU" in done.stdout
    assert "validation, on which the epoch was chosen: mIoU" in done.stdout
    picture, mask, _ = draw(99)
    with edgebone.load(out) as model:
        found = model(picture).class_id
    assert (found == mask).mean() > 0.9


@pytest.mark.slow
def test_boxes_become_a_head_that_finds_them(bundle: Path, tmp_path: Path) -> None:
    data, val, out = write_drawn(tmp_path / "data", 24), write_drawn(tmp_path / "val", 4, 50), tmp_path / "out.bundle"
    pictures = (val / "images").rename(tmp_path / "elsewhere")
    done = program(
        "fit", bundle, "--data", data / "instances.json", "--val", val, "--val-images", pictures, "--kind", "detection",
        "--epochs", 40, "--views", 2, "-o", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "held out: AP" in done.stdout
    picture, _, (left, top, width, height) = draw(99)
    with edgebone.load(out, score=0.3) as model:
        found = model(picture)
    assert np.abs(found.xyxy[0] - (left, top, left + width, top + height)).max() < 8
    assert found.data["class_name"][0] == "square"


@pytest.mark.slow
def test_normal_pictures_become_a_head_that_finds_odd_ones(bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, count in (("normal", 40), ("odd", 6)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            picture = rng.integers(90, 130, (SIZE, SIZE, 3)).astype(np.uint8)
            if folder == "odd":
                picture[20:40, 20:40] = (0, 0, 255)
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), picture)
    (tmp_path / "normal" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "odd" / "normal-0.png").write_bytes((tmp_path / "normal" / "0.png").read_bytes())
    out = tmp_path / "out.bundle"
    done = program(
        "fit", bundle, "--data", tmp_path / "normal", "--kind", "anomaly", "--anomalous", tmp_path / "odd", "-o", out
    )
    assert done.returncode == 0, done.stderr
    assert "anomalous pictures: 100.0 %" in done.stdout
    assert "broken.png" in done.stderr
    assert "normal-0.png" in done.stderr
    with edgebone.load(out) as model:
        assert model(tmp_path / "odd" / "0.png").score > model(tmp_path / "normal" / "0.png").score


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        ("no names", Settings("segmentation"), "expected a labels.txt"),
        ("no picture", Settings("segmentation"), "no picture of that name"),
        ("class", Settings("segmentation"), "holds class 7"),
        ("json", Settings("detection"), "not COCO annotations"),
        ("case", Settings("segmentation"), "labels differ only in case: Ground and ground"),
        ("categories", Settings("detection"), "labels differ only in case: Square and square"),
        ("", Settings("segmentation", views=3), "1 to 2 views"),
        ("", Settings("segmentation", read="features_s4:avg"), "reads whole maps"),
        ("", Settings("anomaly", hold_out=0.01), "would be held out"),
    ],
)
def test_data_that_no_head_on_maps_can_be_fitted_on_is_refused(
    bundle: Path, tmp_path: Path, change: str, settings: Settings, said: str
) -> None:
    data = write_drawn(tmp_path / "data", 6)
    if change == "no names":
        (data / "labels.txt").unlink()
    elif change == "no picture":
        (data / "images" / "2.png").unlink()
    elif change == "class":
        cv2.imwrite(str(data / "masks" / "1.png"), np.full((SIZE, SIZE), 7, np.uint8))
    elif change == "case":
        (data / "labels.txt").write_text("ground\nGround\n")
    elif change == "categories":
        known = json.loads((data / "instances.json").read_text())
        known["categories"].append({"id": 4, "name": "Square"})
        (data / "instances.json").write_text(json.dumps(known))
    elif change == "json":
        (data / "instances.json").write_text("{}")
    with pytest.raises(EdgeboneError) as refusal:
        fit(bundle, data, tmp_path / "out.bundle", settings)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out.bundle").exists()
