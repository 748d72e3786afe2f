"""USB cameras, through OpenCV and Video4Linux. Not run with a real camera by this project yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgebone.core.errors import SourceError
from edgebone.core.frame import Decode, raising
from edgebone.sources.address import Mode
from edgebone.sources.jpeg import decode_jpeg


class UsbConnection:
    """A camera on this machine.

    A size is requested in Motion JPEG first: uncompressed, most cameras deliver large pictures only at a few frames per
    second. JPEGs are decoded when a frame is accessed.

    Args:
        number: ``0`` is the first.
        mode: The requested mode.
        capture: Opens a device; by default OpenCV.

    Raises:
        SourceError: The camera does not exist, is in use, or lacks the mode.
    """

    def __init__(self, number: int, mode: Mode, capture: Any = cv2.VideoCapture) -> None:
        self._name = f"usb:{number}"
        self._capture: Any = capture(number, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            self._capture.release()
            found = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video[0-9]*"))
            there = f"cameras here: {', '.join(f'usb:{n}' for n in found)}" if found else "no camera found here"
            raise SourceError(f"{self._name} cannot be opened ({there}); plugged in, and not used by another program?")
        # Otherwise the driver's queue would hold outdated frames.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        try:
            self._negotiate(mode)
        except SourceError:
            self._capture.release()
            raise
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps: float | None = rate if rate > 0 else None
        self._jpeg = _fourcc(self._capture) == "MJPG" and bool(self._capture.set(cv2.CAP_PROP_CONVERT_RGB, 0))
        self._frames = 0

    def _negotiate(self, mode: Mode) -> None:
        form = mode.format or ("MJPG" if mode.size_hw or mode.fps else None)
        if form:
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*form))
        if mode.size_hw:
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, mode.size_hw[0])
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, mode.size_hw[1])
        if mode.fps:
            self._capture.set(cv2.CAP_PROP_FPS, mode.fps)
        # The driver silently chooses the nearest mode.
        got_hw = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        )
        if mode.size_hw and got_hw != mode.size_hw:
            raise SourceError(f"{self._name} has no mode of {mode}; the nearest is {got_hw[1]}x{got_hw[0]}")
        if mode.format and _fourcc(self._capture) != mode.format:
            raise SourceError(
                f"{self._name} has no format {mode.format} in this mode; it delivers {_fourcc(self._capture)}"
            )

    def grab(self) -> Decode:
        """Wait for the next frame; see :class:`edgebone.sources.camera.Connection`."""
        try:
            good, image = self._capture.read()
        except cv2.error as error:
            return raising(SourceError(f"{self._name}: a damaged picture ({type(error).__name__})"))
        if not good:
            raise SourceError(f"{self._name} delivers no more frames after {self._frames}; unplugged?")
        if not isinstance(image, np.ndarray):
            return raising(SourceError(f"{self._name}: a damaged picture ({type(image).__name__})"))
        self._frames += 1
        if self._jpeg:
            return lambda: decode_jpeg(image.reshape(-1), self._name)
        return lambda: np.asarray(image, np.uint8)

    def interrupt(self) -> None:
        """A read ends with the next frame or at OpenCV's own time-out."""

    def close(self) -> None:
        """Free the camera."""
        self._capture.release()


def _fourcc(capture: Any) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    return code.to_bytes(4, "little", signed=code < 0).decode("ascii", "replace")
