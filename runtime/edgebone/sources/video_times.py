"""When a video's frames are shown."""

from __future__ import annotations

import logging

_ASSUMED_FPS = 25.0
# A stamp that goes back by less is one frame out of order; by more, the recording begins anew in the middle.
_ANEW_S = 1.0

_log = logging.getLogger("edgebone.sources")


class Times:
    """Turns a recording's presentation times into seconds from its first frame that only grow.

    A time that is missing, or that stands still, is made from the rate, which is said once. Where the times begin anew
    in the middle, as in recordings that were joined or whose clock wrapped around, they go on from there.

    Args:
        name: The recording's, for the message.
        fps: Frames a second, as the recording says; None where it does not.
    """

    def __init__(self, name: str, fps: float | None) -> None:
        self._name = name
        self._fps = fps
        self._first_s: float | None = None
        self._last_s: float | None = None
        self._said = False

    def of(self, stamp_s: float | None) -> float:
        """The time of the next frame.

        Args:
            stamp_s: Its own, in seconds on the recording's clock; None where it has none.

        Returns:
            Seconds from the first frame; more than the one before.
        """
        last_s = self._last_s
        if last_s is None:
            self._first_s = stamp_s
            self._last_s = 0.0
        elif stamp_s is not None and self._first_s is None:
            # Frames without times came before.
            self._last_s = self._made(last_s)
            self._first_s = stamp_s - self._last_s
        elif stamp_s is not None and self._first_s is not None and stamp_s - self._first_s > last_s:
            self._last_s = stamp_s - self._first_s
        elif stamp_s is not None and self._first_s is not None and stamp_s - self._first_s < last_s - _ANEW_S:
            self._last_s = last_s + 1 / (self._fps or _ASSUMED_FPS)
            self._first_s = stamp_s - self._last_s
        else:
            self._last_s = self._made(last_s)
        return self._last_s

    def _made(self, last_s: float) -> float:
        said_fps = self._fps
        fps = said_fps or _ASSUMED_FPS
        if not self._said:
            self._said = True
            assumed = "" if said_fps else ", which is assumed"
            _log.warning(
                "%s: frames without a time of their own; it is made from a rate of %.5g frames a second%s",
                self._name, fps, assumed,
            )  # fmt: skip
        return last_s + 1 / fps
