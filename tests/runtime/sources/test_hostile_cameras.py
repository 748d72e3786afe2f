"""Cameras on the network that mean harm: they cost frames, and nothing else."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import subprocess
import sys
import threading
import traceback
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgebone
from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.ffmpeg import import_av
from edgebone.sources import network, open_source
from edgebone.sources.camera import Camera, RefusedError
from edgebone.sources.jpeg import decode_jpeg, jpeg_size
from edgebone.sources.network_address import read_address
from edgebone.sources.usb import UsbConnection
from support.camera_servers import RawServer, mjpeg_server, rtsp_server, wait_for
from support.pictures import GREEN, RED, picture

MULTIPART = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
PLAIN = cv2.imencode(".jpg", picture(GREEN))[1].tobytes()


def says(height: int, width: int, jpeg: bytes = PLAIN) -> bytes:
    """The same picture with another size in its header."""
    place = jpeg.index(b"\xff\xc0")
    return jpeg[: place + 5] + struct.pack(">HH", height, width) + jpeg[place + 9 :]


def part(jpeg: bytes) -> bytes:
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)


def progressive(scans: int) -> bytes:
    """A picture whose last scan comes over and over."""
    jpeg = cv2.imencode(".jpg", picture(GREEN), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    begins = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[begins:-2] * scans + b"\xff\xd9"


@pytest.mark.parametrize(
    ("jpeg", "why"),
    [
        (says(65500, 65500), "65500x65500"),
        (says(30000, 30000), "30000x30000"),
        (says(8001, 8000), "8000x8001 is too large: the limit is 64,000,000 pixels"),
        (b"\xff\xd8\xff\xfe\x00\x04\xff\xc0" + says(65500, 65500)[2:], "65500x65500"),
        (b"\xff\xd8\xff\xff\xff\x01junk" + says(65500, 65500)[2:], "65500x65500"),
        (says(0, 64), "damaged"),
        (progressive(100), "more than 32 scans"),
        (cv2.imencode(".png", picture(GREEN))[1].tobytes(), "damaged"),
        (PLAIN[: PLAIN.index(b"\xff\xc0") + 7], "damaged"),
        (b"\xff\xd8\xff\xd9", "damaged"),
        (b"\xff\xd8\xff", "damaged"),
        (b"", "damaged"),
    ],
)
def test_a_picture_that_says_too_much_is_not_decoded(jpeg: bytes, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(SourceError, match=f"^cam: .*{why}"):
        decode_jpeg(np.frombuffer(jpeg, np.uint8), "cam")


@pytest.mark.parametrize("flags", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]])
def test_good_pictures_are_decoded_of_whatever_kind(flags: list[int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (37, 53, 3)).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", image, flags)[1]
    assert jpeg_size(jpeg.tobytes()) == (37, 53)
    assert np.array_equal(decode_jpeg(jpeg, "cam"), cv2.imdecode(jpeg, cv2.IMREAD_COLOR))


def test_bad_frames_of_one_camera_are_counted_and_the_other_goes_on(
    colors_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [says(65500, 65500), says(30000, 30000), PLAIN[:99], PLAIN]
    with mjpeg_server(bad) as hostile, mjpeg_server([PLAIN]) as good, edgebone.load(colors_bundle) as model:
        with model.stream(hostile, good) as stream:
            for _ in stream:
                one, other = stream.stats.sources
                if one.damaged > 5 and one.frames > 2 and other.frames > 20:
                    break
        assert other.damaged == 0
    assert caplog.text.count("such frames are left out") == 1


def test_a_camera_whose_size_changes_is_damaged_where_the_region_does_not_fit(colors_bundle: Path) -> None:
    small = cv2.imencode(".jpg", picture(RED)[:1, :1])[1].tobytes()
    part_of = edgebone.Limits(roi_xyxy=(0, 0, 40, 40))
    with mjpeg_server([PLAIN, PLAIN, small]) as url, edgebone.load(colors_bundle) as model:
        stream = model.stream(edgebone.Limited(url, part_of))
        for frame, _ in stream:
            assert frame.size_hw == (40, 40)
            if stream.stats.sources[0].damaged > 2:
                break
        stream.close()
        # A region that never fits is a mistake in the command.
        with mjpeg_server([small]) as other, pytest.raises(SourceError, match="not within the picture of 1x1"):
            next(iter(model.stream(edgebone.Limited(other, part_of))))


@pytest.mark.parametrize("error", [cv2.error("(-215)"), MemoryError(), ValueError("x"), RuntimeError("x")])
def test_whatever_a_decoder_raises_is_a_damaged_frame(error: Exception) -> None:
    class Broken:
        fps = None

        def grab(self) -> Any:
            def decode() -> Any:
                raise error

            return decode

        def close(self) -> None:
            pass

    camera = Camera("cam", Broken)  # type: ignore[arg-type]
    frame = camera.read()
    assert frame is not None
    with pytest.raises(SourceError, match=f"cam: a damaged picture .{type(error).__name__}"):
        frame.image  # noqa: B018
    camera.close()


def test_a_usb_camera_whose_frames_opencv_does_not_take_goes_on() -> None:
    class Capture:
        def __init__(self, *_: object) -> None:
            self.frames = iter([cv2.error("(-215)"), (True, picture(GREEN)), (True, None)])

        def isOpened(self) -> bool:
            return True

        def set(self, *_: object) -> bool:
            return True

        def get(self, _: int) -> float:
            return 0.0

        def read(self) -> Any:
            frame = next(self.frames)
            if isinstance(frame, Exception):
                raise frame
            return frame

        def release(self) -> None:
            pass

    from edgebone.sources.address import Mode

    camera = Camera("usb:0", lambda: UsbConnection(0, Mode(), Capture))
    seen = []
    for _ in range(3):
        frame = camera.read()
        assert frame is not None
        try:
            seen.append(frame.image.shape)
        except SourceError as error:
            seen.append(str(error))
    assert seen == ["usb:0: a damaged picture (error)", (48, 64, 3), "usb:0: a damaged picture (NoneType)"]
    camera.close()


def test_h264_of_too_many_pixels_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "VIDEO_PIXELS", 320 * 240 - 1)
    with rtsp_server() as server:
        camera = open_source(server.url)
        frame = camera.read()
        assert frame is not None
        with pytest.raises(SourceError, match="a damaged picture"):
            frame.image  # noqa: B018
        camera.close()


PEAK = """
import sys
from edgebone.sources import network
from edgebone.sources.network_address import read_address
import av, cv2

