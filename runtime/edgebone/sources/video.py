"""Reads recorded videos through FFmpeg.

A recording is not trusted. FFmpeg sees only its bytes, neither its name nor files that it names: FFmpeg interprets
names as protocols, and playlists open other files. So no other file or address is ever opened.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.ffmpeg import import_av, nameless
from edgebone.core.foreign import foreign, in_one_line
from edgebone.core.frame import Decode, Frame, guarded
from edgebone.core.reading import open_regular
from edgebone.sources.deinterlacing import Deinterlacer
from edgebone.sources.video_end import is_cut_off
from edgebone.sources.video_pixels import Corners, corners_of, pixels_of
from edgebone.sources.video_times import Times

# Containers, and codecs without one; not formats that list other files (playlists), draw texts, or read devices.
_DEMUXERS = (
    "3dostr,4xm,amv,asf,asf_o,av1,avi,avs2,avs3,bink,cavsvideo,cine,dhav,dirac,dnxhd,dv,evc,flic,flv,gxf,h261,"
    "h263,h264,hevc,hxvs,idcin,ifv,ipu,ivf,ivr,kux,live_flv,lvf,m4v,matroska,mjpeg,mlv,moflex,mov,mpeg,mpegts,mpegvideo,mpjpeg,mtv,mv,mxf,nsv,nut,nuv,obu,ogg,pva,pmp,r3d,rm,roq,rpl,ser,smjpeg,smk,swf,thp,ty,usm,vc1,vc1test,vivo,vvc,wtv,xmv,yop,yuv4mpegpipe"
)
# Above this share of damaged packets the recording counts as damaged, not just disturbed.
_DAMAGED_SHARE = 0.05
# Each thread keeps a frame.
_MOST_THREADS = 16
_PIECE_BYTES = 1 << 16
# Its packets may be corrupt from bad reception; and it may end anywhere.
_BROADCAST = "mpegts"
# FFmpeg's time base without a container.
_NO_CONTAINER = Fraction(1, 1_200_000)
_UNREADABLE = "{}: neither a picture nor a video that can be read; {}"
_NO_RANGES = "its server supports no ranges, so only a video with its index at the front can be read: download it"
_PLAYLISTS = re.compile(rb"\s*(#EXTM3U|ffconcat|v=0\r?\n|\[playlist\]|<\?xml|<MPD|<smil)", re.IGNORECASE)

_log = logging.getLogger("edgebone.sources")


class Recording(Protocol):
    """A recording's bytes.

    Attributes:
        failure: Why reading failed before the end; None without a failure. Exceptions would not pass through FFmpeg
            unchanged.
    """

    @property
    def failure(self) -> SourceError | None:
        """See above."""

    def seekable(self) -> bool:
        """Whether ``seek`` works."""

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes; empty at the end."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Seek and return the position; ``whence`` as for files."""

    def tell(self) -> int:
        """The place."""

    def interrupt(self) -> None:
        """Make a ``read`` in another thread end soon."""

    def close(self) -> None:
        """Close it."""


