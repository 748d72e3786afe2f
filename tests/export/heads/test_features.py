"""Features, galleries and calibrations that are made at the engine's speed are those of one picture after the other."""

from __future__ import annotations

from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edgebone.core.bundle import open_bundle
from edgebone.core.errors import SourceError
from edgebone.evaluate.answers import answers
from edgebone.model.model import load
from edgebone.preprocess import preprocess
from edgebone.sources.images import read_image
from edgebone_export.heads.data.views import views_of
from edgebone_export.heads.features.features import FeatureEngine, extract, pick
from edgebone_export.heads.features.readings import default_readings
from edgebone_export.heads.features.taps import taps_of
from edgebone_export.quantization.calibration import read_calibration
from support.networks import SPEC, classifier, tinted_picture, write_network, write_pictures


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("speed") / "net.bundle", classifier(batch="batch"), (1, 4))


def plainly_lit(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another light, as a formula over whole pixels."""
    brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
    tint = rng.uniform(0.93, 1.07, 3)
    pixels = picture.astype(np.float32)
    gray = pixels @ np.asarray((0.114, 0.587, 0.299), np.float32)
    pixels = gray[..., None] + (pixels - gray[..., None]) * np.float32(saturation)
    mean = float(gray.mean())
    pixels = (mean + (pixels - mean) * np.float32(contrast)) * np.float32(brightness * tint)
    return np.asarray(np.clip(pixels, 0, 255), np.uint8)


@pytest.mark.parametrize("size_hw", [(48, 64), (1, 1), (1, 30), (33, 2), (150, 131)])
def test_views_are_those_of_the_plain_formula_to_the_bit(
    size_hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (*size_hw, 3), np.uint8)
    found = [view.copy() for view in views_of(picture, 8, 3)]
    monkeypatch.setattr("edgebone_export.heads.data.views._relit", plainly_lit)
    monkeypatch.setattr(
        "edgebone_export.heads.data.views._mirrored", lambda image: np.ascontiguousarray(image[:, ::-1])
    )
    for view, wanted in zip(found, views_of(picture, 8, 3), strict=True):
        assert np.array_equal(view, wanted)
        assert view.flags.c_contiguous


def test_features_are_those_of_one_picture_after_the_other_to_the_bit(bundle: Path, tmp_path: Path) -> None:
    pictures = sorted(write_pictures(tmp_path / "photos", 20).iterdir())
    pictures.insert(5, tmp_path / "absent.png")
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(pictures[0].read_bytes()[:400])
    pictures.append(damaged)
    with open_bundle(bundle) as opened:
        taps = taps_of(opened)
        with FeatureEngine(opened, pick(opened, "auto", None), taps, default_readings(taps)) as engine:
            found = extract(engine, pictures, views=5, seed=2)
            again = extract(engine, pictures[::-1], views=5, seed=2)
            rows = []
            for place, digest in found.sha256.items():
                inputs = np.zeros((5, *SPEC.size_hw, 3), np.uint8)
                seed = (2 << 32) + int(digest[:8], 16)
                for view, out in zip(views_of(read_image(pictures[place]), 5, seed), inputs, strict=True):
                    preprocess(SPEC, view, out)
                rows.append(engine.run(inputs)["vector"])
    assert found.arrays["vector"].tobytes() == np.concatenate(rows).tobytes()
    assert again.arrays["vector"].reshape(20, 5, -1)[::-1].tobytes() == found.arrays["vector"].tobytes()
    assert found.unreadable.keys() == {5, 21}
    assert "No such file" in found.unreadable[5]
    assert "damaged.png" in found.unreadable[21]


def test_answers_come_in_order_and_what_cannot_be_read_is_told_in_order(bundle: Path, tmp_path: Path) -> None:
    pictures = sorted(write_pictures(tmp_path / "photos", 22).iterdir())
    for place in (3, 17):
        pictures[place].write_bytes(b"no picture")
    told: list[SourceError] = []
    done: list[int] = []
    with load(bundle, engine="onnxruntime") as model:
        found = dict(answers(model, pictures, told.append, done.append))
        batches = [model(pictures[start : start + 4]) for start in (4, 8, 12)]
        alone = model([pictures[16]])
    assert list(found) == [place for place in range(22) if place not in (3, 17)]
    wanted = [result for batch in batches for result in batch] + alone
    for place, result in enumerate(wanted, 4):
        assert found[place].probabilities.tobytes() == result.probabilities.tobytes()  # type: ignore[union-attr]
    assert [str(error).partition(":")[0] for error in told] == [str(pictures[3]), str(pictures[17])]
    assert done == [4, 8, 12, 16, 20, 22]


def test_a_calibration_holds_the_pictures_that_can_be_read_in_their_order(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "photos", 20)
    (folder / "004.png").write_bytes(b"no picture")
    told: list[str] = []
    found = read_calibration(folder, SPEC, 20, told.append)
    assert len(found.inputs) == 19
    for row, number in zip(found.inputs, [number for number in range(20) if number != 4], strict=True):
        out = np.zeros((*SPEC.size_hw, 3), np.uint8)
        preprocess(SPEC, tinted_picture(number), out)
        assert np.array_equal(row, out)
    assert told[0] == "1 of 20 calibration pictures cannot be read"
    assert "004.png" in told[1]


@pytest.mark.parametrize("size_hw", [(30, 40), (1, 1), (700, 1600)])
def test_a_pictures_channels_are_turned_round_and_nothing_else(size_hw: tuple[int, int], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert np.array_equal(read_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize("batch", [(1, 1), (1, 4)])
def test_what_is_kept_for_several_views_serves_for_fewer_where_the_numbers_are_the_same(
    batch: tuple[int, int], tmp_path: Path
) -> None:
    content = classifier() if batch == (1, 1) else classifier(batch="batch")
    pictures = sorted(write_pictures(tmp_path / "photos", 5).iterdir())
    with open_bundle(write_network(tmp_path / "net.bundle", content, batch)) as opened:
        taps = taps_of(opened)
        with FeatureEngine(opened, pick(opened, "auto", None), taps, default_readings(taps)) as engine:
            asked = [(4, 0), (2, 0), (1, 0), (1, 9), (5, 0), (4, 0), (3, 9)]
            hits = []
            for views, seed in asked:
                found = extract(engine, pictures, views=views, seed=seed, cache=tmp_path / "kept")
                fresh = extract(engine, pictures, views=views, seed=seed)
                assert found.arrays["vector"].tobytes() == fresh.arrays["vector"].tobytes()
                hits.append(found.from_cache)
    # Computed in batches, a view's numbers may depend on its company: each number of views is kept for itself.
    assert hits == ([0, 5, 5, 0, 0, 5, 0] if batch == (1, 1) else [0, 0, 0, 5, 0, 5, 0])


def test_a_picture_too_long_and_narrow_costs_a_fit_and_a_calibration_itself_alone(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "photos", 3)
    cv2.imwrite(str(folder / "001.png"), np.zeros((60_000, 1, 3), np.uint8))
    how = msgspec.structs.replace(SPEC, mode="crop", resize=900, antialias=False)
    told: list[str] = []
    assert len(read_calibration(folder, how, 3, told.append).inputs) == 2
    with open_bundle(write_network(tmp_path / "net.bundle", classifier())) as opened:
        taps = taps_of(opened)
        with FeatureEngine(opened, pick(opened, "onnxruntime", None), taps, default_readings(taps)) as engine:
            engine.preprocess = how
            found = extract(engine, sorted(folder.iterdir()))
    assert found.picture.tolist() == [0, 2]
    for line in (told[1], found.unreadable[1]):
        assert f"{folder}/001.png: a picture of 1x60000" in line
