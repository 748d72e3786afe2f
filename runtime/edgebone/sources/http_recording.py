"""A recording on a web server: a finite video whose frames are all processed."""

from __future__ import annotations

import re
import threading
from pathlib import PurePosixPath

from edgebone.core.errors import SourceError
from edgebone.sources.camera import RefusedError
from edgebone.sources.http_stream import HttpStream
from edgebone.sources.network_address import NetworkAddress
from edgebone.sources.video import Video

# Addresses with these suffixes are probed when opened; any other is a camera's, which may still be offline.
_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".dav", ".flv", ".h264", ".h265", ".hevc", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
_TIMEOUT_S = 10.0
_TRIES = 3


def open_recording(address: NetworkAddress) -> Video | None:
    """Open a recording at an address.

    Args:
        address: ``http://…`` or ``https://…``.

    Returns:
        The recording; None if the path has no video suffix, the server does not answer, or the stream has no end.

    Raises:
        SourceError: The server refuses, or the video cannot be read.
    """
    if not address.scheme.startswith("http"):
        return None
    if PurePosixPath(re.split("[?#;]", address.path)[0]).suffix.lower() not in _SUFFIXES:
        return None
    try:
        recording = _HttpFile(address)
    except RefusedError:
        raise
    except SourceError:
        return None
    if not recording.has_end:
        recording.close()
        return None
    return Video(address.name, recording)


class _HttpFile:
    """A file on a server; seekable if the server supports ranges, else read sequentially.

    A lost connection, for example after waiting for a slow model, is resumed at the same position.
    """

    def __init__(self, address: NetworkAddress) -> None:
        self._address = address
        self._place = 0
        self._stream: HttpStream | None = HttpStream(address, _TIMEOUT_S, first_byte=0)
        self._size = self._stream.whole_bytes
        self._ranges = self._stream.partial
        self._interrupted = threading.Event()
        self.has_end = self._size is not None and not self._stream.multipart
        self.failure: SourceError | None = None

    def seekable(self) -> bool:
        return self._ranges and self._size is not None

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0, /) -> int:
        place = offset + (0, self._place, self._size or 0)[whence]
        if place != self._place:
            self._place = place
            self._drop()
        return place

    def read(self, size: int, /) -> bytes:
        if self.failure or self._interrupted.is_set() or self._place >= (self._size or 0):
            return b""
        for _ in range(_TRIES):
            try:
                data = self._read_once(size)
            except SourceError as error:
                lost = error
            else:
                self._place += len(data)
                if data:
                    return data
                lost = SourceError(
                    f"{self._address.name}: the connection ended after {self._place} of {self._size} bytes"
                )
            self._drop()
            if self._interrupted.is_set():
                return b""
            if not self._ranges:
                break
        self.failure = lost
        return b""

    def _read_once(self, size: int) -> bytes:
        if self._stream is None:
            self._stream = HttpStream(self._address, _TIMEOUT_S, first_byte=self._place)
            if not self._stream.partial or self._stream.whole_bytes != self._size:
                raise SourceError(f"{self._address.name}: the recording has changed while it was read")
        self._stream.grant(_TIMEOUT_S)
        data = self._stream.read(size)
        if self._stream.failure:
            raise self._stream.failure
        return data

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def interrupt(self) -> None:
        self._interrupted.set()
        stream = self._stream
        if stream is not None:
            stream.interrupt()

    def close(self) -> None:
        self._drop()
