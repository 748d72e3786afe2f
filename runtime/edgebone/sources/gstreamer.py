"""Frames out of a GStreamer pipeline: CSI cameras, and hardware decoders.

The pipeline runs in a process of its own (``gst-launch-1.0``) that writes raw NV12 frames into a pipe: OpenCV's wheels
are built without GStreamer, and a driver that hangs or crashes takes nobody with it.

Not run on a Jetson by this project yet: the pipelines of ``nvarguscamerasrc`` and ``nvv4l2decoder`` are written after
NVIDIA's documentation (Jetson Linux Developer Guide, Accelerated GStreamer); the same code with the elements of a PC
is tested.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.frame import Planes
from edgebone.core.own_process import find_program
from edgebone.sources.network import READ_TIMEOUT_S, NetworkStream
from edgebone.sources.network_address import NetworkAddress

PROGRAM = "gst-launch-1.0"
# The camera's process starts, finds its sensor and sets its exposure before the first frame.
_FIRST_FRAME_S = 15.0
_PIPE_BYTES = 1 << 20
_PARSERS = {"h264": "h264parse", "hevc": "h265parse"}


def csi_pipeline(number: int, size_hw: tuple[int, int], fps: int) -> list[str]:
    """The pipeline of a camera on a Jetson's CSI port, up to NV12 frames in main memory.

    Args:
        number: The sensor's number, from 0.
        size_hw: Height and width, one of the sensor's modes.
        fps: Frames a second, of the same mode.
    """
    height, width = size_hw
    camera = f"video/x-raw(memory:NVMM),width={width},height={height},framerate={fps}/1,format=NV12"
    return ["nvarguscamerasrc", f"sensor-id={number}", "!", camera, "!", "nvvidconv", "!", _nv12(size_hw)]


def decoding_pipeline(codec: str, size_hw: tuple[int, int], decoder: str, converter: str) -> list[str]:
    """The pipeline that decodes a stream from its standard input, up to NV12 frames in main memory.

    Args:
        codec: ``h264`` or ``hevc``.
        size_hw: Height and width of the frames that come out, whatever comes in.
        decoder: The element that decodes, such as ``nvv4l2decoder``.
        converter: The element that brings frames to main memory and to this size, such as ``nvvidconv``.
    """
    return ["fdsrc", "fd=0", "!", _PARSERS[codec], "!", *decoder.split(), "!", *converter.split(), "!", _nv12(size_hw)]


def _nv12(size_hw: tuple[int, int]) -> str:
    return f"video/x-raw,format=NV12,width={size_hw[1]},height={size_hw[0]}"


def why_no_hardware(has_element: Callable[[str], bool] | None = None) -> str:
    """Why a Jetson's decoder cannot be used here, in a few words; empty where it can."""
    if find_program(PROGRAM) is None:
        return f"{PROGRAM} is not installed (apt-get install gstreamer1.0-tools)"
    for element in ("nvv4l2decoder", "nvvidconv"):
        if not (has_element or _has_element)(element):
            return f"GStreamer has no {element}"
    return ""


def _has_element(name: str) -> bool:
    inspect = find_program("gst-inspect-1.0")
    if inspect is None:
        return False
    return subprocess.run([inspect, "--exists", name], check=False, capture_output=True).returncode == 0


