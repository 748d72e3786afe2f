"""Pictures, their pages, depths and folders, which were read wrongly, in part, or not at all, in silence."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import edgebone
from edgebone.core.detections import Detections
from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame
from edgebone.core.manifest import Preprocess
from edgebone.evaluate.annotated_sizes import check_inside
from edgebone.evaluate.classification import LabelledPicture, evaluate_classifier
from edgebone.evaluate.detection import read_instances
from edgebone.evaluate.evaluation_set import read_evaluation
from edgebone.evaluate.pictures import find_pictures
from edgebone.evaluate.rehearsal import Rehearsal
from edgebone.evaluate.segmentation import read_masks
from edgebone.labelling import label
from edgebone.preprocess import preprocess
from edgebone.sources import Source, open_source, open_sources
from edgebone.sources.folders import in_order, pictures_in
from edgebone.sources.images import is_picture, read_image, read_pages
from support.bundles import write_boxes_bundle, write_colors_bundle
from support.machine import needs
from support.pictures import BLUE, GREEN, RED, picture
from support.program import edgebone as program

HALVES = np.zeros((40, 60, 3), np.uint8)
HALVES[:, :30], HALVES[:, 30:] = BLUE, RED
HALVES_RGB = Image.fromarray(HALVES[..., ::-1].copy())


def frames(source: Source) -> list[Frame]:
    found = []
    while (frame := source.read()) is not None:
        found.append(frame)
    source.close()
    return found


def written(name: str, **settings: Any) -> bytes:
    made = io.BytesIO()
    HALVES_RGB.save(made, name, **settings)
    return made.getvalue()


def pam(image: np.ndarray, most: int = 255) -> bytes:
    height, width, depth = image.shape
    head = f"P7\n# by hand\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL {most}\nTUPLTYPE RGB\nENDHDR\n"
    return head.encode() + image.astype(">u1" if most < 256 else ">u2").tobytes()


FORMATS: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: written("JPEG", quality=95),
    "MPO": lambda: written("MPO", save_all=True, append_images=[HALVES_RGB.rotate(90)], quality=95),
    "PNG": lambda: written("PNG"),
    "APNG": lambda: written("PNG", save_all=True, append_images=[HALVES_RGB.rotate(180)], duration=100),
    "WebP": lambda: written("WEBP", lossless=True),
    "GIF": lambda: written("GIF"),
    "BMP": lambda: written("BMP"),
    "DIB": lambda: written("DIB"),
    "TIFF": lambda: written("TIFF"),
    "PPM": lambda: written("PPM"),
    "PAM": lambda: pam(np.dstack([HALVES[..., ::-1], np.full((40, 60), 9, np.uint8)])),
    "AVIF": lambda: written("AVIF", quality=95),
    "JPEG 2000": lambda: written("JPEG2000"),
    "JPEG 2000, no container": lambda: written("JPEG2000", no_jp2=True),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_by_what_is_in_the_file(tmp_path: Path, name: str) -> None:
    content = FORMATS[name]()
    for file in ("right.data", "WRONG.PNG", "none", "looks like.mp4"):
        (tmp_path / file).write_bytes(content)
    found = [frame for frame in frames(open_source(tmp_path)) if frame.page in (None, 1)]
    assert len(found) == 4
    for frame in found:
        assert np.abs(frame.image.astype(int) - HALVES)[:, [5, 25, 35, 55]].max() < 40, name
    assert is_picture(tmp_path / "none")
    assert find_pictures(tmp_path / "none") == [tmp_path / "none"]


@pytest.mark.parametrize(
    "suffix",
    [
        ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".JPG", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif",
        ".TIFF", ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".avif", ".jp2", ".j2k", ".jpx", ".heic", ".HEIF",
    ],
)  # fmt: skip
def test_a_damaged_picture_of_a_folder_is_known_by_its_name_and_missed(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "a.png").write_bytes(written("PNG"))
    (tmp_path / f"b{suffix}").write_bytes(b"")
    good, damaged = frames(open_source(tmp_path))
    assert np.array_equal(good.image, HALVES)
    with pytest.raises(SourceError, match=rf"b\{suffix}: the file is empty"):
        damaged.image  # noqa: B018


def test_what_a_folder_holds_beside_pictures_is_said_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [*(f"{number}.txt" for number in range(10)), "script.EPS", "without"]:
        (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    cv2.VideoWriter(str(tmp_path / "video.jpg.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48)).release()
    (tmp_path / "video.jpg.avi").rename(tmp_path / "video.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / ".hidden.jpg").write_bytes(written("JPEG"))
    (tmp_path / "a.png").write_bytes(written("PNG"))
    with caplog.at_level(logging.WARNING):
        assert pictures_in(tmp_path) == [tmp_path / "a.png"]
    (line,) = caplog.messages
    assert line == f"{tmp_path}: 13 other files left out: .txt 10, .eps 1, without suffix 1, .jpg 1" or (
        line.startswith(f"{tmp_path}: 13 other files left out: .txt 10, ") and ".jpg 1" in line
    )


def test_a_cameras_raw_file_is_no_picture_but_a_thumbnail_of_one(tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(tiff(np.zeros((4, 4), np.uint8), {50706: ("B", [1, 4, 0, 0])}))
    (tmp_path / "a.cr2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(300))
    (tmp_path / "a.png").write_bytes(written("PNG"))
    assert pictures_in(tmp_path) == [tmp_path / "a.png"]
    with pytest.raises(SourceError, match="a camera's raw file"):
        read_image(tmp_path / "a.dng")


def test_a_heic_without_its_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    (tmp_path / "a.png").write_bytes(written("PNG"))
    heic, good = frames(open_source(tmp_path))
    assert np.array_equal(good.image, HALVES)
    with pytest.raises(SourceError, match=r'needs pillow-heif: pip install "edgebone\[heic\]"'):
        heic.image  # noqa: B018


# Pages


PAGES = [Image.new("RGB", (32, 24), (25 * number, 0, 255 - 25 * number)) for number in range(10)]


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_every_frame_of_an_animation_and_every_page_is_looked_at(tmp_path: Path, name: str) -> None:
    times = {} if name == "TIFF" else {"duration": [100] * 5 + [300] * 5}
    PAGES[0].save(tmp_path / "a", name, save_all=True, append_images=PAGES[1:], **times)
    source = open_source(tmp_path / "a")
    assert source.frame_count == (None if name == "TIFF" else 10)
    found = frames(source)
    assert [frame.page for frame in found] == list(range(1, 11))
    for frame, page in zip(found, PAGES, strict=True):
        assert np.abs(frame.image[12, 16, ::-1].astype(int) - page.getpixel((0, 0))).max() < 12
    shown_s = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 1.1, 1.4, 1.7]
    assert [frame.position_s for frame in found] == ([None] * 10 if name == "TIFF" else pytest.approx(shown_s))
    assert source.fps == (None if name == "TIFF" else pytest.approx(10))


def test_a_frame_without_a_time_counts_as_browsers_show_it(tmp_path: Path) -> None:
    PAGES[0].save(tmp_path / "a.gif", save_all=True, append_images=PAGES[1:3], duration=0)
    assert [frame.position_s for frame in frames(open_source(tmp_path / "a.gif"))] == pytest.approx([0, 0.1, 0.2])


def test_what_is_no_page_of_its_own_is_left_out(tmp_path: Path) -> None:
    PAGES[0].save(tmp_path / "a.png", save_all=True, append_images=PAGES[1:4], duration=50, default_image=True)
    assert [page.image[0, 0, 2] for page in read_pages(tmp_path / "a.png")] == [25, 50, 75]
    whole, small = np.full((8, 8), 200, np.uint8), np.full((4, 4), 200, np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(whole, {}, more=[(small, {254: ("L", [1])}), (whole, {254: ("L", [2])})]))
    assert [page.image.shape for page in read_pages(tmp_path / "a.tif")] == [(8, 8, 3), (8, 8, 3)]


def test_where_one_picture_is_asked_for_the_first_page_is_taken_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    PAGES[3].save(tmp_path / "a.tiff", save_all=True, append_images=PAGES[4:6])
    (tmp_path / "b.jpg").write_bytes(FORMATS["MPO"]())
    with caplog.at_level(logging.WARNING):
        assert read_image(tmp_path / "a.tiff")[0, 0, 2] == 75
        read_image(tmp_path / "b.jpg")
    assert caplog.messages == [f"{tmp_path}/a.tiff: only the first of its pages is used"]


def test_pages_that_are_cut_off_cost_those_behind_them_alone(tmp_path: Path) -> None:
    PAGES[0].save(tmp_path / "a.gif", save_all=True, append_images=[HALVES_RGB.resize((32, 24))] * 2, duration=100)
    whole = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(whole[: len(whole) * 2 // 3])
    found = frames(open_source(tmp_path / "a.gif"))
    assert found[0].image[0, 0].tolist() == [255, 0, 0]
    assert 1 <= len(found) <= 3


# Depths


def tiff(
    image: np.ndarray,
    tags: dict[int, tuple[str, list[float]]],
    more: list[tuple[np.ndarray, dict[int, tuple[str, list[float]]]]] | None = None,
    bits: int | None = None,
    order: str = "<",
) -> bytes:
    """A TIFF by hand: any kind of samples, any tags (``B``, ``H``, ``L``, ``i``, ``f``, ``d`` as in struct)."""
    kinds = {"B": 1, "H": 3, "L": 4, "h": 8, "i": 9, "f": 11, "d": 12}
    made = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    link = 4
    for samples, own in [(image, tags), *(more or [])]:
        height, width = samples.shape[:2]
        depth = 1 if samples.ndim == 2 else samples.shape[2]
        data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
        if bits == 12:
            flat = samples.ravel()
            data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in flat.reshape(-1, 2).tolist())
        form = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
        entries = {
            256: ("L", [width]), 257: ("L", [height]), 258: ("H", [bits or 8 * samples.dtype.itemsize] * depth),
            259: ("H", [1]), 262: ("H", [1 if depth == 1 else 2]), 273: ("L", [len(made)]), 277: ("H", [depth]),
            278: ("L", [height]), 279: ("L", [len(data)]), 339: ("H", [form] * depth), **own,
        }  # fmt: skip
        made += data + b"\0" * (len(data) % 2)
        values = {}
        for tag, (kind, numbers) in entries.items():
            packed = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
            if len(packed) > 4:
                values[tag] = struct.pack(f"{order}L", len(made))
                made += packed + b"\0" * (len(packed) % 2)
            else:
                values[tag] = packed.ljust(4, b"\0")
        struct.pack_into(f"{order}L", made, link, len(made))
        made += struct.pack(f"{order}H", len(entries))
        for tag, (kind, numbers) in sorted(entries.items()):
            made += struct.pack(f"{order}HHL", tag, kinds[kind], len(numbers)) + values[tag]
        link = len(made)
        made += bytes(4)
    return bytes(made)


RAMP = np.linspace(0, 255, 64).round().astype(np.uint8)[None].repeat(4, 0)
RAMP_16 = RAMP.astype(np.uint16) * 257
STATED = {340: ("f", [-1.0]), 341: ("f", [3.0])}
DEPTHS: dict[str, tuple[bytes, np.ndarray]] = {
    "16 bits": (tiff(RAMP_16, {}), RAMP),
    "16 bits, big endian": (tiff(RAMP_16, {}, order=">"), RAMP),
    "16 bits, 0 is white": (tiff(RAMP_16, {262: ("H", [0])}), 255 - RAMP),
    "8 bits, 0 is white": (tiff(RAMP, {262: ("H", [0])}), 255 - RAMP),
    "12 bits": (tiff(RAMP_16 >> 4, {}, bits=12), RAMP),
    "16 bits, range stated": (tiff(RAMP_16 >> 4, {340: ("H", [0]), 341: ("H", [4095])}), RAMP),
    "16 bits with a sign, range stated": (
        tiff(RAMP.astype(np.int16) - 100, {340: ("h", [-100]), 341: ("h", [155])}),
        RAMP,
    ),
    "8 bits with a sign, range stated": (
        tiff((RAMP.astype(np.int16) - 128).astype(np.int8), {340: ("i", [-128]), 341: ("i", [127])}),
        RAMP,
    ),
    "32 bits, range stated": (tiff(RAMP.astype(np.uint32) << 24, {340: ("L", [0]), 341: ("L", [255 << 24])}), RAMP),
    "float, range stated": (tiff(RAMP.astype(np.float32) / 255 * 4 - 1, STATED), RAMP),
    "colours of 16 bits": (
        tiff(np.dstack([RAMP_16, RAMP_16 // 2, RAMP_16 * 0]), {}),
        np.dstack([RAMP, RAMP // 2, RAMP * 0]),
    ),
    "PGM of 10 bits": (b"P5 64 4 1023\n" + (RAMP_16 >> 6).astype(">u2").tobytes(), RAMP),
    "PGM of 16 bits": (b"P5 64 4 65535\n" + RAMP_16.astype(">u2").tobytes(), RAMP),
    "PGM up to 15": (b"P5 64 4 15\n" + (RAMP >> 4).tobytes(), (RAMP >> 4) * 17),
    "PPM of 10 bits": (b"P6 64 4 1023\n" + np.dstack([RAMP_16 >> 6] * 3).astype(">u2").tobytes(), RAMP),
    "PAM of 16 bits": (pam(np.dstack([RAMP_16] * 3), 65535), RAMP),
    "PAM with alpha": (pam(np.dstack([RAMP, RAMP * 0])), RAMP),
}  # fmt: skip


@pytest.mark.parametrize("name", DEPTHS)
def test_samples_of_any_depth_become_8_bits_by_the_range_that_the_file_states(tmp_path: Path, name: str) -> None:
    content, truth = DEPTHS[name]
    (tmp_path / "a").write_bytes(content)
    rgb = truth if truth.ndim == 3 else np.dstack([truth] * 3)
    assert np.abs(read_image(tmp_path / "a").astype(int) - rgb[..., ::-1]).max() <= 1


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (RAMP.astype(np.float32) / 255, "floating point numbers, 0 to 1 here"),
        (RAMP.astype(np.int16) - 100, "signed or 32-bit integers, -100 to 155 here"),
        (RAMP.astype(np.uint32) << 24, r"signed or 32-bit integers, 0 to 4.27819e\+09 here"),
        ((RAMP // 2).astype(np.int8) - 50, "signed 8-bit integers, -50 to 77 here"),
    ],
)
def test_samples_without_a_range_are_refused_with_the_one_that_was_found(
    tmp_path: Path, image: np.ndarray, words: str
) -> None:
    (tmp_path / "a.tiff").write_bytes(tiff(image, {}))
    with pytest.raises(SourceError, match=words) as caught:
        read_image(tmp_path / "a.tiff")
    assert "save it with 8 or 16 bits" in str(caught.value)


def test_a_pfm_is_refused_with_its_range_and_colours_in_floats_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.pfm").write_bytes(b"Pf\n64 4\n-1.0\n" + (RAMP / 255).astype("<f4").tobytes())
    with pytest.raises(SourceError, match="floating point numbers, 0 to 1 here"):
        read_image(tmp_path / "a.pfm")
    (tmp_path / "a.tiff").write_bytes(tiff(np.dstack([RAMP] * 3).astype(np.float32), {}))
    with pytest.raises(SourceError, match="several channels of floating point numbers"):
        read_image(tmp_path / "a.tiff")


def test_what_is_transparent_has_the_colour_that_the_file_has_there(tmp_path: Path) -> None:
    for mode in ("RGBA", "LA"):
        image = HALVES_RGB.convert(mode)
        image.putalpha(0)
        image.save(tmp_path / "a.png")
        opaque = np.asarray(HALVES_RGB.convert(mode[:-1]).convert("RGB"))
        assert np.array_equal(read_image(tmp_path / "a.png"), opaque[..., ::-1])
    HALVES_RGB.quantize(4).save(tmp_path / "a.png", transparency=0)
    assert np.array_equal(read_image(tmp_path / "a.png"), HALVES)


def test_inks_and_lab_become_colours_as_elsewhere(tmp_path: Path) -> None:
    HALVES_RGB.convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - cv2.imread(str(tmp_path / "a.jpg"))).max() <= 3
    grey = np.full((4, 4, 3), (128, 0, 0), np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(grey, {262: ("H", [8])}))
    # L* of 50 is a grey of 119.
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - 119).max() <= 3


# Sizes


def test_too_large_is_said_as_too_large_in_one_way(tmp_path: Path) -> None:
    said = []
    (tmp_path / "a.ppm").write_bytes(b"P6 9000 9000 255\n" + bytes(100))
    (tmp_path / "a.pam").write_bytes(pam(np.zeros((1, 1, 3))).replace(b"WIDTH 1", b"WIDTH 90000000"))
    (tmp_path / "a.tif").write_bytes(tiff(RAMP, {}, more=[(RAMP, {256: ("L", [9000]), 257: ("L", [9000])})]))
    for read in (
        lambda: read_image(tmp_path / "a.ppm"),
        lambda: read_image(tmp_path / "a.pam"),
        lambda: list(read_pages(tmp_path / "a.tif")),
    ):
        with pytest.raises(SourceError) as caught:
            read()
        said.append(str(caught.value))
    narrow = np.zeros((40_000, 10, 3), np.uint8)
    for spec in (
        Preprocess("crop", (224, 224), "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1), 224),
        Preprocess("letterbox", (224, 224), "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1), pad="before"),
    ):
        with pytest.raises(edgebone.EdgeboneError) as failed:
            preprocess(spec, narrow, np.zeros((224, 224, 3), np.uint8))
        said.append(str(failed.value))
    assert all("is too large: the limit is 51,000,000 pixels" in line for line in said), said


# Folders


def test_numbers_in_names_sort_as_numbers(tmp_path: Path) -> None:
    names = ["1.png", "01.png", "2.png", "10.png", "a2b10.png", "a2b9.png", "a10b1.png", "B.png", "9/1.png", "10/1.png"]
    right = ["01.png", "1.png", "2.png", "9/1.png", "10.png", "10/1.png", "B.png", "a2b9.png", "a2b10.png", "a10b1.png"]
    found = [str(path) for path in in_order(map(Path, names))]
    assert sorted(found) == sorted(right)
    for earlier, later in (
        ("2.png", "10.png"),
        ("9/1.png", "10/1.png"),
        ("a2b9.png", "a2b10.png"),
        ("a2b10.png", "a10b1.png"),
    ):
        assert found.index(earlier) < found.index(later)
    assert found == [str(path) for path in in_order(map(Path, reversed(names)))]
    for number in (1, 2, 10):
        (tmp_path / f"{number}.png").write_bytes(written("PNG"))
    right_order = ["1.png", "2.png", "10.png"]
    for source in (open_source(tmp_path), open_source(f"{tmp_path}/*.png")):
        assert [Path(frame.path or "").name for frame in frames(source)] == right_order
    assert [path.name for path in find_pictures(tmp_path) or []] == right_order


def lamp(x: float) -> Detections:
    xyxy = np.array([[x - 6, 20, x + 6, 40]], np.float32)
    return Detections(xyxy, np.ones(1, np.float32), np.zeros(1, np.int64), {"class_name": np.array(["red"], object)})


@needs("trackers")
@needs("supervision")
def test_a_folder_of_frames_is_followed_and_counted_as_the_same_video_is(tmp_path: Path) -> None:
    from edgebone.vision import Tracking, Zones
    from edgebone.vision.zone_file import read_zones

    dwelling = {"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]], "dwell_s": 0.5}
    gate = {"name": "gate", "start": [0.5, 0.0], "end": [0.5, 1.0]}
    (tmp_path / "zones.json").write_text(json.dumps({"schema": 1, "zones": [dwelling], "lines": [gate]}))
    (tmp_path / "frames").mkdir()
    video = cv2.VideoWriter(str(tmp_path / "same.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(60):
        image = picture(GREEN)
        video.write(image)
        cv2.imwrite(str(tmp_path / "frames" / f"{number + 1}.png"), image)
    video.release()

    def follow(source: Source) -> tuple[list[int], list[dict[str, Any]]]:
        tracking, zones = Tracking(), Zones(read_zones(tmp_path / "zones.json"))
        ids: list[int] = []
        events = []
        for frame in frames(source):
            # In the last frames it is not there any more.
            found = lamp(10 + 2.5 * frame.index)
            tracked = tracking.update(frame, found if frame.index < 20 else found[:0])
            assert tracked.tracker_id is not None
            ids += tracked.tracker_id.tolist()
            events += [event.to_dict() for event in zones.update(frame, tracked)]
        return ids, [{key: value for key, value in event.items() if key != "source"} for event in events]

    as_video = follow(open_source(tmp_path / "same.avi"))
    assert as_video[0] == [-1, *[1] * 19]
    assert [event["event"] for event in as_video[1]] == ["enter", "cross", "dwell", "leave"]
    assert follow(open_source(tmp_path / "frames", fps=25)) == as_video
    # Nobody knows how long anybody stays where pictures have no times.
    with pytest.raises(edgebone.EdgeboneError, match="pictures have no times: set their rate with --fps"):
        follow(open_source(tmp_path / "frames"))
    dwelling.pop("dwell_s")
    (tmp_path / "zones.json").write_text(json.dumps({"schema": 1, "zones": [dwelling], "lines": [gate]}))
    ids, events = follow(open_source(tmp_path / "frames"))
    assert ids == as_video[0]
    assert [event["event"] for event in events] == ["enter", "cross", "leave"]
    assert {(event["position_s"], event.get("stayed_s")) for event in events} == {(None, None)}


def test_pictures_without_times_are_not_thinned_by_how_fast_they_are_read(tmp_path: Path, colors_bundle: Path) -> None:
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(GREEN))
    with edgebone.load(colors_bundle, engine="onnxruntime") as model:
        with pytest.raises(SourceError, match="pictures have no times"):
            list(model.stream(tmp_path, max_fps=5))
        timed = [frame.position_s for frame, _ in model.stream(tmp_path, max_fps=5, fps=10)]
        assert timed == pytest.approx([0, 0.2, 0.4])
        cut = [
            (frame.source, Path(frame.path or "").name) for frame, _ in model.stream(tmp_path, roi_xyxy=(0, 0, 9, 9))
        ]
    assert cut == [(str(tmp_path), f"{number}.png") for number in range(6)]
    with pytest.raises(SourceError, match="fps must be more than 0"):
        open_source(tmp_path, fps=0)


# Damage


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good pictures, and one of every kind that cannot be read."""
    folder = tmp_path_factory.mktemp("mixed")
    for number in (1, 3, 10):
        cv2.imwrite(str(folder / f"{number}.png"), picture(GREEN))
    (folder / "2.png").write_bytes((folder / "1.png").read_bytes()[:60])
    (folder / "4\nedgebone: all is well.jpg").write_bytes(b"")
    (folder / "5.webp").symlink_to(folder / "nowhere")
    (folder / "6.tif").write_text("no picture")
    with open(os.fsencode(str(folder)) + b"/7\xff.png", "wb") as file:  # noqa: PTH123
        file.write(b"\x89PNG\r\n\x1a\n")
    (folder / "notes.txt").write_text("x")
    return folder


