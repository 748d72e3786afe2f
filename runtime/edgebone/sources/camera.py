"""A camera that may go away and come back."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError
from edgebone.core.frame import Decode, Frame, Planes, guarded
from edgebone.sources.health import Health, State, is_stalled

# Tries follow each other soon enough that a camera is seen within 3 s of its return, and each camera at its own
# time, so that a switch that comes back does not have all of them knock at once.
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 1.2
_JITTER = 0.25

_log = logging.getLogger("edgebone.sources")


class RefusedError(SourceError):
    """The camera answered, and will answer the same again: wrong password, or an address that nobody can read."""


class RecordingEndedError(SourceError):
    """The address leads to a recording and no camera, and this was its end."""


class Connection(Protocol):
    """A camera's frames while it is there.

    Attributes:
        fps: Frames a second, as the camera says; None where it does not.
    """

    @property
    def fps(self) -> float | None:
        """See above."""

    def grab(self) -> Decode | Planes | None:
        """Wait for the next frame.

        Returns:
            What decodes it, in any thread; None when the camera has ended the stream.

        Raises:
            RecordingEndedError: What came had an end, which it reached.
            SourceError: The connection is lost, or nothing came for too long.
        """

    def interrupt(self) -> None:
        """Make a ``grab`` in another thread end soon, where that can be done."""

    def close(self) -> None:
        """Free it; no ``grab`` may be under way."""


class Camera:
    """A live source that connects again, for as long as it takes, when its connection is lost.

    What happens to it is logged to ``edgebone.sources`` as warnings, once a change.

    Args:
        name: What it is called, without credentials. Given another later on, it says that one from then on.
        connect: Makes a connection; raises ``SourceError``. A ``RefusedError`` ends a camera that was never live.
        first: A connection that is made already, to a camera that is expected to be there: what fails before its first
            frame is raised.
        give_up_s: After so long without a frame, and one more try that fails, ``read`` raises; None never gives up.
    """

    live = True
    in_memory = False
    frame_count = None

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connection],
        *,
        first: Connection | None = None,
        give_up_s: float | None = None,
    ) -> None:
        self.name = name
        self._name_of_connection = name
        self._connect_now = connect
        self._connection = first
        self._must_be_there = first is not None
        self.fps: float | None = first.fps if first else None
        self._give_up_s = give_up_s
        self._index = 0
        self._tries = 0
        self._reconnects = 0
        self._away = False
        self._ended = False
        self._error = ""
        self._seen_ns = time.monotonic_ns()
        self._interrupted = threading.Event()

    @property
    def health(self) -> Health:
        """How it is doing now; may be asked from any thread."""
        return Health(self._state(), self._reconnects, self._error)

    def _state(self) -> State:
        if self._ended:
            return State.ENDED
        if self._away:
            return State.RECONNECTING if self._index else State.CONNECTING
        if not self._index:
            return State.CONNECTING
        return State.STALLED if is_stalled(self._seen_ns, self.fps) else State.LIVE

    def read(self) -> Frame | None:
        """Wait for the next frame, over lost connections too.

        Returns:
            The frame, which is decoded when it is looked at; None once interrupted, or where a recording ended.

        Raises:
            RefusedError: The camera was never live, and refuses.
            SourceError: There was no frame for ``give_up_s``.
        """
        while not self._interrupted.is_set():
            began_ns = time.monotonic_ns()
            try:
                if self._connection is None:
                    self._connection = self._connect_now()
                    self.fps = self._connection.fps
                grabbed = self._connection.grab()
                if grabbed is None:
                    raise SourceError(f"{self.name}: the camera ended the stream")
            except RecordingEndedError as error:
                _log.warning("%s", self._of_this_camera(error))
                return None
            except SourceError as error:
                self._lose(error, began_ns)
                continue
            self._welcome()
            self._index += 1
            return Frame(guarded(grabbed, self._decoded), self._index - 1, self._seen_ns, self.name)
        return None

    def _decoded(self, decode: Decode) -> NDArray[np.uint8]:
        """The picture; whatever a decoder raises of what a camera sent is a damaged frame, and no more than that."""
        try:
            return decode()
        except SourceError as error:
            named = self._of_this_camera(error)
            if named is error:
                raise
            raise named from error
        except Exception as error:
            raise SourceError(f"{self.name}: a damaged picture ({type(error).__name__})") from error

    def _welcome(self) -> None:
        now_ns = time.monotonic_ns()
        if self._away:
            self._away = False
            self._tries = 0
            self._error = ""
            if self._index:
                self._reconnects += 1
                _log.warning("%s: back after %.1f s", self.name, (now_ns - self._seen_ns) / 1e9)
            else:
                _log.warning("%s: connected", self.name)
        self._seen_ns = now_ns

    def _lose(self, error: SourceError, began_ns: int) -> None:
        if self._interrupted.is_set():
            return
        error = self._of_this_camera(error)
        self._drop_connection()
        quiet_s = (time.monotonic_ns() - self._seen_ns) / 1e9
        # A process that stood still finds every time-out over; the camera may be there. So what counts is a try that
        # began when the time was up already.
        if self._give_up_s is not None and (began_ns - self._seen_ns) / 1e9 >= self._give_up_s:
            raise SourceError(f"{error}; no frame for {quiet_s:.0f} s, given up") from error
        if not self._index and (self._must_be_there or isinstance(error, RefusedError)):
            raise error
        if not self._away or str(error) != self._error:
            _log.warning("%s; trying again until it is there", error)
        self._away = True
        self._error = str(error)
        self._interrupted.wait(wait_s(self._tries, random.random()))
        self._tries += 1

    def _of_this_camera(self, error: SourceError) -> SourceError:
        """The error of a connection, which knows the address alone, under the name that this camera goes by."""
        text = str(error)
        if text.startswith(self.name) or not text.startswith(self._name_of_connection):
            return error
        return type(error)(self.name + text[len(self._name_of_connection) :])

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def interrupt(self) -> None:
        """End a ``read`` in another thread: at once where it waits to connect again, else as soon as it can."""
        self._interrupted.set()
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def close(self) -> None:
        """Let go of the camera."""
        self._interrupted.set()
        self._ended = True
        self._drop_connection()


def wait_s(tries: int, chance: float) -> float:
    """How long to wait before connecting again.

    Args:
        tries: How many have failed in a row before this one.
        chance: A random number from 0 to 1, by which the cameras' tries spread.

    Returns:
        Seconds: doubled from try to try up to a bound, a quarter more or less.
    """
    usual_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(tries, 10))
    return usual_s * (1 + _JITTER * (2 * chance - 1))
