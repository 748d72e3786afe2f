"""Cameras on the network: RTSP over TCP or UDP, MJPEG and other video over HTTP."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edgebone.core.errors import SourceError, missing, raise_interrupt
from edgebone.core.frame import Decode
from edgebone.sources.camera import RefusedError
from edgebone.sources.jpeg import decode_jpeg
from edgebone.sources.redact import redact, scrub

SCHEMES = ("rtsp", "rtsps", "rtsp+udp", "http", "https")
OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0
# How much of a stream FFmpeg looks at before it says what is in it: its own 5 s are for files of unknown kind.
_ANALYSE_US = 1_000_000


def open_container(url: str) -> Any:
    """Connect.

    Args:
        url: ``rtsp://``, ``rtsp+udp://``, ``http://``, …

    Returns:
        PyAV's input container.

    Raises:
        MissingDependencyError: PyAV is not installed.
        RefusedError: The camera answers, but not with video: wrong credentials, nothing under this address.
        SourceError: It does not answer.
    """
    av = _import_av()
    name = redact(url)
    scheme = url.split(":", 1)[0]
    options = {"fflags": "nobuffer", "analyzeduration": str(_ANALYSE_US)}
    if scheme.startswith("rtsp"):
        options["rtsp_transport"] = "udp" if scheme == "rtsp+udp" else "tcp"
    try:
        container = av.open(
            url.replace("rtsp+udp://", "rtsp://", 1), options=options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S)
        )
    except (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError) as error:
        raise RefusedError(
            f"{name}: the camera refuses the user name or password ({error.strerror}); "
            f"write them as {scheme}://USER:PASSWORD@…, special characters as %40 and so on"
        ) from error
    except (av.error.HTTPClientError, av.error.InvalidDataError, av.error.ProtocolNotFoundError) as error:
        raise RefusedError(f"{name}: no video there ({scrub(error.strerror, url)}); is the path right?") from error
    except (av.error.ExitError, av.error.TimeoutError) as error:
        raise SourceError(f"{name}: no answer within {OPEN_TIMEOUT_S:g} s") from error
    except av.error.FFmpegError as error:
        raise SourceError(f"{name}: cannot connect ({scrub(error.strerror, url)})") from error
    if not container.streams.video:
        container.close()
        raise RefusedError(f"{name}: the stream has no video in it")
    return container


def rate_of(stream: Any) -> float | None:
    """Frames a second, as PyAV's video stream says; None where it says none, or one that no camera has."""
    rate = float(stream.average_rate or 0)
    return rate if 0 < rate < 1000 else None


class NetworkConnection:
    """One connection to a camera on the network, decoded by FFmpeg.

    Damaged packets are left out: the decoder goes on with what it can. MJPEG is decoded only when a frame is looked at;
    of H.264 and the like every frame must be decoded, and only the conversion to BGR is left until then.

    Args:
        url: ``rtsp://``, ``rtsp+udp://``, ``http://``, …

    Raises:
        MissingDependencyError: PyAV is not installed.
        SourceError: As :func:`open_container`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._name = redact(url)
        self._container = open_container(url)
        stream = self._container.streams.video[0]
        # Threads of their own frame each would keep that many frames back.
        stream.thread_type = "SLICE"
        self.fps = rate_of(stream)
        self._jpeg = stream.codec_context.name == "mjpeg"
        self._packets = self._container.demux(stream)
        self._errors = _import_av().error
        self._ready: list[Any] = []

    def grab(self) -> Decode | None:
        """Wait for the next frame; see :class:`edgebone.sources.camera.Connection`."""
        began_s = time.monotonic()
        while not self._ready:
            if time.monotonic() - began_s > READ_TIMEOUT_S:
                raise SourceError(f"{self._name}: data comes, but no picture for {READ_TIMEOUT_S:g} s")
            try:
                packet = next(self._packets)
                if packet.size == 0:
                    # An empty part of MJPEG; or the end, after which the next one is no packet.
                    continue
                if self._jpeg:
                    data = np.frombuffer(bytes(packet), np.uint8)
                    return lambda: decode_jpeg(data, self._name)
                self._ready = packet.decode()
            except StopIteration:
                return None
            except self._errors.InvalidDataError:
                continue
            except self._errors.EOFError:
                return None
            except (self._errors.ExitError, self._errors.TimeoutError) as error:
                raise SourceError(f"{self._name}: no data for {READ_TIMEOUT_S:g} s") from error
            except self._errors.FFmpegError as error:
                message = scrub(str(error.strerror), self._url)
                raise SourceError(f"{self._name}: the connection is lost ({message})") from error
        frame = self._ready.pop(0)
        return lambda: frame.to_ndarray(format="bgr24")

    def interrupt(self) -> None:
        """FFmpeg cannot be woken; it comes back at the read time-out at the latest."""

    def close(self) -> None:
        """Disconnect."""
        self._container.close()


def _import_av() -> Any:
    try:
        import av
        import av.error
    except ModuleNotFoundError as error:
        raise missing("av", "network", "a camera on the network") from error
    except ImportError as error:
        raise_interrupt(error)
        raise SourceError(f"PyAV is installed but cannot be imported: {error}") from error
    # FFmpeg's remarks about damaged packets would fill a log of days.
    av.logging.set_level(None)
    return av
