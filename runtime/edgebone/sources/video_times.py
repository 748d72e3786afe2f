"""Display times of a video's frames."""

from __future__ import annotations

import logging

_ASSUMED_FPS = 25.0
# A time stamp that goes back by less is a frame out of order; by more, the recording's times restart.
_ANEW_S = 1.0
# One that jumps forward by more means that the clock was set, not a pause.
_LONGEST_PAUSE_S = 86_400.0

_log = logging.getLogger("edgebone.sources")


class Times:
    """Turns a recording's presentation times into increasing seconds from its first frame.

    A missing or repeated time is derived from the rate, with one warning. If times restart, as in joined recordings or
    after a clock wrapped around or was set, they continue from there.

    Args:
        name: The recording's name, for the message.
        fps: Frames per second as stated; None if not stated.
    """

    def __init__(self, name: str, fps: float | None) -> None:
        self._name = name
        self._fps = fps
        self._period_s = 1 / (fps or _ASSUMED_FPS)
        # The recording's clock at the first frame.
        self._first_s: float | None = None
        self._last_s: float | None = None
        self._said = False

    def of(self, stamp_s: float | None) -> float:
        """Return the time of the next frame.

        Args:
            stamp_s: Its time stamp, in seconds on the recording's clock; None if it has none.

        Returns:
            Seconds from the first frame, increasing.
        """
        if self._last_s is None:
            self._first_s, self._last_s = stamp_s, 0.0
            return 0.0
        made_s = self._last_s + self._period_s
        if stamp_s is None or self._first_s is None:
            self._say()
            # Frames without times may precede the first one with a time.
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
            "%s: frames without a time; times are derived from a rate of %.5g frames per second%s",
            self._name, 1 / self._period_s, assumed,
        )  # fmt: skip
