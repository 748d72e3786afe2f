"""Sound video files that were read wrongly in silence, or called damaged; and damaged ones that were not."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from edgebone.core import limits
from edgebone.core.errors import MissingDependencyError, SourceError
from edgebone.core.frame import Frame
from edgebone.core.results import Embedding
from edgebone.sinks.video import VideoFileSink
from edgebone.sources import open_source
from edgebone.sources.video import VideoFile
from edgebone.sources.video_times import Times
from support.pictures import BLUE, GREEN, RED, picture

PROGRAM = Path(sys.executable).with_name("edgebone")
WIDTH, HEIGHT = 96, 64
COLORS = (RED, GREEN, BLUE)


def colored(count: int, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> list[np.ndarray]:
    return [picture(COLORS[index % 3], size_hw) for index in range(count)]


def noise(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8) for _ in range(count)]


def write(
    path: Path,
    images: Sequence[np.ndarray],
    codec: str = "libx264",
    *,
    form: str | None = None,
    rate: int = 25,
    pixels: str = "yuv420p",
    settings: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    stamps_ms: Sequence[int] | None = None,
    prepare: Any = None,
) -> Path:
    """A video as somebody else writes it."""
    with av.open(str(path), "w", format=form, options=container or {}) as output:
        stream = output.add_stream(codec, rate=1000 if stamps_ms else rate, options=settings or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        stream.bit_rate = 4_000_000
        if prepare:
            prepare(stream)
        for index, image in enumerate(images):
            coded = av.VideoFrame.from_ndarray(image, format="bgr24")
            if stamps_ms:
                coded.pts, coded.time_base = stamps_ms[index], Fraction(1, 1000)
            for packet in stream.encode(coded):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    return path


def read(path: Path | str) -> list[Frame]:
    """All frames, decoded."""
    source = open_source(path)
    try:
        return list(frames(source))
    finally:
        source.close()


def frames(source: Any) -> Iterator[Frame]:
    while (frame := source.read()) is not None:
        assert frame.image.dtype == np.uint8
        yield frame


def times(found: Sequence[Frame]) -> list[float]:
    return [frame.position_s for frame in found if frame.position_s is not None]


def is_color(image: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool(np.abs(image[8:-8, 8:-8].reshape(-1, 3).mean(0) - color).max() < 12)


UNEVEN_MS = [33 * index + 1400 * (index // 5) for index in range(20)]


@pytest.mark.parametrize("live", [False, True])
def test_a_browsers_recording_keeps_its_uneven_times_in_the_annotated_video(
    tmp_path: Path, colors_bundle: Path, live: bool
) -> None:
    given = write(
        tmp_path / "v.webm", colored(20), "libvpx", stamps_ms=UNEVEN_MS, settings={"deadline": "realtime"},
        container={"live": "1"} if live else None,
    )  # fmt: skip
    source = VideoFile(given)
    assert (source.fps, source.frame_count) == (None, None)
    source.close()
    assert times(read(given)) == pytest.approx([ms / 1000 for ms in UNEVEN_MS])
    done = subprocess.run(
        [PROGRAM, "run", colors_bundle, given, "--video", tmp_path / "seen.mp4"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "20 frames" in done.stdout
    assert times(read(tmp_path / "seen.mp4")) == pytest.approx([ms / 1000 for ms in UNEVEN_MS], abs=0.001)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
def test_a_written_video_is_as_long_as_what_it_was_made_from(tmp_path: Path, suffix: str) -> None:
    sink = VideoFileSink(tmp_path / f"v{suffix}", 30.0)
    for index, ms in enumerate(UNEVEN_MS):
        frame = Frame(picture(RED), index, 0, "x", 7 + ms / 1000)
        sink.write(frame, Embedding(np.ones(2, np.float32)))
    sink.close()
    # An AVI's frames lie at whole numbers of its rate.
    exact = 1 / 30 if suffix == ".avi" else 0.001
    assert times(read(tmp_path / f"v{suffix}")) == pytest.approx([ms / 1000 for ms in UNEVEN_MS], abs=exact)
    with av.open(str(tmp_path / f"v{suffix}")) as written:
        assert written.duration / 1e6 == pytest.approx(UNEVEN_MS[-1] / 1000 + 1 / 30, abs=0.07)


@pytest.mark.parametrize("fps", [119.88, 0.00001, 999.9, 240.0])
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_unusual_rates_are_written(tmp_path: Path, suffix: str, fps: float) -> None:
    sink = VideoFileSink(tmp_path / f"v{suffix}", fps)
    for index in range(3):
        sink.write(Frame(picture(RED), index, 0, "x"), Embedding(np.ones(2, np.float32)))
    sink.close()
    assert times(read(tmp_path / f"v{suffix}"))[1] == pytest.approx(1 / max(fps, 0.001), rel=0.001)


@pytest.mark.parametrize(("codec", "form"), [("libx264", "h264"), ("libx265", "hevc")])
def test_a_stream_without_a_container_has_times_by_its_rate_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, form: str
) -> None:
    quiet = {"x265-params": "log-level=none"} if form == "hevc" else {}
    path = write(tmp_path / f"v.{form}", colored(12), codec, form=form, rate=30, settings=quiet)
    found = read(path)
    assert times(found) == pytest.approx([index / 30 for index in range(12)])
    assert caplog.text.count("frames without a time; times are derived from a rate of 30 frames") == 1
    assert all(is_color(frame.image, COLORS[frame.index % 3]) for frame in found)


def test_motion_jpeg_without_a_container_is_more_than_its_first_picture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "v.mjpeg", colored(6), "mjpeg", form="mjpeg", pixels="yuvj420p")
    found = read(path)
    assert [is_color(frame.image, COLORS[frame.index % 3]) for frame in found] == [True] * 6
    assert times(found) == pytest.approx([index / 25 for index in range(6)])
    assert caplog.text.count("25 frames per second, which is assumed") == 1


@pytest.mark.parametrize("name", ["v.avi", "v.mp4", "v.mkv", "v.ts", "v.flv"])
def test_frames_that_were_coded_out_of_order_have_their_times(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name == "v.avi" else "libx264"
    found = read(write(tmp_path / name, colored(15), codec, settings={"bf": "2"}))
    assert times(found) == pytest.approx([index / 25 for index in range(15)], abs=0.002)
    assert [is_color(frame.image, COLORS[frame.index % 3]) for frame in found] == [True] * 15


@pytest.mark.parametrize(
    ("stamps", "made"),
    [
        ([None] * 3, [0, 0.1, 0.2]),
        ([5, 5, 5], [0, 0.1, 0.2]),
        ([-2, -1.9, -1.5], [0, 0.1, 0.5]),
        ([None, 4, 4.5], [0, 0.1, 0.6]),
        ([3, None, 3.5], [0, 0.1, 0.5]),
        # Out of order by one frame.
        ([0, 0.3, 0.2, 0.5], [0, 0.3, 0.4, 0.5]),
        # A clock that was set while it recorded; and a night's pause, which is one.
        ([0, 1e9, 1e9 + 0.5], [0, 0.1, 0.6]),
        ([0, 30_000], [0, 30_000]),
        # Two recordings that were joined, or a clock that wrapped around.
        ([95443, 95443.5, 0, 0.3], [0, 0.5, 0.6, 0.9]),
    ],
)
def test_times_only_grow(stamps: list[float | None], made: list[float]) -> None:
    clock = Times("v", 10)
    assert [clock.of(stamp) for stamp in stamps] == pytest.approx(made)


def test_a_rate_that_nobody_says_is_assumed_and_said(caplog: pytest.LogCaptureFixture) -> None:
    clock = Times("v", None)
    assert [clock.of(None) for _ in range(3)] == pytest.approx([0, 0.04, 0.08])
    assert caplog.text.count("a rate of 25 frames per second, which is assumed") == 1


def combed(count: int) -> list[np.ndarray]:
    """A bar that moves between the two fields of each frame: upper rows first."""
    images = []
    for index in range(count):
        image = np.full((288, 352, 3), 40, np.uint8)
        for field in (0, 1):
            left = 40 + 16 * index + 8 * field
            image[field::2, left : left + 60] = 220
        images.append(image)
    return images


def combs(image: np.ndarray) -> float:
    """How much each row differs from both of its neighbours, which agree."""
    grey = image[..., 1].astype(int)
    return float(np.minimum(np.abs(grey[1:-1] - grey[:-2]), np.abs(grey[1:-1] - grey[2:])).mean())


INTERLACED = {"flags": "+ilme+ildct"}


@pytest.mark.parametrize(
    ("name", "codec", "settings"),
    [
        ("v.mp4", "libx264", {**INTERLACED, "x264-params": "interlaced=1:tff=1"}),
        ("v.ts", "libx264", {**INTERLACED, "x264-params": "interlaced=1:tff=1", "bf": "0"}),
        ("v.mpg", "mpeg2video", {**INTERLACED, "top": "1"}),
    ],
)
def test_interlaced_frames_come_one_for_one_and_without_combs(
    tmp_path: Path, name: str, codec: str, settings: dict[str, str]
) -> None:
    given = combed(8)
    found = read(write(tmp_path / name, given, codec, settings=settings))
    assert len(found) == 8
    assert times(found) == pytest.approx([index / 25 for index in range(8)], abs=0.002)
    assert combs(given[4]) > 2
    for index, frame in enumerate(found):
        assert combs(frame.image) < 0.5
        left = 40 + 16 * index
        assert frame.image[100, left + 30].min() > 190
        assert frame.image[100, left - 30].max() < 70


def test_dv_is_read(tmp_path: Path) -> None:
    images = [cv2.resize(image, (720, 576)) for image in colored(3)]
    found = read(write(tmp_path / "v.dv", images, "dvvideo", form="dv"))
    assert [is_color(frame.image, COLORS[frame.index]) for frame in found] == [True] * 3


def test_what_only_looks_interlaced_is_left_alone(tmp_path: Path) -> None:
    given = combed(3)
    found = read(write(tmp_path / "v.mkv", given, "ffv1", pixels="bgr0"))
    assert all(np.array_equal(frame.image, image) for frame, image in zip(found, given, strict=True))


NAMES = [
    "2024-05-01T10:30:00.mp4", "http:x.mp4", "concat:a|b.mp4", "file:v.mp4", "pipe:0.mp4", "-v.mp4", "v%03d.mp4",
    "a?b.mp4", "a#b&c.mp4", "[1].mp4", "no suffix.mp4.mp4", "subfile,,start,0,end,9,,:v.mp4", "\udcff.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    sink = VideoFileSink(Path(name), 25)
    for index in range(3):
        sink.write(Frame(picture(RED), index, 0, "x"), Embedding(np.ones(2, np.float32)))
    sink.close()
    assert [child.name for child in tmp_path.iterdir()] == [name]
    for form in (name, f"./{name}", str(tmp_path / name)):
        assert len(read(form)) == 3


@pytest.mark.parametrize("suffix", [".m3u8", ".ffconcat", ".sdp", ".mp4", ".txt", ".mpd"])
@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{video}'\n",
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n"
        "a=rtpmap:96 H264/90000\r\n",
        "<?xml version='1.0'?><MPD type='static' xmlns='urn:mpeg:dash:schema:mpd:2011'><Period><AdaptationSet>"
        "<Representation id='1'><BaseURL>{video}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    ],
)
def test_what_names_other_files_is_refused_whatever_its_suffix(tmp_path: Path, suffix: str, content: str) -> None:
    video = write(tmp_path / "other.ts", colored(3))
    path = tmp_path / f"list{suffix}"
    path.write_text(content.format(video=video))
    with pytest.raises(SourceError, match="playlists and descriptions are not followed"):
        read(path)


CUT = {
    "mp4": ("libx264", {"movflags": "faststart"}),
    "mov": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "mkv": ("libx264", {}),
    "webm": ("libvpx", {}),
    "avi": ("mpeg4", {}),
    "flv": ("flv", {}),
}


@pytest.mark.parametrize("suffix", CUT)
def test_a_video_that_was_cut_off_gives_its_good_frames_and_then_an_error(tmp_path: Path, suffix: str) -> None:
    codec, container = CUT[suffix]
    quick = {"g": "5"} | ({"deadline": "realtime"} if codec == "libvpx" else {})
    path = write(tmp_path / f"v.{suffix}", noise(30), codec, settings=quick, container=container)
    assert len(read(path)) == 30
    whole = path.read_bytes()
    for share in (0.5, 0.66, 0.8):
        path.write_bytes(whole[: int(share * len(whole))])
        source = open_source(path)
        seen = 0
        with pytest.raises(SourceError, match=rf"v\.{suffix}: the video ends after \d+( of 30)? frames"):
            for _ in frames(source):
                seen += 1
        source.close()
        assert 30 * share - 8 < seen < 30


@pytest.mark.parametrize(("suffix", "container"), [("webm", {"live": "1"}), ("ts", {})])
def test_what_was_written_as_a_stream_may_end_anywhere(tmp_path: Path, suffix: str, container: dict[str, str]) -> None:
    codec = "libvpx" if suffix == "webm" else "libx264"
    path = write(tmp_path / f"v.{suffix}", noise(20), codec, container=container)
    whole = path.read_bytes()
    path.write_bytes(whole[: 2 * len(whole) // 3])
    assert 10 <= len(read(path)) < 20


def test_a_file_with_more_behind_its_end_is_whole(tmp_path: Path) -> None:
    for suffix, codec in (("mp4", "mpeg4"), ("avi", "mpeg4"), ("mkv", "mpeg4")):
        path = write(tmp_path / f"v.{suffix}", colored(5), codec)
        path.write_bytes(path.read_bytes() + bytes(3000))
        assert len(read(path)) == 5


def damage(path: Path, numbers: Sequence[int]) -> Path:
    """Overwrite so many packets with nonsense."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number in numbers:
        place, size = packets[number]
        content[place : place + size] = b"\xff" * size
    path.write_bytes(content)
    return path


