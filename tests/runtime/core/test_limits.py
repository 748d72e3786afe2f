"""Inputs have limits: what is larger, or no regular file, is refused in one line before memory is taken for it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgebone.core import limits
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import write_bundle
from edgebone.core.errors import BundleError, EngineError, SourceError, TensorError
from edgebone.core.foreign import foreign, in_one_line
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import FrameVariant, Head, Preprocess
from edgebone.core.npz import read_npz
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder
from edgebone.evaluate.pictures import read_rows
from edgebone.gallery import Gallery
from edgebone.gallery.errors import GalleryError
from edgebone.preprocess import preprocess
from edgebone.sources import open_source
from support.bundles import write_boxes_bundle, write_colors_bundle
from support.pictures import GREEN, picture, write_video
from support.program import edgebone

WHOLE = Geometry((32, 32), (32, 32), (1.0, 1.0), (0.0, 0.0))


def changed_manifest(path: Path, change: Callable[[dict], object]) -> Path:
    manifest = json.loads((path / "manifest.json").read_bytes())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def refused(*arguments: object, code: int) -> str:
    """What the program says in its one line."""
    ran = edgebone(*arguments)
    lines = ran.stderr.splitlines()
    assert (ran.returncode, len(lines)) == (code, 1), ran.stderr
    assert lines[0].startswith("edgebone: ")
    return lines[0]


def test_a_manifest_with_huge_numbers_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle")
    changed_manifest(path, lambda m: m["preprocess"].update(size_hw=[40_000, 40_000]))
    assert "`int` <= 8192 - at `$.preprocess.size_hw[0]`" in refused("inspect", path, code=3)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "large"])
def test_what_is_no_regular_file_or_too_large_is_refused_and_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}.csv"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(limits.ANNOTATIONS_BYTES + 1)
    # In a process of its own, since what waits for a FIFO's writer waits for ever.
    program = f"""
        import resource, sys
        from pathlib import Path
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
        from edgebone.core.errors import EdgeboneError
        from edgebone.core.manifest import Head
        from edgebone.evaluate.detection import read_instances
        from edgebone.evaluate.pictures import read_rows
        from edgebone.evaluate.segmentation import read_mask
        from edgebone.gallery.file import read_gallery, read_header
        from edgebone.vision.shelf_file import read_shelf
        from edgebone.vision.zone_file import read_zones
        path = Path({str(path)!r})
        head = Head("boxes@1", ("boxes",), ("a",))
        readers = [read_zones, read_shelf, read_gallery, read_header, read_rows]
        readers += [lambda path: read_instances(path, None, head), lambda path: read_mask(path, 3)]
        for number, reader in enumerate(readers):
            try:
                reader(path)
            except EdgeboneError as error:
                assert str(path) in str(error) and "\\n" not in str(error), error
            else:
                sys.exit(f"reader {{number}} took it")
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("option", ["--labels", "--preprocess"])
def test_an_export_does_not_wait_for_a_fifo(option: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    ran = edgebone("export", "mobilenet_v2", "--weights", "random", option, tmp_path / "fifo", "-o", tmp_path / "out")
    assert ran.returncode == 8, ran.stderr
    lines = ran.stderr.splitlines()
    assert lines[-1].startswith("edgebone: ") and str(tmp_path / "fifo") in lines[-1]
    assert "Traceback" not in ran.stderr


def test_arrays_that_unpack_to_more_than_they_may_are_not_unpacked() -> None:
    made = io.BytesIO()
    np.savez_compressed(made, a=np.zeros(5 << 20, np.uint8), b=np.zeros(5 << 20, np.uint8))
    assert made.tell() < 1 << 16
    with pytest.raises(ValueError, match="larger than 8 MB"):
        read_npz(made.getvalue(), 8 << 20)
    assert {name: array.size for name, array in read_npz(made.getvalue(), 11 << 20).items()} == {
        "a": 5 << 20,
        "b": 5 << 20,
    }


@pytest.mark.parametrize(
    "logits", [np.array([["a", "b", "c", "d"]]), np.zeros((1, 0), np.float32), np.zeros((1, 4), np.complex64)]
)
def test_recorded_outputs_that_are_no_numbers_are_refused(logits: np.ndarray, tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle")
    with open_bundle(path) as bundle:
        recorded = read_npz(bundle.read("golden/tensors.npz"), limits.GOLDEN_BYTES)
        made = io.BytesIO()
        np.savez(made, **{**recorded, "logits": logits})
        files = {name: bundle.read(name) for name in bundle.manifest.files}
        write_bundle(tmp_path / "b.bundle", bundle.manifest, {**files, "golden/tensors.npz": made.getvalue()})
    assert "logits in golden/tensors.npz holds no numbers" in refused("doctor", tmp_path / "b.bundle", code=3)


def test_a_plan_of_an_engine_that_there_is_not_leaves_the_choice_to_others(tmp_path: Path) -> None:
    import edgebone as package
    from edgebone.core.machine import Machine

    plan = {
        "machine": "this", "goal": "latency", "engine": "warp", "variant": "fp32", "precision": "fp32",
        "hint": "latency", "threads": None, "batch": None, "p50_ms": 1.0, "fps": 1.0,
        "fp32_p50_ms": 1.0, "fp32_fps": 1.0, "accuracy": None,
        "measured_at": "now",
    }  # fmt: skip
    path = write_colors_bundle(tmp_path / "a.bundle")
    changed_manifest(path, lambda m: m.update(plans={Machine.probe().key: plan}))
    with package.load(path) as model:
        assert model(picture(GREEN)).label == "green"
        assert "warp fp32: this edgebone has no such engine" in str(model.choice)


@pytest.mark.parametrize(
    ("decoder", "params", "shape", "given"),
    [
        ("boxes@1", {"score": 0.1, "iou": 0.5}, ("batch", "boxes", 6), (4, 5)),
        ("boxes@1", {"score": 0.1, "iou": 0.5}, ("batch", "boxes", 6), (6,)),
        ("segmentation@1", {}, ("batch", 2, "h", "w"), (2, 0, 4)),
        ("segmentation@1", {}, ("batch", 2, "h", "w"), (2, 4)),
        ("classification@1", {"activation": "softmax"}, ("batch", 2), (2, 2)),
    ],
)
def test_tensors_of_other_shapes_than_the_manifest_says_are_refused(
    decoder: str, params: dict, shape: tuple, given: tuple
) -> None:
    decode = make_decoder("h", Head(decoder, ("o",), ("a", "b"), params), [TensorSpec("o", "float32", shape)], (32, 32))
    with pytest.raises(EngineError, match=r"head h: the network returned o of shape \[.*export the bundle again"):
        decode([np.zeros(given, np.float32)], WHOLE)


@pytest.mark.parametrize("strides", [[0], [-8], [10**9], ["8"]])
def test_strides_that_are_none_are_refused(strides: list) -> None:
    head = Head("yolox@1", ("o",), ("a",), {"score": 0.1, "iou": 0.5, "strides": strides})
    with pytest.raises(BundleError, match=r"head h: yolox@1 rejects its parameters: .*strides\[0\]"):
        make_decoder("h", head, [TensorSpec("o", "float32", ("batch", 16, 6))], (32, 32))


def test_a_grid_is_not_made_for_an_output_that_does_not_have_it() -> None:
    head = Head("yolox@1", ("o",), ("a",), {"score": 0.1, "iou": 0.5, "strides": [1] * 100})
    with pytest.raises(BundleError, match=r"head h: yolox@1 reads one output of shape \[batch, 6710886400, 6\]"):
        make_decoder("h", head, [TensorSpec("o", "float32", ("batch", 16, 6))], (8192, 8192))


def test_of_too_many_boxes_the_best_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CANDIDATES", 3)
    rows = np.array([[i, 0, i + 1, 1, 0.1 * (i + 1), 0] for i in range(8)], np.float32)
    head = Head("boxes@1", ("o",), ("a",), {"score": 0.05, "iou": 0.5})
    found = make_decoder("h", head, [TensorSpec("o", "float32", ("batch", "boxes", 6))], (32, 32))([rows], WHOLE)
    assert found.confidence.tolist() == pytest.approx([0.8, 0.7, 0.6])  # type: ignore[union-attr]


def test_a_picture_too_long_and_narrow_to_be_resized_is_refused() -> None:
    spec = Preprocess("crop", (32, 32), "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1), resize=8192)
    out = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(TensorError, match=r"a picture of 60000x1, .*, to one of 491520000x8192 is too large"):
        preprocess(spec, np.zeros((1, 60_000, 3), np.uint8), out)


def test_a_frame_variant_of_more_pixels_than_a_frame_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"64,000,000 pixels at most, not 16000x16000"):
        FrameVariant("f", "fp32", (16_000, 16_000), "bgr", 0, 0.0, 1)
    raw = msgspec.json.encode(FrameVariant("f", "fp32", (1080, 1920), "bgr", 0, 0.0, 1))
    assert msgspec.json.decode(raw, type=FrameVariant).size_hw == (1080, 1920)


def test_a_video_of_larger_frames_than_may_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.avi", [GREEN] * 3)
    monkeypatch.setattr(limits, "FRAME_PIXELS", 48 * 64 - 1)
    with pytest.raises(SourceError, match=r"a\.avi: its frames of 64x48 are more than 3,071 pixels"):
        open_source(path)
    monkeypatch.setattr(limits, "FRAME_PIXELS", 48 * 64)
    with contextlib.closing(open_source(path)) as source:
        assert source.read() is not None


def test_a_table_with_too_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("file\n" + "a.png\n" * 11)
    monkeypatch.setattr(limits, "TABLE_ROWS", 11)
    assert len(read_rows(path)) == 11
    monkeypatch.setattr(limits, "TABLE_ROWS", 10)
    with pytest.raises(SourceError, match="more than 10 rows"):
        read_rows(path)


def test_the_last_id_leaves_none_to_count_on() -> None:
    gallery = Gallery("a" * 64, 2)
    gallery.add([[1, 0]], "a", ids=[2**63 - 1])
    with pytest.raises(GalleryError, match="no further id is free; give ids"):
        gallery.add([[0, 1]], "b")
    gallery.add([[0, 1]], "b", ids=[7])
    assert [entry.id for entry in gallery.entries()] == [2**63 - 1, 7]


def test_annotations_that_cannot_be_counted_on_are_refused_before_pictures_are_looked_at(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "a.bundle", "found")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no picture")
    whole = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "red"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(whole))
    said = refused("eval", bundle, "--data", tmp_path / "a.json", code=4)
    assert "a.json: COCO's metrics cannot be counted on its annotations ('id')" in said


def test_whatever_a_foreign_parser_raises_becomes_one_line() -> None:
    class Odd(Exception):
        pass

    for raised in (Odd("two\nlines  of it"), RecursionError("two\nlines of it"), MemoryError("two lines of it")):
        with (
            pytest.raises(BundleError, match=r"^x: two lines of it$") as caught,
            foreign(lambda r: BundleError(f"x: {r}")),
        ):
            raise raised
        assert caught.value.__cause__ is raised
    with pytest.raises(SourceError, match=r"^as it was$"), foreign(BundleError):
        raise SourceError("as it was")
    with pytest.raises(KeyboardInterrupt), foreign(BundleError):
        raise KeyboardInterrupt
    assert in_one_line(Odd()) == "Odd"
    assert len(in_one_line(Odd("x" * 10_000))) == 301