class Video:
    """A recording; every frame is delivered, upright and, if marked as interlaced, deinterlaced.

    Each frame's ``position_s`` counts from the first frame and only grows. A packet that cannot be decoded is left out,
    with one warning.

    Args:
        name: Its name.
        recording: Its bytes; closed with it.

    Attributes:
        fps: Average frames per second as stated; None if not stated.
        frame_count: The stated number of frames; None if not stated.

    Raises:
        MissingDependencyError: PyAV is not installed.
        SourceError: It is not a video, no decoder for it is installed, or its frames are larger than ``limits`` allows.
    """

    live = False
    in_memory = False

    def __init__(self, name: str, recording: Recording) -> None:
        self.name = name
        self._recording = recording
        self._container: Any = None
        self._interrupted = threading.Event()
        try:
            self._av = import_av()
            self._container = self._open()
            stream = self._choose_stream()
            self._decoder = self._make_decoder(stream)
        except BaseException:
            self.close()
            raise
        self.fps = self._rate_of(stream)
        self.frame_count: int | None = stream.frames or None
        self._packets = self._container.demux(stream)
        # Not taken from frames: those that the decoder returns at the end have none.
        self._unit_s = None if stream.time_base == _NO_CONTAINER else stream.time_base
        self._deinterlacer = Deinterlacer(self._av)
        self._times = Times(name, self.fps)
        self._ready: deque[Any] = deque()
        # The time and orientation of each frame that is ready or in the deinterlacer.
        self._shown: deque[tuple[float, Corners]] = deque()
        self._rotation: int | None = None
        self._corners: Corners = (1, 0, 0, 1)
        self._index = 0
        self._size_wh = (0, 0)
        self._told_size = False
        self._seen = 0
        self._damaged = 0
        self._reason = ""
        self._cut_off = False
        self._ended = False

    def _open(self) -> Any:
        # Not max_pixels: with it FFmpeg would probe the first frames and lose the size to reject.
        options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
        try:
            file = nameless(self._recording, "read", *(("seek", "tell") if self._recording.seekable() else ()))
            return self._av.open(file, "r", options=options, buffer_size=_PIECE_BYTES)
        except Exception as error:
            if self._recording.failure:
                raise self._recording.failure from None
            raise SourceError(_UNREADABLE.format(self.name, self._why_not(in_one_line(error)))) from error

    def _why_not(self, reason: str) -> str:
        if not self._recording.seekable():
            return f"{_NO_RANGES} ({reason})"
        self._recording.seek(0)
        head = self._recording.read(64)
        if _PLAYLISTS.match(head):
            return "playlists and descriptions are not followed: name the video itself"
        if head[4:8] == b"ftyp":
            return "an MP4 or MOV without an index (moov), as after an interrupted recording: damaged or truncated"
        return f"damaged or truncated? ({reason})"

    def _choose_stream(self) -> Any:
        videos, sounds = self._container.streams.video, self._container.streams.audio
        for stream in videos:
            if not stream.disposition & self._av.stream.Disposition.attached_pic:
                return stream
        if not videos and not sounds:
            raise SourceError(_UNREADABLE.format(self.name, self._why_not("it has no pictures")))
        what = " and ".join(["sound"] * bool(sounds) + ["a cover picture"] * bool(videos))
        raise SourceError(f"{self.name}: it has no video, only {what}")

    def _make_decoder(self, stream: Any) -> Any:
        decoder = stream.codec_context
        if decoder is None:
            raise SourceError(
                f"{self.name}: its video is encoded as {self._codec_of(stream)}, for which no decoder is installed"
            )
        self._check_pixels(decoder.width, decoder.height)
        decoder.options = {"max_pixels": str(limits.FRAME_PIXELS)}
        decoder.thread_type = "AUTO"
        # One more than there are cores, FFmpeg's default, costs more than it gains.
        decoder.thread_count = min(_MOST_THREADS, os.cpu_count() or 1)
        return decoder

    def _rate_of(self, stream: Any) -> float | None:
        # Without a container only the stream knows its rate; FFmpeg then assumes 25 and sets times by it.
        bare = stream.time_base == _NO_CONTAINER
        said = stream.codec_context.framerate if bare else stream.average_rate or stream.guessed_rate
        rate = float(said or 0)
        # 1000 is Matroska's time base, not a rate.
        return rate if 0 < rate < 1000 else None

    def _codec_of(self, stream: Any) -> str:
        """Return the codec's name; without a decoder it is only in FFmpeg's description of the file."""
        logging_ = self._av.logging
        logging_.set_level(logging_.INFO)
        try:
            lines = self._container.dumps_format()
        finally:
            logging_.set_level(None)
        found = re.findall(r"Stream #0:(\d+).*?: Video: ([^,\n]+)", lines)
        return str(dict(found).get(str(stream.index), "something unknown"))

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > limits.FRAME_PIXELS:
            raise SourceError(
                f"{self.name}: its frames of {width}x{height} are more than {limits.FRAME_PIXELS:,} pixels"
            )

    def read(self) -> Frame | None:
        """Decode the next frame; conversion to BGR is deferred until it is accessed.

        Raises:
            SourceError: The recording is truncated, largely damaged, or cannot be read.
        """
        with foreign(self._unreadable):
            while not self._ready:
                if self._interrupted.is_set():
                    return None
                if self._ended:
                    self._check_whole()
                    return None
                self._decode_some()
        decoded, (position_s, corners) = self._ready.popleft(), self._shown.popleft()
        self._tell_size(decoded.width, decoded.height)
        pixels = guarded(pixels_of(decoded, corners), self._convert)
        frame = Frame(pixels, self._index, time.monotonic_ns(), self.name, position_s)
        self._index += 1
        return frame

    def _unreadable(self, reason: str) -> SourceError:
        return SourceError(f"{self.name}: frame {self._index} cannot be read ({reason})")

    def _convert(self, convert: Decode) -> NDArray[np.uint8]:
        with foreign(self._unreadable):
            return convert()

    def _decode_some(self) -> None:
        packet = self._next_packet()
        # An empty packet would mean the end to the decoder.
        if packet is not None and not packet.size:
            return
        try:
            frames = self._decoder.decode(packet)
        except self._av.error.EOFError:
            frames = []
        except (self._av.error.FFmpegError, ValueError, MemoryError) as error:
            self._note_damage(in_one_line(error))
            frames = []
        for frame in frames:
            self._check_pixels(frame.width, frame.height)
            stamp_s = None if frame.pts is None or self._unit_s is None else float(frame.pts * self._unit_s)
            if frame.rotation != self._rotation:
                self._rotation, self._corners = frame.rotation, corners_of(frame)
            self._shown.append((self._times.of(stamp_s), self._corners))
            self._ready.extend(self._deinterlacer.put(frame))
        if packet is None:
            self._ready.extend(self._deinterlacer.finish())
            self._ended = True

    def _next_packet(self) -> Any | None:
        try:
            packet = next(self._packets)
        except (StopIteration, self._av.error.EOFError):
            return None
        except self._av.error.InvalidDataError:
            # If a container's index points past the end.
            self._cut_off = True
            return None
        if packet.size:
            self._seen += 1
            self._cut_off = bool(packet.is_corrupt) and self._container.format.name != _BROADCAST
        return packet

    def _note_damage(self, reason: str) -> None:
        self._reason = reason
        # A recording that starts within a broadcast cannot be decoded before its first key frame.
        if not self._shown and not self._index:
            return
        self._damaged += 1
        if self._damaged == 1:
            _log.warning(
                "%s: a damaged frame, about the %dth (%s); such frames are left out", self.name, self._index, reason
            )

    def _tell_size(self, width: int, height: int) -> None:
        if self._size_wh not in ((0, 0), (width, height)) and not self._told_size:
            self._told_size = True
            _log.warning(
                "%s: from frame %d on, its frames are %dx%d, and no longer %dx%d",
                self.name, self._index, width, height, *self._size_wh,
            )  # fmt: skip
        self._size_wh = (width, height)

    def _check_whole(self) -> None:
        if self._recording.failure:
            raise self._recording.failure
        if self._index == 0 and self._reason:
            codec = self._decoder.name
            raise SourceError(
                f"{self.name}: none of its {self._seen} frames can be decoded as {codec} ({self._reason})"
            )
        if self._index == 0:
            why = "damaged or truncated?" if self._recording.seekable() else _NO_RANGES
            raise SourceError(f"{self.name}: the video has no frames; {why}")
        if self._is_cut_off():
            of = f" of {self.frame_count}" if self.frame_count else ""
            raise SourceError(f"{self.name}: the video ends after {self._index}{of} frames: damaged or truncated")
        if self._damaged > _DAMAGED_SHARE * self._seen:
            raise SourceError(f"{self.name}: {self._damaged} of the video's {self._seen} frames are damaged")

    def _is_cut_off(self) -> bool:
        if self._cut_off:
            return True
        # Data missing after the last frame is no loss.
        complete = self.frame_count and self._seen >= self.frame_count
        return not complete and self._recording.seekable() and is_cut_off(self._recording)

    def interrupt(self) -> None:
        """Make a ``read`` in another thread return soon."""
        self._interrupted.set()
        self._recording.interrupt()

    def close(self) -> None:
        """Close the recording; a ``read`` afterwards decodes nothing."""
        # PyAV would read on from a closed container and crash the process.
        self._interrupted.set()
        if self._container is not None:
            self._container.close()
        self._recording.close()


class VideoFile(Video):
    """A video's file.

    Args:
        path: Any self-contained file in a container and codec that FFmpeg reads; its name is ignored.

    Raises:
        SourceError: As :class:`Video`.
    """

    def __init__(self, path: Path) -> None:
        try:
            file = _LocalFile(path)
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
        super().__init__(str(path), file)


class _LocalFile:
    """A file's bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_regular(path)
        self.failure: SourceError | None = None

    def seekable(self) -> bool:
        return True

    def read(self, size: int, /) -> bytes:
        try:
            return b"" if self.failure else self._file.read(size)
        except OSError as error:
            self.failure = SourceError(f"{self._path}: cannot be read ({error.strerror})")
            return b""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def interrupt(self) -> None:
        """A read of a file ends by itself."""

    def close(self) -> None:
        self._file.close()

    def __del__(self) -> None:
        # An unclosed video is freed silently.
        with contextlib.suppress(AttributeError):
            self._file.close()