class Pipeline:
    """A running pipeline and the frames that come out of it.

    Args:
        elements: Up to NV12 frames of ``size_hw`` in main memory.
        size_hw: Height and width; even numbers, as NV12 needs.
        name: What the frames are called in messages.
        fps: Frames a second, where that is known.
        feeds: Whether something is written into its standard input.

    Raises:
        SourceError: GStreamer is not installed.
    """

    def __init__(
        self, elements: list[str], size_hw: tuple[int, int], name: str, fps: float | None = None, feeds: bool = False
    ) -> None:
        self.fps = fps
        self._name = name
        self._size_hw = size_hw
        self._began = False
        self._said: collections.deque[str] = collections.deque(maxlen=20)
        program = find_program(PROGRAM)
        if program is None:
            raise SourceError(
                f"{name}: {PROGRAM} is not installed: apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good"
            )
        # A process group of its own: Ctrl-C in the terminal is for edgebone to act on.
        self._process = subprocess.Popen(
            [program, "-q", *elements, "!", "fdsink", "fd=1", "sync=false"],
            stdin=subprocess.PIPE if feeds else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdout is not None
        self._frames = self._process.stdout
        with contextlib.suppress(OSError):
            # Fewer turns a frame; a system that allows less still works.
            fcntl.fcntl(self._frames, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE_BYTES)
        self._listener = threading.Thread(target=self._listen, name=f"edgebone-read-{name}-messages", daemon=True)
        self._listener.start()

    @property
    def feed(self) -> IO[bytes]:
        """Where a decoder's input is written."""
        assert self._process.stdin is not None
        return self._process.stdin

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.decode(errors="replace").strip())

    def grab(self) -> Planes:
        """Wait for the next frame; see :class:`edgebone.sources.camera.Connection`."""
        height, width = self._size_hw
        # GStreamer begins each row of raw video at a multiple of four bytes.
        rows = np.empty((height * 3 // 2, -(-width // 4) * 4), np.uint8)
        limit_s = READ_TIMEOUT_S if self._began else _FIRST_FRAME_S
        self._fill(rows.reshape(-1).data, time.monotonic() + limit_s, limit_s)
        self._began = True
        nv12 = rows[:, :width]
        return Planes(self._size_hw, lambda: np.ascontiguousarray(nv12), lambda: to_bgr(nv12))

    def _fill(self, rest: memoryview, deadline_s: float, limit_s: float) -> None:
        while rest:
            waits_s = deadline_s - time.monotonic()
            if waits_s <= 0 or not select.select([self._frames], [], [], waits_s)[0]:
                raise SourceError(f"{self._name}: no frame for {limit_s:g} s{self._last_words()}")
            # Not a FileIO's readinto: it would wait for more where this takes what is there.
            taken = os.readv(self._frames.fileno(), [rest])
            if not taken:
                raise SourceError(f"{self._name}: GStreamer stopped{self._last_words()}")
            rest = rest[taken:]

    def _last_words(self) -> str:
        self._listener.join(0.2)
        errors = [line for line in self._said if "ERROR" in line or "WARN" in line or "erroneous" in line]
        return f": {errors[0].removeprefix('ERROR: ')}" if errors else ""

    def interrupt(self) -> None:
        """End the process, on which a ``grab`` ends."""
        self._process.kill()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class SoftwareOnlyError(SourceError):
    """The stream is of a codec that the hardware does not decode. Exit code 4."""


class HardwareConnection:
    """A network camera whose H.264 or H.265 a GStreamer element decodes; the network side is FFmpeg's.

    The address, and the password in it, stay in this process: the pipeline gets the stream through its standard input.

    Args:
        address: ``rtsp://``, …
        decoder: The element that decodes.
        converter: The element that brings frames to main memory.

    Raises:
        MissingDependencyError: PyAV is not installed.
        SoftwareOnlyError: The stream is of another codec.
        SourceError: The camera or the pipeline cannot be opened, or the frames are larger than ``limits`` allows.
    """

    def __init__(self, address: NetworkAddress, decoder: str = "nvv4l2decoder", converter: str = "nvvidconv") -> None:
        self._name = address.name
        self._stream = NetworkStream(address)
        codec = self._stream.codec
        height, width = self._stream.size_hw
        size_hw = (height // 2 * 2, width // 2 * 2)
        try:
            if codec not in _PARSERS:
                raise SoftwareOnlyError(f"{codec} is not among {', '.join(_PARSERS)}")
            if not 0 < size_hw[0] * size_hw[1] <= limits.VIDEO_PIXELS:
                raise SourceError(
                    f"{self._name}: frames of {width}x{height}, and from 1 to {limits.VIDEO_PIXELS:,} pixels are taken"
                )
            elements = decoding_pipeline(codec, size_hw, decoder, converter)
            self._pipeline = Pipeline(elements, size_hw, self._name, feeds=True)
        except SourceError:
            self._stream.close()
            raise
        self.fps = self._stream.fps
        self._error: Exception | None = None
        self._feeder = threading.Thread(target=self._feed, name=f"edgebone-read-{self._name}-packets", daemon=True)
        self._feeder.start()

    def _feed(self) -> None:
        try:
            if self._stream.decoder.extradata:
                self._pipeline.feed.write(bytes(self._stream.decoder.extradata))
            while (packet := self._stream.next_packet()) is not None:
                self._pipeline.feed.write(bytes(packet))
        except Exception as error:
            self._error = error
        finally:
            # The pipeline then ends, and with it the grab that waits for it.
            with contextlib.suppress(OSError):
                self._pipeline.feed.close()

    def grab(self) -> Planes:
        """Wait for the next frame; see :class:`edgebone.sources.camera.Connection`."""
        try:
            return self._pipeline.grab()
        except SourceError as error:
            if isinstance(self._error, SourceError):
                raise self._error from None
            raise error

    def interrupt(self) -> None:
        """End the pipeline, on which a ``grab`` ends."""
        self._pipeline.interrupt()

    def close(self) -> None:
        """End the pipeline and disconnect."""
        self._pipeline.close()
        self._feeder.join()
        self._stream.close()


def to_bgr(nv12: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert NV12 (uint8, shape (height · 3 / 2, width), BT.601) to BGR (height, width, 3)."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(nv12), cv2.COLOR_YUV2BGR_NV12), np.uint8)
