"""A camera that may disconnect and reconnect."""

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

# Retries are frequent enough to find a camera within 3 s of its return, and randomised, so that cameras behind a
# returning switch do not all reconnect at once.
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 1.2
_JITTER = 0.25

_log = logging.getLogger("edgebone.sources")


class RefusedError(SourceError):
    """The camera's answer is permanent: wrong password, or an unusable address."""


class RecordingEndedError(SourceError):
    """The address is a recording, not a camera, and it has ended."""


class Connection(Protocol):
    """A connection to a camera that delivers frames.

    Attributes:
        fps: Frames per second as stated by the camera; None if not stated.
    """

    @property
    def fps(self) -> float | None:
        """See above."""

    def grab(self) -> Decode | Planes | None:
        """Wait for the next frame.

        Returns:
            A function that decodes it, callable from any thread; None if the camera has ended the stream.

        Raises:
            RecordingEndedError: The stream was a recording and has ended.
            SourceError: The connection is lost, or timed out.
        """

    def interrupt(self) -> None:
        """Make a ``grab`` in another thread end soon, if possible."""

    def close(self) -> None:
        """Free it; no ``grab`` may be in progress."""


class Camera:
    """A live source that reconnects, for as long as it takes, when its connection is lost.

    Each change of its state is logged once, as a warning to ``edgebone.sources``.

    Args:
        name: Its name, without credentials; may be changed later.
        connect: Opens a connection; raises ``SourceError``. A ``RefusedError`` ends a camera that was never live.
        first: An open connection to a camera that is expected to work: failures before its first frame are raised.
        give_up_s: Seconds without a frame after which one more failed try makes ``read`` raise; None never gives up.
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
        """Its current health; thread-safe."""
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
        """Wait for the next frame, reconnecting if needed.

        Returns:
            The frame, decoded on first access; None if interrupted, or if a recording ended.

        Raises:
            RefusedError: The camera was never live and refuses the connection.
            SourceError: No frame for ``give_up_s``.
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
        """Decode the picture; any error of a decoder on a camera's data only means a damaged frame."""
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
        # After a suspension every time-out has expired although the camera may work, so only a try that began after the
        # time-out counts.
        if self._give_up_s is not None and (began_ns - self._seen_ns) / 1e9 >= self._give_up_s:
            raise SourceError(f"{error}; no frame for {quiet_s:.0f} s, giving up") from error
        if not self._index and (self._must_be_there or isinstance(error, RefusedError)):
            raise error
        if not self._away or str(error) != self._error:
            _log.warning("%s; retrying until it is back", error)
        self._away = True
        self._error = str(error)
        self._interrupted.wait(wait_s(self._tries, random.random()))
        self._tries += 1

    def _of_this_camera(self, error: SourceError) -> SourceError:
        """Return a connection's error, which has only the address, with this camera's name."""
        text = str(error)
        if text.startswith(self.name) or not text.startswith(self._name_of_connection):
            return error
        return type(error)(self.name + text[len(self._name_of_connection) :])

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def interrupt(self) -> None:
        """End a ``read`` in another thread: at once if it waits to reconnect, else as soon as possible."""
        self._interrupted.set()
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def close(self) -> None:
        """Disconnect from the camera."""
        self._interrupted.set()
        self._ended = True
        self._drop_connection()


def wait_s(tries: int, chance: float) -> float:
    """Return how long to wait before reconnecting.

    Args:
        tries: The number of consecutive failures so far.
        chance: A random number from 0 to 1, which spreads the cameras' retries.

    Returns:
        Seconds: doubled with each try up to a limit, plus or minus a quarter.
    """
    usual_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(tries, 10))
    return usual_s * (1 + _JITTER * (2 * chance - 1))
