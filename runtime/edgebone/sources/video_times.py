"""When a video's frames are shown."""

from __future__ import annotations

import logging

_ASSUMED_FPS = 25.0
# A stamp that goes back by less is one frame out of order; by more, the recording begins anew in the middle.
_ANEW_S = 1.0
# One that goes forward by more is of a clock that was set meanwhile, and no pause between two frames.
_LONGEST_PAUSE_S = 86_400.0

_log = logging.getLogger("edgebone.sources")


class Times:
    """Turns a recording's presentation times into seconds from its first frame that only grow.

    A time that is missing, or that stands still, is made from the rate, which is said once. Where the times begin anew
    in the middle, as in recordings that were joined or whose clock wrapped around or was set, they go on from there.

    Args:
        name: The recording's, for the message.
        fps: Frames a second, as the recording says; None where it does not.
    """

    def __init__(self, name: str, fps: float | None) -> None:
        self._name = name
        self._fps = fps
        self._period_s = 1 / (fps or _ASSUMED_FPS)
        # What the recording's clock showed at the first frame.
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
        if self._last_s is None:
            self._first_s, self._last_s = stamp_s, 0.0
            return 0.0
        made_s = self._last_s + self._period_s
        if stamp_s is None or self._first_s is None:
            self._say()
            # Frames without times may have come before the first that has one.
            self._first_s = self._first_s if stamp_s is None else stamp_s - made_s
            self._last_s = made_s
            return made_s
        step_s = stamp_s - self._first_s - self._last_s
        if step_s < -_ANEW_S or step_s > _LONGEST_PAUSE_S:
            self._first_s = stamp_s - made_s
        elif step_s <= 0:
            self._say()
        else:
            made_s = self._last_s + step_s
        self._last_s = made_s
        return made_s

    def _say(self) -> None:
        if self._said:
            return
        self._said = True
        assumed = "" if self._fps else ", which is assumed"
        _log.warning(
            "%s: frames without a time of their own; it is made from a rate of %.5g frames a second%s",
            self._name, 1 / self._period_s, assumed,
        )  # fmt: skip
