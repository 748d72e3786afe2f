"""One picture on its way through the runtime."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

Decode = Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True)
class Planes:
    """A picture as a video decoder outputs it, converted only on demand.

    Attributes:
        size_hw: Height and width in pixels; both are even.
        nv12: Returns the luma plane above the interleaved chroma plane: uint8, shape (height * 3 / 2, width), BT.601,
            studio range.
        bgr: Returns the same picture as uint8, shape (height, width, 3), BGR.
    """

    size_hw: tuple[int, int]
    nv12: Decode
    bgr: Decode


class Frame:
    """One picture and where it came from; not changed once it is made.

    Args:
        image: uint8, shape (height, width, 3), channels in BGR order; or a function that returns it, or planes. A
            camera's frames are decoded on first access: most frames that a busy model drops never are.
        index: Counts the frames of its source from 0; gaps are frames that were dropped.
        captured_at_ns: Monotonic clock (``time.monotonic_ns``) when the source delivered the frame.
        source: The name of the sequence that it belongs to: a video's path, a folder, ``usb:0``,
            ``synthetic://640x480@30``. State kept from frame to frame (tracks, zones) belongs to a source. Names are
            unique within a stream.
        position_s: The frame's own time within a recorded source, in seconds; None if it has none.
        origin_xy: The picture's corner in the camera's whole picture, in pixels; (0, 0) unless a region of interest was
            cut out.
        path: The picture's own file, where the sequence is one of picture files.
        page: The number of the picture within its file, from 1; None if the file has only one.
    """

    __slots__ = (
        "_decode", "_image", "_nv12", "_planes", "captured_at_ns", "index", "origin_xy", "page", "path", "position_s",
        "source",
    )  # fmt: skip

    def __init__(
        self,
        image: NDArray[np.uint8] | Decode | Planes,
        index: int,
        captured_at_ns: int,
        source: str,
        position_s: float | None = None,
        origin_xy: tuple[int, int] = (0, 0),
        path: str | None = None,
        page: int | None = None,
    ) -> None:
        self._planes = image if isinstance(image, Planes) else None
        self._decode = image.bgr if isinstance(image, Planes) else image if callable(image) else None
        self._image = image if isinstance(image, np.ndarray) else None
        self._nv12: NDArray[np.uint8] | None = None
        self.index = index
        self.captured_at_ns = captured_at_ns
        self.source = source
        self.position_s = position_s
        self.origin_xy = origin_xy
        self.path = path
        self.page = page

    @property
    def image(self) -> NDArray[np.uint8]:
        """The picture: uint8, shape (height, width, 3), BGR.

        Raises:
            SourceError: The frame is damaged and cannot be decoded.
        """
        if self._image is None:
            assert self._decode is not None
            self._image = self._decode()
            # The decoder's own frame is no longer needed.
            self._decode = self._planes = None
        return self._image

    @property
    def nv12_size_hw(self) -> tuple[int, int] | None:
        """Height and width if the frame is available as NV12; None if it is not, or is BGR already."""
        return None if self._planes is None else self._planes.size_hw

    @property
    def nv12(self) -> NDArray[np.uint8]:
        """The picture as uint8, shape (height * 3 / 2, width); only where ``nv12_size_hw`` is not None.

        Raises:
            SourceError: The frame is damaged and cannot be decoded.
        """
        if self._nv12 is None:
            assert self._planes is not None
            self._nv12 = self._planes.nv12()
        return self._nv12

    @property
    def has_time(self) -> bool:
        """Whether the frame's time is known; for picture files without times it is not."""
        return self.path is None or self.position_s is not None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.nv12_size_hw or (self.image.shape[0], self.image.shape[1])

    def renamed(self, source: str) -> Frame:
        """Return the same frame under another source name."""
        frame = copy.copy(self)
        frame.source = source
        return frame

    def cut(self, image: NDArray[np.uint8], origin_xy: tuple[int, int]) -> Frame:
        """Return the same frame with a part of its picture, whose corner in the camera's picture is ``origin_xy``."""
        frame = copy.copy(self)
        frame._decode = frame._planes = frame._nv12 = None
        frame._image, frame.origin_xy = image, origin_xy
        return frame

    def __repr__(self) -> str:
        """Without the pixels."""
        return f"Frame(index={self.index}, source={self.source!r}, position_s={self.position_s})"


def guarded(pixels: Decode | Planes, guard: Callable[[Decode], NDArray[np.uint8]]) -> Decode | Planes:
    """Return the same pixels, decoded through ``guard``, which words its own errors."""
    if isinstance(pixels, Planes):
        return Planes(pixels.size_hw, partial(guard, pixels.nv12), partial(guard, pixels.bgr))
    return partial(guard, pixels)


def raising(error: Exception) -> Decode:
    """Return the decode function of a damaged frame: it raises ``error``."""

    def decode() -> NDArray[np.uint8]:
        raise error

    return decode