def test_a_damaged_frame_in_the_middle_is_left_out_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "v.mov", colored(60), "png", pixels="rgb24")
    found = read(damage(path, [20, 40]))
    assert len(found) == 58
    assert [frame.index for frame in found] == list(range(58))
    assert times(found)[-1] == pytest.approx(59 / 25, abs=0.002)
    assert caplog.text.count("v.mov: a damaged frame, about the ") == 1


def test_a_video_that_is_damaged_all_over_is_an_error_after_what_is_good(tmp_path: Path) -> None:
    source = VideoFile(damage(write(tmp_path / "v.mov", colored(30), "png", pixels="rgb24"), range(1, 30, 3)))
    seen = 0
    with pytest.raises(SourceError, match=r"v\.mov: 10 of the video's 30 frames are damaged"):
        for _ in frames(source):
            seen += 1
    # FFmpeg's threads lose what is decoded beside a damaged frame.
    assert 18 <= seen <= 20


def test_a_broadcast_that_begins_between_whole_pictures_is_not_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "v.ts", noise(40), settings={"g": "10", "bf": "0", "repeat-headers": "1"})
    whole = path.read_bytes()
    begin = 188 * (len(whole) // 188 // 8)
    path.write_bytes(whole[begin:])
    found = read(path)
    assert 28 <= len(found) <= 36
    assert times(found)[0] == 0
    assert "damaged" not in caplog.text


def test_a_codec_without_a_decoder_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", colored(3))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"evc1").replace(b"avcC", b"evcC"))
    with pytest.raises(SourceError, match=r"v\.mp4: its video is encoded as evc.*, for which no decoder is installed"):
        open_source(path)


def test_frames_that_no_decoder_takes_are_named_with_their_codec(tmp_path: Path) -> None:
    path = damage(write(tmp_path / "v.mov", colored(4), "png", pixels="rgb24"), range(4))
    with pytest.raises(SourceError, match=r"v\.mov: none of its 4 frames can be decoded as png"):
        read(path)


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Give an MP4 the display matrix of a phone that was held otherwise."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        content[place + offset : place + offset + 4] = (value * one).to_bytes(4, "big", signed=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).transpose(1, 0, 2)),
    ],
)
def test_a_phones_video_stands_upright(tmp_path: Path, matrix: tuple[int, int, int, int], upright: Any) -> None:
    given = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    given[: HEIGHT // 2, : WIDTH // 2] = RED
    given[: HEIGHT // 2, WIDTH // 2 :] = GREEN
    given[HEIGHT // 2 :, : WIDTH // 2] = BLUE
    (frame,) = read(turned(write(tmp_path / "v.mp4", [given], "png", form="mov", pixels="rgb24"), matrix))
    assert np.array_equal(frame.image, upright(given))


def test_a_size_that_changes_gives_frames_of_the_new_size_and_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = [
        write(tmp_path / f"{index}.ts", colored(6, size)) for index, size in enumerate(((64, 96), (48, 80), (64, 96)))
    ]
    path = tmp_path / "v.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    found = read(path)
    assert [frame.size_hw for frame in found] == [(64, 96)] * 6 + [(48, 80)] * 6 + [(64, 96)] * 6
    steps = np.diff(times(found))
    assert steps.min() > 0 and times(found)[-1] == pytest.approx(17 / 25, abs=0.1)
    assert caplog.text.count("from frame 6 on, its frames are 80x48, and no longer 96x64") == 1
    assert caplog.text.count("no longer") == 1
    sink = VideoFileSink(tmp_path / "seen.mp4", 25)
    for frame in found:
        sink.write(frame, Embedding(np.ones(2, np.float32)))
    sink.close()
    assert [frame.size_hw for frame in read(tmp_path / "seen.mp4")] == [(64, 96)] * 18


def test_a_size_that_grows_beyond_the_limit_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FRAME_PIXELS", 64 * 96)
    path = tmp_path / "v.ts"
    parts = (write(tmp_path / "0.ts", colored(5)), write(tmp_path / "1.ts", colored(9, (320, 480))))
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    source = open_source(path)
    with pytest.raises(SourceError, match=r"v\.ts: "):
        for frame in frames(source):
            assert frame.size_hw == (64, 96)


def with_sound(path: Path, video: bool, cover: bool) -> Path:
    with av.open(str(path), "w", format="mp4") as output:
        sound = output.add_stream("aac", rate=44100)
        pictures = [output.add_stream("mjpeg", rate=1) for _ in range(cover)]
        videos = [output.add_stream("mpeg4", rate=25) for _ in range(2 * video)]
        for stream in (*pictures, *videos):
            stream.width, stream.height = WIDTH, HEIGHT
            stream.pix_fmt = "yuvj420p" if stream in pictures else "yuv420p"
        for stream in pictures:
            stream.disposition = av.stream.Disposition.attached_pic
        output.start_encoding()
        samples = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        samples.rate, samples.pts = 44100, 0
        for packet in [*sound.encode(samples), *sound.encode()]:
            output.mux(packet)
        for stream, color in zip((*pictures, *videos), [BLUE] * cover + [RED, GREEN], strict=False):
            for _ in range(1 if stream in pictures else 4):
                for packet in stream.encode(
                    av.VideoFrame.from_ndarray(picture(color, (HEIGHT, WIDTH)), format="bgr24")
                ):
                    output.mux(packet)
            for packet in stream.encode():
                output.mux(packet)
    return path


def test_the_video_is_what_is_no_cover_picture(tmp_path: Path) -> None:
    found = read(with_sound(tmp_path / "v.mp4", video=True, cover=True))
    assert [is_color(frame.image, RED) for frame in found] == [True] * 4


def test_a_file_of_sound_is_named_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.m4a: it has no video, only sound$"):
        open_source(with_sound(tmp_path / "a.m4a", video=False, cover=False))
    with pytest.raises(SourceError, match=r"b\.m4a: it has no video, only sound and a cover picture$"):
        open_source(with_sound(tmp_path / "b.m4a", video=False, cover=True))


@pytest.mark.parametrize("space", ["bt709", "smpte170m"])
@pytest.mark.parametrize("full", [False, True])
def test_colors_are_those_of_the_space_and_the_range_that_the_video_names(
    tmp_path: Path, space: str, full: bool
) -> None:
    red_share, blue_share = (0.2126, 0.0722) if space == "bt709" else (0.299, 0.114)
    green_share = 1 - red_share - blue_share
    blue, green, red = 40, 90, 200
    luma = red_share * red + green_share * green + blue_share * blue
    numbers = [luma, 128 + (blue - luma) / (2 * (1 - blue_share)), 128 + (red - luma) / (2 * (1 - red_share))]
    if not full:
        numbers = [16 + numbers[0] * 219 / 255, *(128 + (number - 128) * 224 / 255 for number in numbers[1:])]
    path = tmp_path / "v.mp4"
    settings = {"crf": "1", "colorspace": space, "color_range": "pc" if full else "tv", "x264-params": "log-level=0"}
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options=settings)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        coded = av.VideoFrame(64, 48, "yuv420p")
        for plane, number in zip(coded.planes, numbers, strict=True):
            plane.update(bytes([round(number)]) * plane.buffer_size)
        coded.color_range = 2 if full else 1
        coded.colorspace = 1 if space == "bt709" else 6
        for packet in [*stream.encode(coded), *stream.encode()]:
            output.mux(packet)
    (frame,) = read(path)
    assert np.abs(frame.image.reshape(-1, 3).mean(0) - (blue, green, red)).max() < 4


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "settings"),
    [
        ("v.mkv", "libx264", "yuv420p10le", {}),
        ("v.mkv", "libx264", "yuv444p", {}),
        ("v.mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none"}),
        ("v.mov", "prores_ks", "yuv422p10le", {}),
        ("v.avi", "mjpeg", "yuvj422p", {}),
        ("v.avi", "rawvideo", "bgr24", {}),
        ("v.avi", "rawvideo", "yuyv422", {}),
        ("v.asf", "wmv2", "yuv420p", {}),
        ("v.mp4", "libsvtav1", "yuv420p", {"preset": "12", "svtav1-params": "lp=1"}),
        ("v.webm", "libvpx-vp9", "yuva420p", {"deadline": "realtime"}),
    ],
)
def test_codecs_and_pixel_formats_are_read(
    tmp_path: Path, name: str, codec: str, pixels: str, settings: dict[str, str]
) -> None:
    found = read(write(tmp_path / name, colored(3), codec, pixels=pixels, settings=settings))
    assert [is_color(frame.image, COLORS[frame.index]) for frame in found] == [True] * 3


