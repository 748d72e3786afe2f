"""Reads from an untrusted connection, within a limit of time and of bytes."""

from __future__ import annotations

import io
import socket
import time
from typing import Any


class Allowance:
    """How many bytes may still arrive over a connection, and until when. Several connections may share one.

    Args:
        seconds: The time limit, from now.
        size_bytes: The limit of bytes read.
    """

    def __init__(self, seconds: float, size_bytes: int) -> None:
        self.grant(seconds, size_bytes)

    def grant(self, seconds: float, size_bytes: int) -> None:
        """Replace what is left by a new allowance that starts now."""
        self._until_s = time.monotonic() + seconds
        self._left_bytes = size_bytes

    @property
    def left_s(self) -> float:
        """The seconds left, above 0.

        Raises:
            TimeoutError: No time is left.
            TooMuchError: More arrived than was allowed.
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
    """A connection read within an allowance: a slow drip counts like silence.

    Args:
        connection: A connected socket, TLS or plain; closed when this and all other files of it are.
        allowance: Shared with the caller, which may grant more.
    """

    def __init__(self, connection: socket.socket, allowance: Allowance) -> None:
        self._connection = connection
        self._file = connection.makefile("rb", buffering=0)
        self._allowance = allowance

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has arrived, or wait for data.

        Raises:
            TimeoutError: The time is over.
            TooMuchError: More arrived than was allowed.
            OSError: The connection is lost.
        """
        self._connection.settimeout(self._allowance.left_s)
        count = self._file.readinto(buffer) or 0
        self._allowance.take(count)
        return count

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        super().close()