def test_a_damaged_picture_among_many_is_named_and_counted_and_ends_nothing(
    mixed: Path, colors_bundle: Path, tmp_path: Path
) -> None:
    done = program("run", colors_bundle, mixed, "--json", "--jsonl", tmp_path / "out.jsonl", "--engine", "onnxruntime")
    assert done.returncode == 4, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["source"], Path(line["path"]).name) for line in lines] == [
        (str(mixed), name) for name in ("1.png", "3.png", "10.png")
    ]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
    said = done.stderr.splitlines()
    assert f"{mixed}: 1 other file left out: .txt 1" in said
    left_out = [line for line in said if line.startswith("left out: ")]
    assert len(left_out) == 5
    assert not any(line.startswith("edgebone: all is well") for line in said)
    assert said[-1] == "edgebone: 5 pictures could not be read and were left out; the others are done"
    assert "5 damaged" in said[-2]


def test_forgiving_goes_on_with_what_can_be_opened_and_read(mixed: Path, colors_bundle: Path) -> None:
    missing, damaged = mixed / "missing.mp4", mixed / "2.png"
    good = mixed / "1.png"
    done = program("run", colors_bundle, missing, good, damaged, "--json", "--forgiving", "--engine", "onnxruntime")
    assert done.returncode == 0, done.stderr
    assert f"{missing}: no such file" in done.stderr
    assert f"left out: {damaged}" in done.stderr
    assert done.stdout.count('"label":"green"') == 1
    done = program("run", colors_bundle, missing, damaged, "--json", "--forgiving", "--engine", "onnxruntime")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines()[-1] == "edgebone: none of the 2 sources could be read"


