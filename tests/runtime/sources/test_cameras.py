"""Cameras that go away and come back: real RTSP and HTTP servers on loopback, killed, paused and started again."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame
from edgebone.sources import gstreamer, network, open_source, opening
from edgebone.sources.address import Address, Mode, parse_address
from edgebone.sources.camera import Camera, RefusedError, wait_s
from edgebone.sources.health import State
from edgebone.sources.network_address import read_address
from edgebone.sources.usb import UsbConnection
from support.camera_servers import RtspServer, free_port, mjpeg_server, rtsp_server, wait_for
from support.pictures import GREEN, RED, picture


@contextlib.contextmanager
def reading(camera: Any) -> Iterator[list[Frame]]:
    """Reads a camera in a thread, as a stream does."""
    frames: list[Frame] = []

    def read() -> None:
        while (frame := camera.read()) is not None:
            frames.append(frame)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield frames
    finally:
        camera.interrupt()
        thread.join(network.READ_TIMEOUT_S + 2)
        assert not thread.is_alive()
        camera.close()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
def test_an_rtsp_camera_that_dies_comes_back_with_another_size_and_nothing_leaks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = RtspServer().start()
    try:
        camera = open_source(server.url)
        threads = threading.active_count() + 1
        with reading(camera) as frames:
            wait_for(lambda: len(frames) > 5)
            assert camera.health.state is State.LIVE
            assert frames[5].size_hw == (240, 320)
            before = open_descriptors()
            for size in ("160x120", "320x240"):
                server.kill()
                wait_for(lambda: camera.health.state is State.RECONNECTING)
                assert "127.0.0.1" in camera.health.error
                time.sleep(1.5)
                server.start(size=size)
                seen = len(frames)
                wait_for(lambda seen=seen: len(frames) > seen + 2)
                width, height = map(int, size.split("x"))
                assert frames[-1].size_hw == (height, width)
            assert camera.health.reconnects == 2
            assert camera.health.error == ""
            assert threading.active_count() <= threads
            assert open_descriptors() <= before
            assert [frame.index for frame in frames] == list(range(len(frames)))
        assert camera.health.state is State.ENDED
    finally:
        server.kill()
    told = [record.getMessage() for record in caplog.records if record.name == "edgebone.sources"]
    assert sum("retrying until" in line for line in told) <= 6
    assert sum("back after" in line for line in told) == 2


@pytest.mark.slow
def test_a_camera_that_stands_still_is_stalled_then_reconnecting_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "READ_TIMEOUT_S", 2.0)
    with rtsp_server() as server, reading(camera := open_source(server.url)) as frames:
        wait_for(lambda: len(frames) > 5)
        server.pause()
        wait_for(lambda: camera.health.state is State.STALLED)
        wait_for(lambda: camera.health.state is State.RECONNECTING)
        assert "no data for 2 s" in camera.health.error
        server.go_on()
        seen = len(frames)
        wait_for(lambda: len(frames) > seen + 3)
        assert camera.health.state is State.LIVE


@pytest.mark.slow
def test_a_camera_that_is_not_there_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    server = RtspServer()
    with reading(camera := open_source(server.url)) as frames:
        wait_for(lambda: bool(camera.health.error))
        assert camera.health.state is State.CONNECTING
        assert not frames
        server.start()
        try:
            wait_for(lambda: len(frames) > 2)
            assert camera.health.reconnects == 0
        finally:
            server.kill()
    assert "Connection refused" in caplog.text


def test_a_wrong_password_ends_it_and_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    with rtsp_server(user="bob", password="s3cret") as server:
        host = f"127.0.0.1:{server.port}"
        camera = open_source(f"rtsp://bob:wr0ng@{host}/cam")
        assert camera.name == f"rtsp://{host}/cam"
        with pytest.raises(RefusedError, match="user name or password") as caught:
            camera.read()
        assert "wr0ng" not in f"{caught.value}{caplog.text}"
        camera.close()
        with pytest.raises(RefusedError, match="no video there"):
            open_source(f"rtsp://bob:s3cret@{host}/none").read()
        good = open_source(f"rtsp+udp://bob:s3cret@{host}/cam")
        frame = good.read()
        assert frame is not None
        assert (frame.source, frame.size_hw) == (f"rtsp+udp://{host}/cam", (240, 320))
        good.close()


def test_a_camera_that_is_given_up_says_why() -> None:
    camera = open_source(f"rtsp://127.0.0.1:{free_port()}/cam", give_up_s=0.3)
    with pytest.raises(SourceError, match=r"Connection refused.*no frame for \d s, giving up"):
        camera.read()
    camera.close()


@pytest.mark.slow
def test_damaged_h264_gives_pictures_and_no_end() -> None:
    with rtsp_server(damage=0.3) as server, reading(camera := open_source(server.url)) as frames:
        wait_for(lambda: len(frames) > 40)
        assert all(frame.image.shape == (240, 320, 3) for frame in frames[-20:])
        assert camera.health.reconnects <= 1


@pytest.mark.slow
def test_h264_is_decoded_by_an_element_of_gstreamer(caplog: pytest.LogCaptureFixture) -> None:
    with rtsp_server(size="322x242") as server:
        camera = Camera(
            "cam",
            lambda: gstreamer.HardwareConnection(read_address(server.url), "avdec_h264", "videoconvert ! videoscale"),
        )
        with reading(camera) as frames:
            wait_for(lambda: len(frames) > 10)
            server.kill()
            wait_for(lambda: camera.health.state is State.RECONNECTING)
            server.start(size="322x242")
            seen = len(frames)
            wait_for(lambda: len(frames) > seen + 5)
        image = frames[-1].image
        assert image.shape == (242, 322, 3)
        # The server's ball is white on black.
        assert image.min() < 30
        assert image.max() > 220
    assert not [thread for thread in threading.enumerate() if "packets" in thread.name or "messages" in thread.name]


def jpeg(bgr: tuple[int, int, int]) -> bytes:
    return cv2.imencode(".jpg", picture(bgr))[1].tobytes()


def test_an_http_camera_with_empty_and_damaged_parts(colors_bundle: Any) -> None:
    import edgebone

    parts = [jpeg(GREEN), b"", jpeg(GREEN)[:40], b"\xff\xd8junk", jpeg(RED)]
    with mjpeg_server(parts) as url, edgebone.load(colors_bundle) as model:
        with model.stream(url) as stream:
            for number, (frame, result) in enumerate(stream):
                assert frame.image.shape == (48, 64, 3)
                assert result.label in ("green", "red")
                if number > 10:
                    break
        # One by one, since a stream may pass over a frame that the next one follows at once.
        camera = open_source(url)
        seen, damaged = set(), 0
        for _ in range(12):
            frame = camera.read()
            try:
                seen.add(model(frame).label)
            except SourceError as error:
                assert "a damaged picture of" in str(error)
                damaged += 1
        camera.close()
    assert seen == {"green", "red"}
    assert damaged == 6


def test_an_http_camera_that_hangs_up_is_called_again() -> None:
    with mjpeg_server([jpeg(GREEN)] * 3, forever=False) as url, reading(camera := open_source(url)) as frames:
        # A connection's last picture may be lost with it.
        wait_for(lambda: camera.health.reconnects >= 2 and len(frames) >= 6)
    assert [frame.index for frame in frames] == list(range(len(frames)))


def test_waits_grow_to_a_bound_and_spread() -> None:
    assert [round(wait_s(tries, 0.5), 3) for tries in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.2, 1.2]
    assert wait_s(9, 0.0) == pytest.approx(0.9)
    assert wait_s(999, 1.0) == pytest.approx(1.5)


def test_the_address_of_a_camera_of_this_machine() -> None:
    assert parse_address("usb:0") == Address("usb", 0, Mode())
    assert parse_address("usb:2?size=1280x720&fps=30&format=mjpg") == Address("usb", 2, Mode((720, 1280), 30, "MJPG"))
    assert parse_address("csi:1?fps=60") == Address("csi", 1, Mode(None, 60))
    assert parse_address("photo.jpg") is None
    for wrong in ("usb:x", "csi:0?format=mjpg", "usb:0?size=0x5", "usb:0?fps=9&fps=9", "csi:0?size=101x100"):
        with pytest.raises(SourceError, match=r"usb:0|csi|after the question mark|even"):
            parse_address(wrong)


def test_the_pipeline_of_a_csi_camera() -> None:
    line = " ".join(gstreamer.csi_pipeline(1, (720, 1280), 60))
    assert line == (
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM),width=1280,height=720,framerate=60/1,format=NV12 ! "
        "nvvidconv ! video/x-raw,format=NV12,width=1280,height=720"
    )


def test_the_pipeline_that_decodes_on_a_jetson() -> None:
    line = " ".join(gstreamer.decoding_pipeline("hevc", (720, 1280), "nvv4l2decoder", "nvvidconv"))
    assert line == "fdsrc fd=0 ! h265parse ! nvv4l2decoder ! nvvidconv ! video/x-raw,format=NV12,width=1280,height=720"


def test_why_the_hardware_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gstreamer, "find_program", lambda _: "/usr/bin/gst-launch-1.0")
    assert gstreamer.why_no_hardware(lambda _: True) == ""
    assert gstreamer.why_no_hardware(lambda name: name == "nvvidconv") == "GStreamer has no nvv4l2decoder"
    monkeypatch.setattr(gstreamer, "find_program", lambda _: None)
    assert "gst-launch-1.0 is not installed" in gstreamer.why_no_hardware()


@pytest.fixture
def gst() -> None:
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("needs gst-launch-1.0: see `.ci/run` for the Debian packages")


@pytest.mark.usefixtures("gst")
def test_a_pipeline_gives_frames_in_true_colours_and_ends_when_it_is_interrupted() -> None:
    elements = ["videotestsrc", "is-live=true", "pattern=red", "!", "video/x-raw,format=NV12,width=64,height=48"]
    pipeline = gstreamer.Pipeline(elements, (48, 64), "csi:0", 30.0)
    image = pipeline.grab().bgr()
    assert image.shape == (48, 64, 3)
    assert np.abs(image.astype(int) - (0, 0, 255)).max() <= 3
    threading.Timer(0.2, pipeline.interrupt).start()
    with pytest.raises(SourceError, match="csi:0: GStreamer stopped"):
        while True:
            pipeline.grab()
    pipeline.close()


@pytest.mark.usefixtures("gst")
def test_a_csi_camera_where_there_is_none_says_so_in_gstreamers_words() -> None:
    with pytest.raises(SourceError, match=r"csi:0.*nvarguscamerasrc"):
        open_source("csi:0").read()


class FakeCapture:
    """OpenCV's capture of a camera with two modes."""

    def __init__(self, *_: object) -> None:
        self.settings: dict[int, float] = {cv2.CAP_PROP_FRAME_WIDTH: 640, cv2.CAP_PROP_FRAME_HEIGHT: 480}
        self.settings[cv2.CAP_PROP_FOURCC] = cv2.VideoWriter.fourcc(*"YUYV")
        self.settings[cv2.CAP_PROP_FPS] = 30
        self.released = False

    def isOpened(self) -> bool:
        return True

    def set(self, name: int, value: float) -> bool:
        if name == cv2.CAP_PROP_FRAME_WIDTH:
            value = 1280 if value > 900 else 640
        if name == cv2.CAP_PROP_FRAME_HEIGHT:
            value = 720 if value > 600 else 480
        self.settings[name] = value
        return True

    def get(self, name: int) -> float:
        return self.settings[name]

    def read(self) -> tuple[bool, np.ndarray]:
        if self.settings.get(cv2.CAP_PROP_CONVERT_RGB) == 0:
            return True, np.frombuffer(jpeg(GREEN), np.uint8)[None]
        return True, picture(GREEN)

    def release(self) -> None:
        self.released = True


