"""Limits of a source: which frames are processed, and which part of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame

# A frame that arrives slightly early counts as on time.
_EARLY = 0.9


@dataclass(frozen=True)
class Limits:
    """The limits of a source's frames.

    Attributes:
        max_fps: Largest number of frames per second, by a recording's own time or a live source's clock; None for all.
        every: Use every N-th frame, from the first. Frames keep their numbers.
        roi_xyxy: The region of interest in pixels: left, top, right, bottom; None for the whole picture. Results are in
            the region's own pixels; a frame's ``origin_xy`` is the region's corner.

    Raises:
        SourceError: An invalid limit.
    """

    max_fps: float | None = None
    every: int = 1
    roi_xyxy: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.max_fps is not None and not 0 < self.max_fps < 1e6:
            raise SourceError(f"max_fps must be above 0, not {self.max_fps:g}")
        if self.every < 1:
            raise SourceError(f"every must be 1 or more, not {self.every}")
        if self.roi_xyxy is not None:
            left, top, right, bottom = self.roi_xyxy
            if not (0 <= left < right and 0 <= top < bottom):
                given = ",".join(map(str, self.roi_xyxy))
                raise SourceError(f"a region of interest must be left, top, right, bottom in pixels, not {given}")

    def cut(self, frame: Frame) -> Frame:
        """Return the frame's region of interest.

        Raises:
            SourceError: The region is outside the picture, or the frame is damaged.
        """
        if self.roi_xyxy is None:
            return frame
        left, top, right, bottom = self.roi_xyxy
        height, width = frame.size_hw
        if right > width or bottom > height:
            raise SourceError(
                f"{frame.source}: the region of interest {left},{top},{right},{bottom} is not within the picture of "
                f"{width}x{height}"
            )
        return frame.cut(frame.image[top:bottom, left:right], (left, top))


@dataclass(frozen=True)
class Limited:
    """A source with its own limits, in a stream of several.

    Attributes:
        source: A source, as for :meth:`edgebone.Model.stream`.
        limits: Its limits.
    """

    source: Any
    limits: Limits


class Pick:
    """Decides frame by frame which ones pass a source's limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._last_s: float | None = None

    def wants(self, frame: Frame) -> bool:
        """Return whether to process this frame; does not decode it.

        Raises:
            SourceError: ``max_fps`` is set for pictures without times.
        """
        if frame.index % self._limits.every:
            return False
        if self._limits.max_fps is None:
            return True
        if not frame.has_time:
            raise SourceError(
                f"{frame.source}: pictures have no times, so their rate cannot be limited: set their rate "
                "(--fps), or use every N-th (--every)"
            )
        now_s = frame.captured_at_ns / 1e9 if frame.position_s is None else frame.position_s
        period_s = 1 / self._limits.max_fps
        if self._last_s is not None and now_s - self._last_s < period_s * _EARLY:
            return False
        # Counted from the due time if it is near: rounding to whole frames must not lower the rate.
        due_s = now_s if self._last_s is None else self._last_s + period_s
        self._last_s = due_s if abs(now_s - due_s) < period_s else now_s
        return True