def test_pictures_named_one_by_one_may_be_damaged_too(mixed: Path) -> None:
    (source,) = open_sources([str(mixed / name) for name in ("1.png", "2.png", "5.webp", "6.tif")])
    good = 0
    for frame in frames(source):
        try:
            good += frame.image.shape == (48, 64, 3)
        except SourceError as error:
            assert frame.path in str(error)
    assert good == 1
    (mixed.parent / "empty.png").write_bytes(b"")
    (unopened,) = open_sources([str(mixed.parent / "empty.png")], forgiving=True)
    with pytest.raises(SourceError, match="the file is empty"):
        unopened.read()
    with pytest.raises(SourceError, match="none of its 2 pictures can be read"):
        frames(open_sources([str(mixed / "2.png"), str(mixed / "6.tif")])[0])


def test_an_evaluation_is_of_what_can_be_read_and_says_so(mixed: Path, colors_bundle: Path) -> None:
    (mixed.parent / "labels.csv").write_text(
        "file,class_index\n" + "".join(f"mixed0/{name}.png,1\n" for name in (1, 2, 3, 10))
    )
    assert mixed.name == "mixed0"
    done = program("eval", colors_bundle, "--data", mixed.parent / "labels.csv", "--json", "--engine", "onnxruntime")
    assert done.returncode == 4, done.stderr
    found = json.loads(done.stdout)
    assert (found["top1"], found["n"]) == (100.0, 3)
    assert len(found["unreadable"]) == 1
    assert f"{mixed}/2.png" in done.stderr
    assert done.stderr.splitlines()[-1] == "edgebone: 1 of 4 pictures could not be read; the figures cover the others"


