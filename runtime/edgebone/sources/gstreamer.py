"""Reads frames from a GStreamer pipeline: CSI cameras and hardware decoders.

The pipeline runs in its own process (``gst-launch-1.0``), which writes raw NV12 frames into a pipe: OpenCV's wheels are
built without GStreamer, and a driver that hangs or crashes affects nothing else.

Not run on a Jetson by this project yet: the pipelines of ``nvarguscamerasrc`` and ``nvv4l2decoder`` follow NVIDIA's
documentation (Jetson Linux Developer Guide, Accelerated GStreamer); the same code is tested with a PC's elements.
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
    """Return the pipeline of a camera on a Jetson's CSI port, up to NV12 frames in main memory.

    Args:
        number: The sensor's number, from 0.
        size_hw: Height and width, one of the sensor's modes.
        fps: Frames per second, of the same mode.
    """
    height, width = size_hw
    camera = f"video/x-raw(memory:NVMM),width={width},height={height},framerate={fps}/1,format=NV12"
    return ["nvarguscamerasrc", f"sensor-id={number}", "!", camera, "!", "nvvidconv", "!", _nv12(size_hw)]


def decoding_pipeline(codec: str, size_hw: tuple[int, int], decoder: str, converter: str) -> list[str]:
    """Return the pipeline that decodes a stream from its standard input, up to NV12 frames in main memory.

    Args:
        codec: ``h264`` or ``hevc``.
        size_hw: Height and width of the output frames.
        decoder: The decoder element, such as ``nvv4l2decoder``.
        converter: The element that copies frames to main memory and scales them, such as ``nvvidconv``.
    """
    return ["fdsrc", "fd=0", "!", _PARSERS[codec], "!", *decoder.split(), "!", *converter.split(), "!", _nv12(size_hw)]


def _nv12(size_hw: tuple[int, int]) -> str:
    return f"video/x-raw,format=NV12,width={size_hw[1]},height={size_hw[0]}"


def why_no_hardware(has_element: Callable[[str], bool] | None = None) -> str:
    """Explain why a Jetson's decoder cannot be used; empty if it can."""
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
    """A running pipeline and its frames.

    Args:
        elements: The pipeline's elements, up to NV12 frames of ``size_hw`` in main memory.
        size_hw: Height and width; even, as NV12 requires.
        name: The source's name in messages.
        fps: Frames per second, if known.
        feeds: Whether data is written to its standard input.

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
        # Its own process group: only edgebone reacts to Ctrl-C in the terminal.
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
            # Fewer reads per frame; a smaller limit also works.
            fcntl.fcntl(self._frames, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE_BYTES)
        self._listener = threading.Thread(target=self._listen, name=f"edgebone-read-{name}-messages", daemon=True)
        self._listener.start()

    @property
    def feed(self) -> IO[bytes]:
        """The file for a decoder's input."""
        assert self._process.stdin is not None
        return self._process.stdin

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.decode(errors="replace").strip())

    def grab(self) -> Planes:
        """Wait for the next frame; see :class:`edgebone.sources.camera.Connection`."""
        height, width = self._size_hw
        # GStreamer aligns each row of raw video to four bytes.
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
            # Not FileIO.readinto, which would wait for more data.
            taken = os.readv(self._frames.fileno(), [rest])
            if not taken:
                raise SourceError(f"{self._name}: GStreamer stopped{self._last_words()}")
            rest = rest[taken:]

    def _last_words(self) -> str:
        self._listener.join(0.2)
        errors = [line for line in self._said if "ERROR" in line or "WARN" in line or "erroneous" in line]
        return f": {errors[0].removeprefix('ERROR: ')}" if errors else ""

    def interrupt(self) -> None:
        """End the process, which ends a ``grab``."""
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
    """The hardware does not decode the stream's codec. Exit code 4."""


class HardwareConnection:
    """A network camera whose H.264 or H.265 a GStreamer element decodes; FFmpeg handles the network.

    The address and its password stay in this process: the pipeline receives the stream through its standard input.

    Args:
        address: ``rtsp://``, …
        decoder: The decoder element.
        converter: The element that copies frames to main memory.

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
                    f"{self._name}: frames of {width}x{height}, but 1 to {limits.VIDEO_PIXELS:,} pixels are supported"
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
            # The pipeline then ends, and so does the waiting grab.
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
        """End the pipeline, which ends a ``grab``."""
        self._pipeline.interrupt()

    def close(self) -> None:
        """End the pipeline and disconnect."""
        self._pipeline.close()
        self._feeder.join()
        self._stream.close()


def to_bgr(nv12: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert NV12 (uint8, shape (height · 3 / 2, width), BT.601) to BGR (height, width, 3)."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(nv12), cv2.COLOR_YUV2BGR_NV12), np.uint8)
