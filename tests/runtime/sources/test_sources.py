"""Sources: every kind of picture, video and camera that can be named, and every one that cannot be read."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame
from edgebone.sources import Source, open_source, open_sources
from edgebone.sources.globs import files_matching
from edgebone.sources.images import read_image
from edgebone.sources.video import VideoFile
from edgebone.stream.inbox import Inbox
from support.camera_servers import wait_for
from support.pictures import BLUE, GREEN, RED, picture, write_video
from support.sources import Scripted


def frames(source: Source) -> list[Frame]:
    found = []
    while (frame := source.read()) is not None:
        found.append(frame)
    source.close()
    return found


HALVES = np.zeros((40, 60, 3), np.uint8)
HALVES[:, :30], HALVES[:, 30:] = BLUE, RED


def save(path: Path, mode: str = "RGB", **settings: object) -> Path:
    """The blue-and-red picture, in a mode of Pillow."""
    Image.fromarray(HALVES[..., ::-1].copy()).convert(mode).save(path, **settings)
    return path


def looks_like_halves(image: np.ndarray) -> bool:
    near = np.abs(image.astype(int) - HALVES.astype(int))
    return image.shape == HALVES.shape and image.dtype == np.uint8 and bool(near[:, [5, 25, 35, 55]].max() < 60)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.png", "RGB"), ("a.png", "RGBA"), ("a.png", "P"), ("a.jpg", "RGB"), ("a.jpg", "CMYK"), ("a.webp", "RGB"),
        ("a.bmp", "RGB"), ("a.tiff", "RGB"), ("a.tiff", "CMYK"), ("a.gif", "P"), ("a.ppm", "RGB"), ("A.JPEG", "RGB"),
    ],
)  # fmt: skip
def test_a_picture_in_any_mode_becomes_bgr(tmp_path: Path, name: str, mode: str) -> None:
    (frame,) = frames(open_source(save(tmp_path / name, mode)))
    assert looks_like_halves(frame.image)
    assert frame.image.flags.c_contiguous
    assert frame.image.flags.writeable
    assert (frame.index, frame.position_s, frame.source) == (0, None, str(tmp_path / name))
    assert frame.captured_at_ns <= time.monotonic_ns()


def test_grey_pictures_of_8_and_16_bits_and_black_and_white_keep_their_levels(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)[None].repeat(8, 0)
    Image.fromarray(ramp).save(tmp_path / "8.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "16.tiff")
    for name in ("8.png", "16.png", "16.tiff"):
        assert np.array_equal(read_image(tmp_path / name), np.dstack([ramp] * 3)), name
    Image.fromarray(ramp).convert("1", dither=0).save(tmp_path / "1.png")
    assert set(read_image(tmp_path / "1.png").ravel().tolist()) == {0, 255}


def test_a_16_bit_colour_picture_keeps_its_levels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), HALVES.astype(np.uint16) * 257)
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - HALVES).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_a_picture_that_the_camera_recorded_sideways_is_turned_upright(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30] = 255
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a{suffix}", exif=exif)
    found = read_image(tmp_path / f"a{suffix}")
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright)[4:-4:8, 4:-4:8].max() < 90


def test_a_picture_is_known_by_its_content_not_by_its_name(tmp_path: Path) -> None:
    save(tmp_path / "a.png").rename(tmp_path / "a.mp4")
    write_video(tmp_path / "v.avi", [RED] * 3).rename(tmp_path / "v.jpg")
    assert looks_like_halves(frames(open_source(tmp_path / "a.mp4"))[0].image)
    assert len(frames(open_source(tmp_path / "v.jpg"))) == 3


@pytest.mark.parametrize("kind", ["empty", "text", "cut png", "cut jpg", "huge", "folder", "bad header"])
def test_a_file_that_is_no_readable_picture_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    good = save(tmp_path / ("b.png" if kind == "cut png" else "b.jpg")).read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind == "huge":
        path.write_bytes(b"P6 60000 60000 255\n" + bytes(100))
    elif kind == "bad header":
        path.write_bytes(b"P6 6x 60 255\n" + bytes(100))
    else:
        path.write_bytes({"empty": b"", "text": b"no picture\n" * 50}.get(kind, good[: len(good) * 2 // 3]))
    for read in (
        lambda: read_image(path),
        lambda: frames(open_source(path)),
        lambda: [frames(s) for s in open_sources([str(path)])],
    ):
        with pytest.raises(SourceError) as caught:
            read()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_only_the_formats_of_pictures_are_opened_and_no_program_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(SourceError, match="not a picture in a supported format"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(SourceError):
        frames(open_source(tmp_path / "a.jpg"))
    assert not (tmp_path / "started").exists()


def test_a_phones_jpeg_with_two_pictures_in_it_is_read_as_its_first(tmp_path: Path) -> None:
    halves = Image.fromarray(HALVES[..., ::-1].copy())
    halves.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[halves.rotate(90)], quality=95)
    assert looks_like_halves(read_image(tmp_path / "a.jpg"))


def test_a_small_file_that_unpacks_to_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    whole = zlib.compress(b"x")
    for width, height in ((10_001, 10_000), (60_000, 60_000)):
        header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", whole)]
        png = [
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        ]
        path = tmp_path / "a.png"
        path.write_bytes(b"".join([b"\x89PNG\r\n\x1a\n", *png]))
        for read in (read_image, lambda path: frames(open_source(path))):
            with pytest.raises(SourceError, match="too large: the limit is 51,000,000 pixels"):
                read(path)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    for path in (tmp_path / "a.jpg", Path("/dev/zero")):
        with pytest.raises(SourceError, match="not a regular file"):
            read_image(path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own peak of a process")
def test_a_picture_takes_eight_bytes_of_memory_a_pixel_at_most(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (6000, 4000), (1, 2, 3)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGBA", (4000, 6000), (1, 2, 3, 4)).save(tmp_path / "a.png")
    Image.new("P", (4000, 6000), 1).save(tmp_path / "a.gif")
    program = (
        "import sys\n"
        "from edgebone.sources.images import read_image\n"
        "def peak(): return 1024 * int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "read_image(sys.argv[2])\n"
        "before = peak()\n"
        "size = read_image(sys.argv[1]).size // 3\n"
        "print((peak() - before) / size)\n"
    )
    small = save(tmp_path / "small.png")
    for name in ("a.jpg", "a.png", "a.gif"):
        done = subprocess.run(
            [sys.executable, "-c", program, tmp_path / name, small], capture_output=True, text=True, check=True
        )
        # And what decoders and pieces take on top.
        assert 3 <= float(done.stdout) < 9.5, name


def test_damage_anywhere_in_a_picture_gives_a_picture_or_a_source_error(tmp_path: Path) -> None:
    rng = random.Random(1)
    exif = Image.Exif()
    exif[0x112] = 6
    for name in ("a.png", "a.jpg", "a.gif", "a.tiff", "a.webp", "a.bmp", "a.ppm"):
        takes_exif = name[2:] in ("png", "jpg", "tiff", "webp")
        whole = save(
            tmp_path / name, "P" if name == "a.gif" else "RGB", **({"exif": exif} if takes_exif else {})
        ).read_bytes()
        for _ in range(150):
            damaged = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
            for _ in range(rng.choice([1, 3])):
                if damaged:
                    damaged[rng.randrange(min(len(damaged), rng.choice([40, 10**6])))] = rng.randrange(256)
            (tmp_path / "damaged").write_bytes(damaged)
            try:
                assert frames(open_source(tmp_path / "damaged"))[0].image.dtype == np.uint8
            except SourceError as error:
                assert "damaged" in str(error)


def test_a_folder_gives_its_pictures_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "C.JPG", "d.jfif"):
        save(tmp_path / name, format="JPEG")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._a.jpg").write_text("what macOS leaves on foreign disks")
    (tmp_path / "sub.jpg").mkdir()
    source = open_source(str(tmp_path))
    assert (source.frame_count, source.live, source.fps) == (4, False, None)
    found = frames(source)
    assert [Path(frame.path or "").name for frame in found] == ["C.JPG", "a.jpg", "b.png", "d.jfif"]
    assert [(frame.index, frame.source) for frame in found] == [(place, str(tmp_path)) for place in range(4)]


def test_a_glob_gives_what_matches_in_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("2.png", "1.png", "3.jpg", "deep/4.png"):
        save(tmp_path / name)
    names = [Path(frame.path or "").name for frame in frames(open_source(f"{tmp_path}/*.png"))]
    assert names == ["1.png", "2.png"]
    assert len(frames(open_source(f"{tmp_path}/**/*.png"))) == 3
    assert len(frames(open_source(f"{tmp_path}/*"))) == 3
    assert len(frames(open_source(save(tmp_path / "a[1].png")))) == 1


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("ftp://user:secret@camera/1", "ftp:// is not a kind of source"),
        ("s3://x/y.jpg", "s3:// is not"),
        ("missing.jpg", "missing.jpg: no such file; give a picture"),
        ("*.nothing", "no file matches"),
        ("usb:99", "usb:99 cannot be opened"),
        ("usb:99999999999999999999", "usb:9+: write a camera as usb:0"),
        ("usb:", "write a camera as usb:0"),
        ("usb:-1", "write a camera as usb:0"),
        ("", "no such file"),
        ("x" * 5000, "no such file"),
        ("synthetic://", "synthetic://640x480@30"),
        ("synthetic://640x480", "synthetic://640x480@30"),
        ("synthetic://0x480@30", "synthetic://640x480@30"),
        ("synthetic://640x480@0", "synthetic://640x480@30"),
        ("synthetic://640x480@-1", "synthetic://640x480@30"),
        ("synthetic://640x480@30?frames=0", "synthetic://640x480@30"),
        ("synthetic://640x480@30?frames=x", "synthetic://640x480@30"),
        ("synthetic://640x480@2000000000", "frames per second"),
        ("synthetic://640x480@0.00000000001", "frames per second"),
        ("synthetic://500000x500000@30", "pixels per side"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_refused_with_the_forms_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for opening in (lambda: open_source(what), lambda: open_sources([what])):
        with pytest.raises(SourceError, match=words) as caught:
            opening()
        assert "secret" not in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no pictures"):
        open_source(tmp_path)


@pytest.mark.parametrize("fps", [25.0, 29.97, 12.5])
@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_video_gives_every_frame_with_its_time(tmp_path: Path, suffix: str, fps: float) -> None:
    colors = [BLUE, GREEN, RED] * 7
    source = open_source(write_video(tmp_path / f"v{suffix}", colors, fps))
    assert source.fps == pytest.approx(fps, abs=0.01)
    assert isinstance(source.fps, float)
    # Matroska does not say; a number that is worked out from its length would be off by a few.
    assert source.frame_count == (None if suffix == ".mkv" else 21)
    found = frames(source)
    assert [frame.index for frame in found] == list(range(21))
    assert [frame.position_s for frame in found] == pytest.approx([i / fps for i in range(21)], abs=0.002)
    for frame, color in zip(found, colors, strict=True):
        assert np.abs(frame.image.reshape(-1, 3).mean(0) - color).max() < 20
    assert len({frame.image.__array_interface__["data"][0] for frame in found}) == 21


@pytest.mark.parametrize("kind", ["empty", "text", "cut mp4", "noise"])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "v.mp4"
    if kind == "cut mp4":
        whole = write_video(path, [RED] * 50).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes({"empty": b"", "text": b"hello\n" * 999, "noise": random.Random(0).randbytes(5000)}[kind])
    with pytest.raises(SourceError, match=r"v\.mp4: (neither a picture nor a video|the file is empty)"):
        open_source(path)


def test_a_video_that_breaks_off_gives_its_good_frames_and_then_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", [RED, GREEN] * 50)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    source = open_source(path)
    assert source.frame_count == 100
    found = 0
    with pytest.raises(SourceError, match=r"v\.avi: the video ends after \d+ of 100 frames"):
        while source.read() is not None:
            found += 1
    source.close()
    assert 30 < found < 60


def test_pictures_named_one_by_one_are_one_source_and_videos_one_each(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "v.avi", "c.png", "w.avi"]
    for name in names:
        if name.endswith("png"):
            save(tmp_path / name)
        else:
            write_video(tmp_path / name, [RED] * 2)
    sources = open_sources([str(tmp_path / name) for name in names])
    assert [source.frame_count for source in sources] == [2, 2, 1, 2]
    assert [Path(frame.path or "").name for frame in frames(sources[0])] == ["a.png", "b.png"]
    for source in sources:
        source.close()


def test_arrays_and_frames_pass_as_they_are() -> None:
    image = picture(RED)
    (frame,) = frames(open_source(image))
    assert frame.image is image
    given = Frame(image, 17, 5, "elsewhere", 3.0)
    assert frames(open_source([given, image]))[0] is given
    assert [frame.index for frame in frames(open_source([image, image, image]))] == [0, 1, 2]
    assert frames(open_source([])) == []
    source = open_source(image)
    assert open_source(source) is source


def test_a_synthetic_camera_has_its_size_its_end_and_a_pattern_that_moves() -> None:
    source = open_source("synthetic://64x48@20?frames=20")
    assert (source.live, source.fps, source.frame_count) == (True, 20.0, 20)
    found = frames(source)
    assert found[-1].index <= 19
    assert all(frame.image.shape == (48, 64, 3) for frame in found)
    endless = open_source("synthetic://64x48@20")
    first, second = endless.read(), endless.read()
    assert first is not None and second is not None
    assert not np.array_equal(first.image, second.image)
    indices = [frame.index for frame in found]
    assert indices == sorted(set(indices))
    tiny = frames(open_source("synthetic://1x1@1000?frames=3"))
    assert tiny[0].image.shape == (1, 1, 3)


def test_a_synthetic_camera_keeps_its_rate_and_drops_what_is_not_read() -> None:
    source = open_source("synthetic://16x16@50")
    first = source.read()
    time.sleep(0.3)
    second = source.read()
    third = source.read()
    source.close()
    assert first is not None and second is not None and third is not None
    assert first.index == 0
    assert second.index >= 14
    assert (third.captured_at_ns - first.captured_at_ns) / 1e9 >= third.index / 50 - 0.005


def test_an_interrupt_wakes_a_waiting_read() -> None:
    source = open_source("synthetic://16x16@0.02")
    assert source.read() is not None
    found: list[Frame | None] = []
    thread = threading.Thread(target=lambda: found.append(source.read()))
    thread.start()
    time.sleep(0.05)
    source.interrupt()
    thread.join(30)
    assert found == [None]


def test_a_video_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.avi", [RED])
    monkeypatch.setattr(limits, "FRAME_PIXELS", 64 * 48 - 1)
    with pytest.raises(SourceError, match=r"v\.avi: its frames of 64x48 are more than 3,071 pixels"):
        open_source(path)


def test_a_video_closes_twice(tmp_path: Path) -> None:
    source = VideoFile(write_video(tmp_path / "v.avi", [RED]))
    source.close()
    source.close()


def test_an_inbox_reads_ahead_only_a_little_and_loses_nothing() -> None:
    source = Scripted([1] * 100)
    inbox = Inbox([source])
    # It reads from the first take on.
    first = inbox.take()
    assert first is not None
    wait_for(lambda: source.read_count > 4)
    time.sleep(0.1)
    assert source.read_count < 10
    found = [first[1].index]
    while (taken := inbox.take()) is not None:
        found.append(taken[1].index)
    inbox.close()
    assert found == list(range(100))
    assert source.closed == 1


def test_an_inbox_serves_its_sources_in_turn() -> None:
    sources = [Scripted([1] * 30, "a"), Scripted([1] * 30, "b")]
    inbox = Inbox(sources)
    names: list[str] = []

    def have_a_frame_waiting() -> bool:
        # Where another one has been read since, the one before it waits.
        return all(source.read_count >= min(30, names.count(source.name) + 2) for source in sources)

    # It reads from the first take on.
    while (taken := inbox.take()) is not None:
        names.append(taken[1].source)
        wait_for(have_a_frame_waiting)
    inbox.close()
    assert names.count("a") == names.count("b") == 30
    assert set(names[:4]) == set(names[10:14]) == {"a", "b"}


def test_an_inbox_hands_out_the_frames_before_a_failure_and_then_the_failure() -> None:
    source = Scripted([1, 1, 1, SourceError("broken cable")])
    inbox = Inbox([source])
    found = [inbox.take(), inbox.take(), inbox.take()]
    assert [taken[1].index for taken in found if taken] == [0, 1, 2]
    with pytest.raises(SourceError, match="broken cable"):
        inbox.take()
    inbox.close()
    assert source.closed == 1


def test_a_link_that_leads_round_in_a_loop_lists_each_picture_once(tmp_path: Path) -> None:
    album = tmp_path / "album"
    (album / "2024" / "may").mkdir(parents=True)
    (album / ".hidden").mkdir()
    names = ["a.png", "2024/b.png", "2024/may/c[1].png"]
    for name in [*names, ".hidden/d.png", "2024/.e.png"]:
        save(album / name)
    # Two of them: followed, there would be 2^40 ways through them.
    for place in ("2024/back", "2024/may/round"):
        (album / place).symlink_to(album, target_is_directory=True)
    (tmp_path / "link").symlink_to(album, target_is_directory=True)
    for start, top in ((album, album), (tmp_path / "link", tmp_path / "link"), (tmp_path / "l*", tmp_path / "link")):
        assert files_matching(f"{start}/**/*.png") == sorted(top / name for name in names)
    assert len(files_matching(f"{album}/**")) == 3
    assert len(files_matching(f"{album}/**/may/**/*.png")) == 1
    assert [frame.path for frame in frames(open_source(f"{album}/**/b.png"))] == [f"{album}/2024/b.png"]
