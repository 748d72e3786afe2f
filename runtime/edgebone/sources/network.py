"""Cameras on the network: RTSP over TCP or UDP, MJPEG and other video over HTTP.

A camera is not trusted. FFmpeg opens only the requested address and nothing that the camera names: demuxers, codecs and
protocols are allow-listed, and data is limited before memory is allocated for it.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.ffmpeg import import_av
from edgebone.core.frame import Decode, Planes, raising
from edgebone.core.reading import in_words
from edgebone.sources.camera import RecordingEndedError, RefusedError
from edgebone.sources.http_stream import HttpStream, refusal
from edgebone.sources.jpeg import decode_jpeg
from edgebone.sources.network_address import NetworkAddress
from edgebone.sources.video_pixels import pixels_of

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0
# How long FFmpeg probes a stream: its default of 5 s is for files of unknown type.
_ANALYSE_US = 1_000_000
_CODECS = ("h264", "hevc", "mjpeg", "mpeg4", "h263", "mpeg2video", "vp8", "vp9", "av1", "libdav1d")
# None of them opens other addresses, as playlists do.
_DEMUXERS = ("mpjpeg", "mjpeg", "jpeg_pipe", "mpegts", "flv", "mov", "matroska", "h264", "hevc")
# FFmpeg truncates longer ones.
_LONGEST_USER_INFO = 127


class NetworkStream:
    """A connection to a network camera that delivers encoded packets.

    Args:
        address: ``rtsp://``, ``rtsp+udp://``, ``http://``, …

    Attributes:
        codec: The packets' codec, by FFmpeg's name: ``h264``, ``mjpeg``.
        size_hw: Height and width of a frame as stated at the start; 0 if not stated.
        fps: Frames per second as stated; None if missing or implausible.
        decoder: PyAV's context for decoding the packets; rejects frames above ``limits.VIDEO_PIXELS``.

    Raises:
        MissingDependencyError: PyAV is not installed.
        RefusedError: The camera answers, but not with video: wrong credentials, or nothing at this address.
        SourceError: It does not answer.
    """

    def __init__(self, address: NetworkAddress) -> None:
        self.name = address.name
        self._av = import_av()
        self._http = None if address.scheme.startswith("rtsp") else HttpStream(address, OPEN_TIMEOUT_S)
        self._container: Any = None
        try:
            self._container = self._open(address)
            if not self._container.streams.video:
                raise RefusedError(f"{self.name}: the stream has no video")
            stream = self._container.streams.video[0]
            self.decoder = stream.codec_context
            self.codec: str = self.decoder.name if self.decoder else "unknown"
            if self.codec not in _CODECS:
                raise RefusedError(f"{self.name}: its video is {self.codec}, expected one of {', '.join(_CODECS[:-1])}")
        except BaseException:
            self.close()
            raise
        self.decoder.options = {"max_pixels": str(limits.VIDEO_PIXELS)}
        # Frame threads would each delay the output by a frame.
        self.decoder.thread_type = "SLICE"
        self.size_hw = (int(stream.height), int(stream.width))
        rate = float(stream.average_rate or 0)
        self.fps = rate if 0 < rate < 1000 else None
        self._packets = self._container.demux(stream)

    def _open(self, address: NetworkAddress) -> Any:
        options = {
            "fflags": "nobuffer",
            "analyzeduration": str(_ANALYSE_US),
            "codec_whitelist": ",".join(_CODECS),
            "max_pixels": str(limits.VIDEO_PIXELS),
        }
        timeouts_s = (OPEN_TIMEOUT_S, READ_TIMEOUT_S)
        try:
            if self._http:
                options |= {"format_whitelist": ",".join(_DEMUXERS), "protocol_whitelist": "none"}
                form = "mpjpeg" if self._http.multipart else None
                return self._av.open(self._http, "r", format=form, options=options, timeout=timeouts_s)
            udp = address.scheme == "rtsp+udp"
            options |= {
                "rtsp_transport": "udp" if udp else "tcp",
                # Without rtsp in the list FFmpeg follows no redirect, from 8.1 on.
                "protocol_whitelist": "tcp,udp,rtp" if udp else "tcp,tls",
                "allowed_media_types": "video",
                "tls_verify": "0",
            }
            if len(address.user_info) > _LONGEST_USER_INFO + 1:
                raise RefusedError(
                    f"{self.name}: user name and password have more than {_LONGEST_USER_INFO} characters "
                    "when encoded in an address"
                )
            scheme = address.scheme.partition("+")[0]
            return self._av.open(
                f"{scheme}://{address.user_info}{address.host_and_port}{address.path}",
                "r", format="rtsp", options=options, timeout=timeouts_s,
            )  # fmt: skip
        except Exception as error:
            failure = self._explain(error)
        # Raised outside the handler: FFmpeg's error and the traceback contain the whole address.
        raise failure

    def _explain(self, error: Exception) -> SourceError:
        kinds = self._av.error
        if isinstance(error, SourceError):
            return error
        if self._http and self._http.failure:
            return self._http.failure
        text = getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, (kinds.HTTPUnauthorizedError, kinds.HTTPForbiddenError)):
            return RefusedError(f"{self.name}: {refusal(text)}")
        if isinstance(error, (kinds.HTTPClientError, kinds.InvalidDataError, kinds.ProtocolNotFoundError)):
            return RefusedError(f"{self.name}: no video there ({text}); is the path right?")
        if isinstance(error, (kinds.ExitError, kinds.TimeoutError)):
            return SourceError(f"{self.name}: no answer within {OPEN_TIMEOUT_S:g} s")
        return SourceError(f"{self.name}: cannot connect ({text})")

    @property
    def recorded(self) -> bool:
        """Whether it is a recording: it states its duration, which nothing live can."""
        http = self._http
        return http is not None and http.whole_bytes is not None and not (http.multipart or http.picture)

    def next_packet(self) -> Any | None:
        """Wait for the next non-empty packet.

        Returns:
            PyAV's packet, of at most ``limits.PACKET_BYTES``; None at the end of the stream.

        Raises:
            SourceError: The connection is lost, or timed out.
        """
        until_s = time.monotonic() + READ_TIMEOUT_S
        while True:
            if time.monotonic() > until_s:
                raise SourceError(f"{self.name}: data comes, but no picture for {READ_TIMEOUT_S:g} s")
            packet = self._next()
            # Empty: an empty part of MJPEG; or the end, after which there is no packet.
            if packet is None or packet.size:
                break
        if packet is not None and packet.size > limits.PACKET_BYTES:
            raise SourceError(f"{self.name}: it sends more than {in_words(limits.PACKET_BYTES)} for one picture")
        return packet

    def _next(self) -> Any | None:
        if self._http:
            self._http.grant(READ_TIMEOUT_S)
        packet = None
        failure = ""
        try:
            packet = next(self._packets)
        except (StopIteration, self._av.error.EOFError):
            pass
        except (self._av.error.ExitError, self._av.error.TimeoutError):
            failure = f"no data for {READ_TIMEOUT_S:g} s"
        except Exception as error:
            failure = f"the connection is lost ({getattr(error, 'strerror', None) or type(error).__name__})"
        if self._http and self._http.failure:
            raise self._http.failure
        if failure:
            raise SourceError(f"{self.name}: {failure}")
        return packet

    def interrupt(self) -> None:
        """Make a wait in another thread end soon for HTTP; FFmpeg's RTSP returns at its read time-out."""
        if self._http:
            self._http.interrupt()

    def close(self) -> None:
        """Disconnect."""
        if self._container is not None:
            self._container.close()
        if self._http:
            self._http.close()


