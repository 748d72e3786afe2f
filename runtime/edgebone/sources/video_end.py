"""Checks whether a video file has its declared length."""

from __future__ import annotations

import struct
from typing import Protocol

_UNKNOWN_RIFF = (0, 0x7FFFFFFF, 0xFFFFFFFF)


class Seekable(Protocol):
    """A seekable file."""

    def read(self, size: int, /) -> bytes:
        """Read up to ``size`` bytes; empty at the end."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Seek: ``whence`` 0 counts from the start, 2 from the end."""


def is_cut_off(file: Seekable) -> bool:
    """Return whether a container declares more bytes than it has: AVI, MP4, MOV, Matroska or WebM.

    Other formats, and streamed variants of these, declare no length.

    Args:
        file: The container; its position changes.
    """
    size = file.seek(0, 2)
    head = _at(file, 0, 12)
    if head[:4] == b"RIFF":
        return _riff_end(file, size) > size
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska_end(file) > size
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"):
        return _boxes_end(file, size) > size
    return False


def _at(file: Seekable, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _riff_end(file: Seekable, size: int) -> int:
    """Return the end of the last RIFF: an AVI above a gigabyte has several."""
    end = 0
    while end < size and (head := _at(file, end, 8))[:4] == b"RIFF" and len(head) == 8:
        length = struct.unpack("<I", head[4:])[0]
        if length in _UNKNOWN_RIFF:
            break
        end += 8 + int(length)
    return end


def _boxes_end(file: Seekable, size: int) -> int:
    end = 0
    while end < size:
        head = _at(file, end, 16)
        # Some writers leave data after the last box.
        if len(head) < 8 or not head[4:8].isalnum():
            break
        length = int.from_bytes(head[:4], "big")
        length = int.from_bytes(head[8:], "big") if length == 1 else length
        if length < 8:
            break
        end += length
    return end


def _matroska_end(file: Seekable) -> int:
    place = 0
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        head = _at(file, place, 12)
        if head[:4] != name or len(head) < 5 or not head[4]:
            return 0
        width = 9 - head[4].bit_length()
        length = int.from_bytes(head[4 : 4 + width], "big") & ((1 << 7 * width) - 1)
        # All ones: the size was unknown when written.
        if length == (1 << 7 * width) - 1:
            return 0
        place += 4 + width + length
    return place
