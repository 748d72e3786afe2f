"""Recordings on a web server: files with an end, which were played again and again, with frames left out."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import edgebone
from edgebone.core.errors import SourceError
from edgebone.sources import open_source
from edgebone.sources.camera import Camera
from edgebone.sources.video import Video
from support.pictures import GREEN, RED, picture


def recording(path: Path, movflags: str = "faststart+write_colr", frames: int = 40) -> bytes:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": movflags} if path.suffix == ".mp4" else {}) as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 160, 120, "yuv420p", 20_000_000
        for _ in range(frames):
            noise = rng.integers(0, 255, (120, 160, 3)).astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(noise, format="bgr24")):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    return path.read_bytes()


class Answer(http.server.BaseHTTPRequestHandler):
    """A web server with one file, good or bad."""

    content = b""
    ranges = True
    length = True
    most = 1 << 40
    requests: list[str]

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.requests.append(asked)
        first = int(asked.removeprefix("bytes=").rstrip("-")) if self.ranges and asked else 0
        self.send_response(206 if self.ranges and asked else 200)
        if self.ranges and asked:
            self.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        if self.length:
            self.send_header("Content-Length", str(len(self.content) - first))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.content[first : first + self.most])

    def log_message(self, *arguments: object) -> None:
        """Nothing is written."""


@contextlib.contextmanager
def served(content: bytes, **settings: Any) -> Iterator[tuple[str, list[str]]]:
    requests: list[str] = []
    kind = type("Answer", (Answer,), {"content": content, "requests": requests, **settings})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()


def count(source: Any) -> int:
    number = 0
    try:
        while (frame := source.read()) is not None:
            assert frame.image.shape == (120, 160, 3)
            assert frame.index == number
            number += 1
    finally:
        source.close()
    return number


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mkv", "CLIP.MP4?token=Xq7vW"])
def test_every_frame_comes_once_and_then_the_end(tmp_path: Path, name: str, ranges: bool) -> None:
    path = tmp_path / name.partition("?")[0].lower()
    with served(recording(path), ranges=ranges) as (url, _):
        source = open_source(f"{url}/{name}")
        assert isinstance(source, Video)
        assert (source.live, source.fps) == (False, 25)
        assert "Xq7vW" not in source.name
        assert count(source) == 40


def test_a_slow_model_gets_every_frame(tmp_path: Path, colors_bundle: Path) -> None:
    with served(recording(tmp_path / "clip.mp4")) as (url, _), edgebone.load(colors_bundle) as model:
        with model.stream(f"{url}/clip.mp4") as stream:
            seen = [frame.index for frame, _ in stream]
        assert seen == list(range(40))
        assert stream.stats.sources[0].dropped == 0


def test_an_index_at_the_end_needs_a_server_that_gives_ranges(tmp_path: Path) -> None:
    content = recording(tmp_path / "clip.mp4", movflags="write_colr")
    with served(content) as (url, _):
        assert count(open_source(f"{url}/clip.mp4")) == 40
    with served(content, ranges=False) as (url, _), pytest.raises(SourceError, match="server supports no ranges"):
        count(open_source(f"{url}/clip.mp4"))


def test_a_connection_that_is_lost_is_made_again_where_it_broke_off(tmp_path: Path) -> None:
    content = recording(tmp_path / "clip.mp4")
    with served(content, most=len(content) // 4) as (url, requests):
        assert count(open_source(f"{url}/clip.mp4")) == 40
        assert len(requests) >= 4


def test_a_connection_that_is_lost_for_good_is_an_error(tmp_path: Path) -> None:
    content = recording(tmp_path / "clip.mp4")
    with served(content, most=len(content) // 2, ranges=False) as (url, _):
        source = open_source(f"{url}/clip.mp4")
        with pytest.raises(
            SourceError, match=rf"^{url}/clip\.mp4: the connection ended after \d+ of {len(content)} bytes"
        ):
            count(source)


def test_a_recording_that_was_cut_off_before_it_got_there_breaks_off(tmp_path: Path) -> None:
    content = recording(tmp_path / "clip.mp4")
    with served(content[: len(content) // 2]) as (url, _):
        source = open_source(f"{url}/clip.mp4")
        with pytest.raises(SourceError, match=r"clip\.mp4: the video ends after \d+ of 40 frames"):
            count(source)


def test_what_has_no_end_is_a_camera(tmp_path: Path) -> None:
    content = recording(tmp_path / "clip.ts")
    with served(content, length=False, ranges=False) as (url, _):
        source = open_source(f"{url}/live.ts")
        assert isinstance(source, Camera)
        assert source.live
        frame = source.read()
        assert frame is not None and frame.image.shape == (120, 160, 3)
        source.close()


def test_a_recording_under_a_cameras_address_is_not_played_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(recording(tmp_path / "clip.ts"), ranges=False) as (url, requests):
        source = open_source(f"{url}/download?id=5")
        assert isinstance(source, Camera)
        assert 30 < count(source) <= 40
        assert len(requests) == 1
    assert "this was a recording, not a camera" in caplog.text


def test_a_camera_that_is_not_there_yet_is_still_waited_for() -> None:
    source = open_source("http://127.0.0.1:9/live.mp4")
    assert isinstance(source, Camera)
    source.close()


def test_no_other_address_is_asked_before_a_frame_is_wanted() -> None:
    with served(b"") as (url, requests):
        open_source(f"{url}/cam.mjpg").close()
        open_source(f"{url}/video").close()
        assert requests == []


def test_a_server_that_refuses_is_named_at_once_without_its_secrets() -> None:
    class Refusing(Answer):
        def do_GET(self) -> None:
            self.send_error(404)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    place = f"127.0.0.1:{server.server_address[1]}"
    with pytest.raises(SourceError, match=rf"^http://{place}/clip\.mp4\?\*\*\*: no video there \(HTTP 404\)"):
        open_source(f"http://bob:Xq7vW@{place}/clip.mp4?token=Xq7vW")
    server.shutdown()
    server.server_close()


def test_a_wait_for_a_server_can_be_interrupted(tmp_path: Path) -> None:
    content = recording(tmp_path / "clip.mp4")
    released = threading.Event()

    class Silent(Answer):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            released.wait(20)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    source = open_source(f"http://127.0.0.1:{server.server_address[1]}/clip.mp4")
    threading.Timer(0.3, source.interrupt).start()
    seen = 0
    while source.read() is not None:
        seen += 1
    assert 0 < seen < 40
    source.close()
    released.set()
    server.shutdown()
    server.server_close()


def test_colors_are_the_recordings(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for color in (RED, GREEN):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(color), format="bgr24")):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    with served(path.read_bytes()) as (url, _):
        source = open_source(f"{url}/v.avi")
        for color in (RED, GREEN):
            frame = source.read()
            assert frame is not None and np.array_equal(frame.image, picture(color))
        source.close()