class NetworkConnection:
    """One connection to a network camera, decoded by FFmpeg.

    Packets that cannot be decoded are damaged frames, and the decoder continues. MJPEG is decoded only when a frame is
    accessed; for H.264 and similar codecs every frame must be decoded, and only the conversion to BGR is deferred.

    Args:
        address: ``rtsp://``, ``rtsp+udp://``, ``http://``, …

    Raises:
        MissingDependencyError: PyAV is not installed.
        SourceError: As :class:`NetworkStream`.
    """

    def __init__(self, address: NetworkAddress) -> None:
        self._stream = NetworkStream(address)
        self.fps = self._stream.fps
        self._name = self._stream.name
        self._jpeg = self._stream.codec == "mjpeg"
        self._ready: list[Any] = []
        self._damaged_since_s: float | None = None

    def grab(self) -> Decode | Planes | None:
        """Wait for the next frame; see :class:`edgebone.sources.camera.Connection`."""
        began_s = time.monotonic()
        while not self._ready:
            if time.monotonic() - (self._damaged_since_s or began_s) > READ_TIMEOUT_S:
                raise SourceError(f"{self._name}: data comes, but no picture for {READ_TIMEOUT_S:g} s")
            packet = self._stream.next_packet()
            if packet is None and self._stream.recorded:
                raise RecordingEndedError(
                    f"{self._name}: this was a recording, not a camera: frames that arrived too fast were left out; "
                    "save it to a file to process all of them"
                )
            if packet is None:
                return None
            if self._jpeg:
                data = np.frombuffer(bytes(packet), np.uint8)
                return lambda: decode_jpeg(data, self._name)
            try:
                self._ready = self._stream.decoder.decode(packet)
            except Exception as error:
                self._damaged_since_s = self._damaged_since_s or time.monotonic()
                return raising(SourceError(f"{self._name}: a damaged picture ({type(error).__name__})"))
        self._damaged_since_s = None
        return pixels_of(self._ready.pop(0))

    def interrupt(self) -> None:
        """Make a ``grab`` in another thread end as soon as possible."""
        self._stream.interrupt()

    def close(self) -> None:
        """Disconnect."""
        self._stream.close()