def test_a_usb_camera_is_asked_for_motion_jpeg_and_refused_where_it_has_no_such_mode() -> None:
    made: list[FakeCapture] = []

    def capture(*words: object) -> FakeCapture:
        made.append(FakeCapture(*words))
        return made[-1]

    camera = UsbConnection(0, Mode((720, 1280), 30), capture)
    assert made[0].settings[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
    assert np.abs(camera.grab()().astype(int) - GREEN).max() < 10
    plain = UsbConnection(0, Mode(), capture)
    assert made[1].settings[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"YUYV")
    assert np.array_equal(plain.grab()(), picture(GREEN))
    with pytest.raises(SourceError, match=r"usb:0 has no mode of 1920x1080.*nearest is 1280x720"):
        UsbConnection(0, Mode((1080, 1920)), capture)
    assert made[2].released


def sequence(steps: list[object]) -> Callable[[], Any]:
    """A camera's life: each connection takes the next steps up to an error."""
    left = list(steps)

    class Scripted:
        fps = 30.0

        def grab(self) -> Any:
            step = left.pop(0)
            if isinstance(step, Exception):
                raise step
            return step

        def interrupt(self) -> None:
            pass

        def close(self) -> None:
            pass

    return Scripted


def test_a_camera_that_refuses_after_it_was_live_is_tried_again() -> None:
    decode = lambda: picture(RED)  # noqa: E731
    camera = Camera("cam", sequence([decode, RefusedError("rebooting"), None, decode]))
    assert [camera.read().index for _ in range(2)] == [0, 1]  # type: ignore[union-attr]
    assert camera.health.reconnects == 1
    camera.close()


def test_warnings_come_once_a_change(caplog: pytest.LogCaptureFixture) -> None:
    lost = [SourceError("cable out")] * 4
    camera = Camera("cam", sequence([*lost, lambda: picture(RED)]))
    camera.read()
    assert caplog.text.count("cable out") == 1
    assert "cam: connected" in caplog.text


def test_a_jetson_decodes_in_software_what_its_decoder_does_not_know(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []
    monkeypatch.setattr(opening.Machine, "probe", lambda: SimpleNamespace(jetson="Jetson Orin Nano"))
    monkeypatch.setattr(gstreamer, "why_no_hardware", lambda: asked.append(1) or "")
    with mjpeg_server([jpeg(GREEN)] * 3, forever=False) as url, reading(camera := open_source(url)) as frames:
        # A connection's last picture may be lost with it.
        wait_for(lambda: camera.health.reconnects >= 2 and len(frames) >= 6)
    assert len(asked) == 1
    assert caplog.text.count("is decoded in software: mjpeg") == 1
    monkeypatch.setattr(gstreamer, "why_no_hardware", lambda: "GStreamer has no nvv4l2decoder")
    caplog.clear()
    with mjpeg_server([jpeg(GREEN)] * 3, forever=False) as url, reading(camera := open_source(url)) as frames:
        wait_for(lambda: camera.health.reconnects >= 2)
    assert caplog.text.count("is decoded in software: GStreamer has no nvv4l2decoder") == 1
