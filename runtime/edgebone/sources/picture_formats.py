"""The supported picture formats, and their detection by first bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEAD_BYTES = 256
"""The number of first bytes that identify a format."""


@dataclass(frozen=True)
class Format:
    """A supported format.

    Attributes:
        name: Its usual name.
        pillow: Pillow's name.
        suffixes: Its file name suffixes.
        paged: Whether a file may hold several frames or pages.
    """

    name: str
    pillow: tuple[str, ...]
    suffixes: tuple[str, ...]
    paged: bool = False


JPEG = Format("JPEG", ("JPEG",), (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo"))
PNG = Format("PNG", ("PNG",), (".png", ".apng"), paged=True)
WEBP = Format("WebP", ("WEBP",), (".webp",), paged=True)
GIF = Format("GIF", ("GIF",), (".gif",), paged=True)
BMP = Format("BMP", ("BMP", "DIB"), (".bmp", ".dib"))
TIFF = Format("TIFF", ("TIFF",), (".tif", ".tiff"), paged=True)
PNM = Format("PNM", ("PPM",), (".pbm", ".pgm", ".ppm", ".pnm", ".pam"))
AVIF = Format("AVIF", ("AVIF",), (".avif", ".avifs"), paged=True)
JPEG_2000 = Format("JPEG 2000", ("JPEG2000",), (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"))
HEIF = Format("HEIC", ("HEIF",), (".heic", ".heif", ".hif"))

FORMATS = (JPEG, PNG, WEBP, GIF, BMP, TIFF, PNM, AVIF, JPEG_2000, HEIF)
"""All supported formats. None starts another program, as EPS would."""

SUFFIXES = frozenset(suffix for known in FORMATS for suffix in known.suffixes)

_PREFIXES = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),
    (b"MM\0+", TIFF),
    (b"\0\0\0\x0cjP  \r\n\x87\n", JPEG_2000),
    (b"\xff\x4f\xff\x51", JPEG_2000),
)
_DIB_SIZES = (12, 40, 52, 56, 64, 108, 124)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_VIDEO_PREFIXES = (
    b"\x1a\x45\xdf\xa3",
    b"\0\0\1\xba",
    b"\0\0\1\xb3",
    b"\0\0\0\1",
    b"OggS",
    b"FLV\1",
    b"0&\xb2u\x8ef\xcf\x11",
)


def format_of(head: bytes) -> Format | None:
    """Return the format of a file by its first bytes; None if unsupported.

    Args:
        head: The file's first ``HEAD_BYTES`` bytes, or all of them.
    """
    for prefix, known in _PREFIXES:
        if head.startswith(prefix):
            # Canon's raw files begin like TIFFs.
            return None if head[8:10] == b"CR" and known is TIFF else known
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    if head[:1] == b"P" and head[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"f") and head[2:3].isspace():
        return PNM
    if _is_dib(head[14:] if head[:2] == b"BM" else head):
        return BMP
    brands = _brands(head)
    if brands & _AVIF_BRANDS:
        return AVIF
    return HEIF if brands & _HEIF_BRANDS else None


def is_video(head: bytes) -> bool:
    """Return whether first bytes that match no picture are those of a common video format."""
    riff = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    # Packets of 188 bytes, each with this first byte.
    transport = head[:1] == head[188:189] == b"\x47"
    boxes = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
    return riff or transport or boxes or head.startswith(_VIDEO_PREFIXES)


def _is_dib(header: bytes) -> bool:
    """Return whether it is a Windows bitmap header: its own size, the picture's, one plane, bits per pixel."""
    if len(header) < 16:
        return False
    (size,) = struct.unpack_from("<I", header)
    planes, bits = struct.unpack_from("<HH", header, 8 if size == 12 else 12)
    return size in _DIB_SIZES and planes == 1 and bits in (1, 2, 4, 8, 16, 24, 32)


def _brands(head: bytes) -> set[bytes]:
    """Return the brands of an ISO media file."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(len(head), int.from_bytes(head[:4], "big"))
    return {head[8:12], *(head[place : place + 4] for place in range(16, end, 4))}
