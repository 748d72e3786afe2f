"""Reading from a connection whose other end is somebody else's: until a time, and never more than was allowed."""

from __future__ import annotations

import io
import socket
import time
from typing import Any


class Allowance:
    """How much may still come over a connection, and until when. Several connections may share one.

    Args:
        seconds: From now on.
        size_bytes: All that is read counts.
    """

    def __init__(self, seconds: float, size_bytes: int) -> None:
        self.grant(seconds, size_bytes)

    def grant(self, seconds: float, size_bytes: int) -> None:
        """Allow so much from now on, in the place of what is left."""
        self._until_s = time.monotonic() + seconds
        self._left_bytes = size_bytes

    @property
    def left_s(self) -> float:
        """Seconds that are left, above 0.

        Raises:
            TimeoutError: None are.
            TooMuchError: More came than was allowed.
        """
        if self._left_bytes <= 0:
            raise TooMuchError
        seconds = self._until_s - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def take(self, size_bytes: int) -> None:
        """Count what was read."""
        self._left_bytes -= size_bytes


class TooMuchError(OSError):
    """The other end sends more than it is allowed."""


class BoundedSocket(io.RawIOBase):
    """What comes over a connection, within an allowance: a slow drip counts as silence does.

    Args:
        connection: A connected socket, TLS or plain; closed when this and all other files of it are.
        allowance: Shared with whoever grants more.
    """

    def __init__(self, connection: socket.socket, allowance: Allowance) -> None:
        self._connection = connection
        self._file = connection.makefile("rb", buffering=0)
        self._allowance = allowance

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what there is, or wait for some.

        Raises:
            TimeoutError: The time is over.
            TooMuchError: More came than was allowed.
            OSError: The connection is lost.
        """
        self._connection.settimeout(self._allowance.left_s)
        count = self._file.readinto(buffer) or 0
        self._allowance.take(count)
        return count

    def close(self) -> None:
        """Let go of the connection."""
        self._file.close()
        super().close()