def peak_mb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024

network.OPEN_TIMEOUT_S, network.READ_TIMEOUT_S = 2.0, 2.0
before = peak_mb()
said = ""
try:
    connection = network.NetworkConnection(read_address(sys.argv[1]))
    while decode := connection.grab():
        pass
except Exception as error:
    said = f"{type(error).__name__}: {error}"
print(peak_mb() - before)
print(said)
"""


def peak_of(url: str) -> tuple[float, str]:
    """What reading a camera takes in memory at most, in MB; and how it ends."""
    done = subprocess.run([sys.executable, "-c", PEAK, url], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    megabytes, said = done.stdout.splitlines()
    return float(megabytes), said


@pytest.mark.parametrize("length", [10**9, 2**31 - 1, 2**40, 2**63, -5, None])
def test_a_part_of_any_length_takes_little_memory(length: int | None) -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        says = b"" if length is None else b"Content-Length: %d\r\n" % length
        connection.sendall(MULTIPART + b"--frame\r\nContent-Type: image/jpeg\r\n" + says + b"\r\n" + PLAIN[:200])
        while True:
            connection.sendall(PLAIN[200:300] * 10000)

    with RawServer(answer) as server:
        peak_mb, said = peak_of(f"http://{server.place}/cam.mjpg")
    assert "SourceError" in said
    assert "it sends more than 64 MB for one picture" in said
    assert peak_mb < 3 * limits.PACKET_BYTES / 2**20


def test_a_redirect_with_an_endless_body_ends_at_the_limit_too() -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /other\r\n\r\n")
        while True:
            connection.sendall(bytes(1_000_000))

    with RawServer(answer) as server:
        peak_mb, said = peak_of(f"http://{server.place}/cam.mjpg")
    assert "it sends more than 64 MB" in said
    assert peak_mb < 3 * limits.PACKET_BYTES / 2**20


def hostile_rtsp(frame: Callable[[int], bytes], redirect: str = "") -> Callable[[socket.socket, bytes], None]:
    """Answers as an RTSP server with one H.264 stream, of which each RTP packet is made by a function of its number."""

    def answer(connection: socket.socket, request: bytes) -> None:
        description = (
            b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
            b"a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:t0\r\n"
        )
        while request:
            method = request.split()[0]
            found = re.search(rb"CSeq: (\d+)", request)
            assert found
            head = b"RTSP/1.0 200 OK\r\nCSeq: %b\r\nSession: 1\r\n" % found[1]
            if method == b"DESCRIBE" and redirect:
                head = head.replace(b"200 OK", b"302 Found") + f"Location: {redirect}\r\n\r\n".encode()
            elif method == b"DESCRIBE":
                head += b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(description) + description
            elif method == b"SETUP":
                head += b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
            else:
                head += b"\r\n"
            connection.sendall(head)
            if method == b"PLAY":
                break
            request = connection.recv(65536)
        number = 0
        while request:
            number += 1
            rtp = struct.pack(">BBHII", 0x80, 96, number & 0xFFFF, 0, 1) + frame(number)
            connection.sendall(b"$\0" + struct.pack(">H", len(rtp)) + rtp)

    return answer


@pytest.mark.slow
def test_an_rtsp_frame_without_end_takes_little_memory() -> None:
    # One unit of the network abstraction layer, in fragments (RFC 6184, 5.8) of which none is the last.
    body = b"\xab" * 60000
    with RawServer(hostile_rtsp(lambda number: (b"\x7c\x85" if number == 1 else b"\x7c\x05") + body)) as server:
        peak_mb, said = peak_of(f"rtsp://{server.place}/cam")
    assert "SourceError" in said or "RefusedError" in said
    assert peak_mb < 6 * limits.PACKET_BYTES / 2**20


def test_the_largest_picture_of_h264_that_is_allowed_is_decoded() -> None:
    av = pytest.importorskip("av")
    import_av()
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.options = 8192, 4320, "yuv420p", {"preset": "ultrafast"}
    frame = av.VideoFrame(8192, 4320, "yuv420p")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    decoder = av.CodecContext.create("h264", "r")
    decoder.options = {"max_pixels": str(limits.VIDEO_PIXELS)}
    (decoded,) = [*decoder.decode(packets[0]), *decoder.decode(None)]
    assert decoded.to_ndarray(format="bgr24").shape == (4320, 8192, 3)


def forbidden(requests: list[bytes]) -> RawServer:
    """Another host of the network, which nobody may reach."""
    server = RawServer(lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nsecret"), "127.0.0.2")
    server.requests = requests
    return server


@pytest.mark.parametrize(
    "where",
    [
        "http://{other}/admin",
        "https://{other}/admin",
        "//{other}/admin",
        "http://127.0.0.1:1/x",
        "ftp://{other}/x",
        "file:///etc/passwd",
        "rtsp://{other}/",
        "data:image/jpeg,x",
        "http://[::1/x",
    ],
)
def test_a_camera_redirects_nobody_to_another_host(where: str) -> None:
    reached: list[bytes] = []
    with forbidden(reached) as other:
        where = where.format(other=other.place)
        answer = f"HTTP/1.1 302 Found\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()
        with RawServer(lambda connection, _: connection.sendall(answer)) as server:
            camera = open_source(f"http://bob:Xq7vW@{server.place}/cam", give_up_s=0.2)
            with pytest.raises(SourceError, match=f"^http://{server.place}/cam: "):
                camera.read()
            camera.close()
            assert len(server.requests) >= 1
    assert reached == []


def test_an_rtsp_camera_redirects_nobody_to_another_host() -> None:
    av = pytest.importorskip("av")
    if av.library_versions["libavformat"] < (62, 12):
        pytest.skip("FFmpeg before 8.1 follows it")
    reached: list[bytes] = []
    with forbidden(reached) as other, RawServer(hostile_rtsp(lambda _: b"", f"rtsp://{other.place}/x")) as server:
        camera = open_source(f"rtsp://bob:Xq7vW@{server.place}/cam", give_up_s=0.2)
        with pytest.raises(SourceError):
            camera.read()
        camera.close()
        assert server.requests
    assert reached == []


def test_a_redirect_within_the_camera_is_followed() -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"GET /cam "):
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /video?x=1\r\nContent-Length: 0\r\n\r\n")
        elif request.startswith(b"GET /video?x=1 "):
            connection.sendall(MULTIPART + part(PLAIN) * 50)

    with RawServer(answer) as server:
        frame = open_source(f"http://{server.place}/cam").read()
        assert frame is not None
        assert frame.size_hw == (48, 64)
        assert frame.source == f"http://{server.place}/cam"


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://{other}/admin/x.ts\n#EXT-X-ENDLIST\n",
        '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI="http://{other}/k"\n#EXTINF:1,\nx.ts\n',
        "ffconcat version 1.0\nfile 'http://{other}/c.mp4'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 45678 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static' "
        "mediaPresentationDuration='PT10S' profiles='urn:mpeg:dash:profile:isoff-main:2011'><Period><AdaptationSet "
        "mimeType='video/mp4'><Representation id='1' bandwidth='1' codecs='avc1'><BaseURL>http://{other}/d.mp4</BaseURL>"
        "</Representation></AdaptationSet></Period></MPD>",
    ],
)
@pytest.mark.parametrize("kind", ["application/vnd.apple.mpegurl", "application/sdp", "multipart/x-mixed-replace"])
def test_a_playlist_in_the_place_of_a_stream_opens_nothing(playlist: str, kind: str) -> None:
    reached: list[bytes] = []
    with forbidden(reached) as other:
        body = playlist.format(other=other.place).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with RawServer(lambda connection, _: connection.sendall(head + body)) as server:
            camera = open_source(f"http://{server.place}/cam.m3u8", give_up_s=0.2)
            with pytest.raises(SourceError):
                camera.read()
            camera.close()
            assert len(server.requests) >= 1
            assert len({request.split(b"\r\n")[0] for request in server.requests}) == 1
    assert reached == []
    assert not re.search(r":B26E\b", Path("/proc/net/udp").read_text())


@pytest.mark.parametrize(
    ("wait_s", "message"),
    [(99.0, "no data for 1 s"), (0.1, "no data for 1 s")],
    ids=["silence", "a drip"],
)
def test_an_answer_that_does_not_come_is_not_waited_for(
    wait_s: float, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "OPEN_TIMEOUT_S", 1.0)
    stop = threading.Event()

    def answer(connection: socket.socket, _: bytes) -> None:
        for byte in MULTIPART * 9:
            if stop.wait(wait_s):
                return
            connection.sendall(bytes([byte]))

    with RawServer(answer) as server:
        try:
            with pytest.raises(SourceError, match=message):
                network.NetworkConnection(read_address(f"http://{server.place}/cam"))
        finally:
            stop.set()


def test_headers_without_end_are_not_read_for_ever() -> None:
    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X-A: " + b"a" * 1000 + b"\r\n")

    with RawServer(answer) as server, pytest.raises(SourceError, match="no HTTP"):
        network.NetworkConnection(read_address(f"http://{server.place}/cam"))


def test_a_camera_over_http_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "READ_TIMEOUT_S", 600.0)

    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(MULTIPART + part(PLAIN) * 9)
        connection.recv(1)

    with RawServer(answer) as server:
        camera = open_source(f"http://{server.place}/cam")
        frames: list[Any] = []

        def read() -> None:
            while (frame := camera.read()) is not None:
                frames.append(frame)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        wait_for(lambda: len(frames) > 5)
        camera.interrupt()
        reader.join(60)
        assert not reader.is_alive()
        camera.close()


def digest_answer(request: bytes, user: str, password: str) -> bytes:
    """What a camera that asks for Digest (RFC 7616, MD5) answers to a request."""
    found = dict(re.findall(r'(\w+)="?([^",]+)"?', request.decode().partition("Authorization: Digest ")[2]))
    if found:
        one = hashlib.md5(f"{user}:cam:{password}".encode()).hexdigest()
        two = hashlib.md5(f"GET:{found['uri']}".encode()).hexdigest()
        wanted = hashlib.md5(f"{one}:{found['nonce']}:{found['nc']}:{found['cnonce']}:auth:{two}".encode()).hexdigest()
        if found["response"] == wanted:
            return MULTIPART + part(PLAIN) * 50
    return (
        b'HTTP/1.1 401 Xq7vW bob\r\nWWW-Authenticate: Digest realm="cam", nonce="n0nce", qop="auth"\r\n'
        b"Content-Length: 0\r\n\r\n"
    )


def basic_answer(request: bytes, user: str, password: str) -> bytes:
    if b"Authorization: Basic " + b64encode(f"{user}:{password}".encode()) in request:
        return MULTIPART + part(PLAIN) * 50
    return b'HTTP/1.1 401 Xq7vW bob\r\nWWW-Authenticate: Basic realm="cam"\r\nContent-Length: 0\r\n\r\n'


@pytest.mark.parametrize("answer", [digest_answer, basic_answer])
def test_passwords_of_http_cameras_work_and_are_never_told(
    answer: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    password = "Xq7vW:/#?%!"
    with RawServer(lambda connection, request: connection.sendall(answer(request, "bob", password))) as server:
        camera = open_source(f"http://bob:Xq7vW:/#?%25!@{server.place}/cam?x=1", give_up_s=0.5)
        frame = camera.read()
        assert frame is not None
        assert frame.size_hw == (48, 64)
        camera.close()
        camera = open_source(f"http://bob:Xq7vW@{server.place}/cam?token=Xq7vW", give_up_s=0.5)
        with pytest.raises(
            RefusedError, match=f"^http://{server.place}/cam.*refuses the user name or password"
        ) as caught:
            camera.read()
        camera.close()
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "Xq7vW" not in told.replace(Path(__file__).read_text(), "")
    assert caught.value.__context__ is None


@pytest.mark.parametrize("status", ["500 Xq7vW", "404 Xq7vW", "666 Xq7vW", "Xq7vW"])
def test_nothing_that_a_camera_answers_is_repeated(status: str) -> None:
    with RawServer(lambda connection, _: connection.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode())) as server:
        camera = open_source(f"http://bob:Xq7vW@{server.place}/cam?password=Xq7vW", give_up_s=0.1)
        with pytest.raises(SourceError) as caught:
            camera.read()
        camera.close()
    assert "Xq7vW" not in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert "Xq7vW" not in repr(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("scheme", ["rtsp", "rtsp+udp"])
def test_a_password_of_an_rtsp_camera_works_as_it_is_typed(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    password = "p#s/s@?:%é"
    monkeypatch.setenv("CAM_PASS", password)
    with rtsp_server(user="bob", password=password) as server:
        place = server.url.partition("//")[2]
        for typed in ("p#s/s@?:%é", "$CAM_PASS", "p%23s%2Fs%40%3F%3A%25%C3%A9"):
            camera = open_source(f"{scheme}://bob:{typed}@{place}")
            frame = camera.read()
            assert frame is not None
            assert frame.source == f"{scheme}://{place}"
            camera.close()
        camera = open_source(f"{scheme}://bob:Xq7vW@{place}")
        with pytest.raises(RefusedError, match="user name or password") as caught:
            camera.read()
        camera.close()
    assert caught.value.__context__ is None


def test_credentials_that_ffmpeg_would_cut_are_refused() -> None:
    camera = open_source(f"rtsp://bob:{'x' * 124}@127.0.0.1:1/cam")
    with pytest.raises(RefusedError, match="more than 127 characters"):
        camera.read()
    camera.close()


@pytest.mark.slow
def test_h265_over_rtsp() -> None:
    with rtsp_server(codec="hevc") as server:
        camera = open_source(server.url)
        for _ in range(10):
            frame = camera.read()
            assert frame is not None
            assert frame.size_hw == (240, 320)
        camera.close()


def test_a_stream_of_another_codec_is_refused() -> None:
    av = pytest.importorskip("av")
    import io

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(20):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(GREEN), "bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-matroska\r\n\r\n" + file.getvalue()
    with RawServer(lambda connection, _: connection.sendall(answer)) as server:
        camera = open_source(f"http://{server.place}/cam")
        with pytest.raises(RefusedError, match="its video is ffv1, expected one of h264, hevc"):
            camera.read()
        camera.close()