def test_odd_sizes_are_read(tmp_path: Path) -> None:
    for size in ((47, 63), (1, 1), (33, 200)):
        found = read(write(tmp_path / "v.mkv", colored(3, size), "ffv1", pixels="bgr0"))
        assert [frame.size_hw for frame in found] == [size] * 3
        assert np.array_equal(found[1].image, picture(GREEN, size))
    found = read(write(tmp_path / "w.mkv", colored(3, (49, 65)), "libx264", pixels="yuv444p"))
    assert [frame.size_hw for frame in found] == [(49, 65)] * 3


def test_a_recording_that_starts_late_begins_at_0(tmp_path: Path) -> None:
    late = [100_000 + 40 * index for index in range(5)]
    found = read(write(tmp_path / "v.mkv", colored(5), "mpeg4", stamps_ms=late, prepare=by_milliseconds))
    assert times(found) == pytest.approx([0, 0.04, 0.08, 0.12, 0.16], abs=0.001)


def by_milliseconds(stream: Any) -> None:
    stream.codec_context.time_base = Fraction(1, 1000)


def test_what_an_edit_list_leaves_out_is_not_shown_and_not_missed(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", colored(30), settings={"bf": "0", "g": "30"})
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 16
    # In 12,800ths of a second: the first 10 frames were cut away without coding the others again.
    content[place : place + 4] = (5120).to_bytes(4, "big")
    path.write_bytes(content)
    found = read(path)
    assert times(found) == pytest.approx([index / 25 for index in range(20)])
    assert [is_color(frame.image, COLORS[(frame.index + 10) % 3]) for frame in found] == [True] * 20


def test_a_broadcasts_clock_may_wrap_around(tmp_path: Path) -> None:
    offset = {"output_ts_offset": str(2**33 / 90000 - 0.2)}
    found = read(write(tmp_path / "v.ts", colored(20), container=offset))
    assert times(found) == pytest.approx([index / 25 for index in range(20)], abs=0.002)


def test_a_video_without_frames_is_said_to_have_none(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    with pytest.raises(SourceError, match=r"v\.mp4: "):
        read(path)


def test_a_videos_end_can_be_asked_for_again_and_an_interrupt_ends_it(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", colored(3))
    source = VideoFile(path)
    assert len(list(frames(source))) == 3
    assert source.read() is None
    source.close()
    source.close()
    closed = VideoFile(path)
    closed.close()
    assert closed.read() is None
    other = VideoFile(path)
    other.interrupt()
    assert other.read() is None
    other.close()


def test_frames_that_are_not_looked_at_are_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = VideoFile(write(tmp_path / "v.mp4", colored(3)))
    monkeypatch.setattr("edgebone.sources.video_pixels.to_bgr", lambda *_: pytest.fail("converted"))
    assert [source.read() is None for _ in range(4)] == [False] * 3 + [True]
    source.close()


def test_a_file_that_fails_while_it_is_read_is_not_said_to_have_ended(tmp_path: Path) -> None:
    source = VideoFile(write(tmp_path / "v.avi", noise(60), "mjpeg", pixels="yuvj420p"))
    file = source._recording._file  # type: ignore[attr-defined]

    class Failing(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(5, "Input/output error")

    source._recording._file = Failing()  # type: ignore[attr-defined]
    with pytest.raises(SourceError, match=r"v\.avi: cannot be read \(Input/output error\)"):
        list(frames(source))
    file.close()
    source.close()


def test_without_pyav_a_video_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "v.mp4", colored(3))
    monkeypatch.setitem(sys.modules, "av", None)
    for use in (lambda: open_source(path), lambda: VideoFileSink(tmp_path / "seen.mp4", 25)):
        with pytest.raises(MissingDependencyError, match=r'pip install "edgebone\[video\]"'):
            use()