def test_a_picture_too_long_and_narrow_to_be_resized_costs_itself_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(GREEN))
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((60_000, 1, 3), np.uint8))
    how = Preprocess("crop", (32, 32), "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1), resize=900)
    bundle = write_colors_bundle(tmp_path / "wide.bundle", preprocess=how)
    with edgebone.load(bundle, engine="onnxruntime") as model:
        with model.stream(tmp_path) as stream:
            assert [Path(frame.path or "").name for frame, _ in stream] == ["1.png", "3.png"]
        assert stream.stats.sources[0].damaged == 1
        labelled = [LabelledPicture(tmp_path / f"{number}.png", 1) for number in (1, 2, 3)]
        lost: list[SourceError] = []
        found = evaluate_classifier(model, "classification", labelled, left_out=lost.append)
    assert (found.top1, found.n, len(lost)) == (100.0, 2, 1)
    (line,) = [line for line in caplog.messages if line.startswith("left out: ")]
    assert line.startswith(f"left out: {tmp_path}/2.png: a picture of 1x60000")
    assert "is too large" in line


def test_a_shelf_in_pictures_is_watched_past_a_damaged_one(mixed: Path, colors_bundle: Path, tmp_path: Path) -> None:
    zone = {
        "name": "top",
        "xyxy": [0, 0, 1, 1],
        "rows": 1,
        "columns": 1,
        "expected": [{"product": "green", "minimum": 1}],
    }
    (tmp_path / "shelf.json").write_text(json.dumps({"schema": 1, "units": "shares", "zones": [zone]}))
    seen = tmp_path / "seen.jsonl"
    done = program("shelf", colors_bundle, mixed, "--shelf", tmp_path / "shelf.json", "--jsonl", seen, "--score", 0.1)
    assert done.returncode == 4, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said == "edgebone: 5 pictures could not be read and were left out; the others are done"
    assert len(seen.read_text().splitlines()) == 3


def test_pages_are_labelled_and_what_cannot_be_read_is_named(tmp_path: Path, colors_bundle: Path) -> None:
    (tmp_path / "in").mkdir()
    PAGES[0].save(tmp_path / "in" / "pages.tif", save_all=True, append_images=PAGES[1:3])
    (tmp_path / "in" / "whole.png").write_bytes(written("PNG"))
    (tmp_path / "in" / "damaged.jpg").write_bytes(written("JPEG")[:100])
    PAGES[0].save(tmp_path / "a.gif", save_all=True, append_images=PAGES[1:4], duration=100)
    with edgebone.load(colors_bundle, engine="onnxruntime") as model:
        report = label(model, str(tmp_path / "in"), tmp_path / "out")
        animated = label(model, str(tmp_path / "a.gif"), tmp_path / "frames", every=2)
    names = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert names == ["pages_000001.png", "pages_000002.png", "pages_000003.png", "whole.png"]
    assert list(report.unreadable) == [str(tmp_path / "in" / "damaged.jpg")]
    assert animated.pictures == 2


def test_verification_pictures_are_those_that_can_be_read(
    mixed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from edgebone_export.pictures import sample_pictures

    folder = tmp_path / "named"
    # What is logged here is pytest-xdist's to send, which can send no name that is not UTF-8.
    shutil.copytree(mixed, folder, symlinks=True, ignore=lambda _, names: [name for name in names if "7" in name])
    pictures, said = sample_pictures(folder)
    assert (len(pictures), said) == (3, f"the first 3 of {folder}")
    assert sum(line.startswith("left out: ") for line in caplog.messages) == 4


# Annotations


def coco(folder: Path, size_wh: tuple[Any, Any] | None, orientation: int | None) -> Path:
    """A picture that is stored 64 wide and 48 high, and what says so or otherwise."""
    exif = Image.Exif()
    if orientation:
        exif[0x112] = orientation
    (folder / "images").mkdir(parents=True)
    Image.fromarray(picture(GREEN)).save(folder / "images" / "a.png", exif=exif)
    size = {} if size_wh is None else {"width": size_wh[0], "height": size_wh[1]}
    whole = {
        "images": [{"id": 1, "file_name": "a.png", **size}],
        "categories": [{"id": 1, "name": "green"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}],
    }
    (folder / "instances.json").write_text(json.dumps(whole))
    return folder / "instances.json"


@needs("faster_coco_eval")
@pytest.mark.parametrize(
    ("size_wh", "orientation", "words"),
    [
        ((64, 48), None, ""),
        ((64, 48), 3, ""),
        ((48, 64), 6, ""),
        (None, 6, ""),
        ((0, 0), 6, ""),
        ((64.0, 48.0), None, ""),
        ((None, "48"), None, ""),
        ((64, 48), 6, "annotated as 64x48, and is 48x64 as its EXIF orientation turns it, 64x48 as it is stored"),
        ((64, 48), 8, "remove the orientation from the files"),
        ((640, 480), None, "annotated as 640x480, and is 64x48: .*at their own size"),
    ],
)
def test_boxes_in_other_pixels_than_the_pictures_are_refused_with_both_sizes(
    tmp_path: Path, size_wh: tuple[Any, Any] | None, orientation: int | None, words: str
) -> None:
    from edgebone_export.heads.data.sets import boxes
    from edgebone_export.heads.kinds import DetectionSettings

    data = coco(tmp_path / "data", size_wh, orientation)
    with edgebone.load(write_boxes_bundle(tmp_path / "boxes.bundle", "found"), engine="onnxruntime") as model:
        instances = read_instances(data, None, model.manifest.heads["found"])
        to_tune = read_evaluation(data, model.manifest)
        for look in (
            instances.check_sizes,
            lambda: Rehearsal(model.manifest, to_tune, model.engine),
            lambda: boxes(data, None, DetectionSettings()),
        ):
            if words:
                with pytest.raises(SourceError, match=words):
                    look()
            else:
                look()


def test_masks_of_pictures_as_they_are_stored_are_refused_with_both_sizes(tmp_path: Path) -> None:
    coco(tmp_path, None, 6)
    (tmp_path / "masks").mkdir()
    Image.new("L", (48, 64)).save(tmp_path / "masks" / "a.png")
    assert len(read_masks(tmp_path, None)) == 1
    Image.new("L", (64, 48)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(SourceError, match=r"a\.png is 64x48 as .* is stored, which is 48x64 as its EXIF"):
        read_masks(tmp_path, None)


def test_a_box_that_is_expected_beyond_the_picture_is_refused_with_its_sizes(tmp_path: Path) -> None:
    coco(tmp_path, None, 6)
    file = tmp_path / "images" / "a.png"
    check_inside("answers", file, [(0, 0, 48.3, 64.2)])
    with pytest.raises(SourceError, match=r"the box 40, 0, 20, 10 extends beyond .*48x64 .*\(64x48 as it is stored\)"):
        check_inside("answers", file, [(40, 0, 20, 10)])
