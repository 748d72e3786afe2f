"""Reads picture files: pixels, upright and with 8 bits, and pages."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from edgebone.core.errors import SourceError
from edgebone.core.foreign import in_one_line
from edgebone.core.limits import PICTURE_BYTES, PICTURE_PIXELS
from edgebone.core.pixels import too_large
from edgebone.core.reading import in_words, open_regular
from edgebone.sources.depth import check_range, is_deep, samples_of, to_eight_bits
from edgebone.sources.pam import as_pnm
from edgebone.sources.picture_formats import (
    AVIF,
    FORMATS,
    HEAD_BYTES,
    HEIF,
    JPEG_2000,
    SUFFIXES,
    TIFF,
    WEBP,
    Format,
    format_of,
    is_video,
)

# Pixels per conversion from Pillow to an array, which avoids further copies of a large picture.
_PIECE_PIXELS = 1 << 20
# Formats that Pillow may have been built without.
_CODECS = {AVIF.name: "avif", JPEG_2000.name: "jpg_2000", WEBP.name: "webp"}
# Motion JPEG without a container begins like a picture.
_MOTION_JPEG = (".mjpeg", ".mjpg")
# Tags of TIFF 6.0, TIFF/EP and DNG that identify cameras' raw files, of which Pillow reads only a thumbnail.
_SUBFILE, _PHOTOMETRIC, _SUBIFDS, _DNG_VERSION = 254, 262, 330, 50706
_SENSOR = (32803, 34892)
_REDUCED, _MASK = 1, 4
_ORIENTATION, _ON_ITS_SIDE = 274, (5, 6, 7, 8)

_log = logging.getLogger("edgebone.sources")


class RawFileError(SourceError):
    """A camera's raw file: a TIFF of which only a thumbnail could be read."""


@dataclass(frozen=True)
class Page:
    """One of a file's pictures.

    Attributes:
        image: uint8, shape (height, width, 3), BGR, upright.
        number: Its number, from 1; None if the file has only one.
        duration_s: How long an animation shows it, in seconds; None if the file has no times.
    """

    image: NDArray[np.uint8]
    number: int | None
    duration_s: float | None


@contextmanager
def open_picture(path: str | os.PathLike[str], content: bytes | None = None) -> Iterator[Image.Image]:
    """Open a picture with Pillow; pixels are decoded on demand, within the context.

    Args:
        path: A picture in one of ``picture_formats.FORMATS``, with any name.
        content: Its content, if already read; ``path`` is then only for messages.

    Raises:
        SourceError: The file does not exist, is not a picture, is damaged, or larger than ``core/limits.py`` allows;
            also for any exception of Pillow within the context.
    """
    try:
        with open_regular(path) if content is None else io.BytesIO(content) as file:
            size = file.seek(0, os.SEEK_END)
            if size > PICTURE_BYTES:
                raise SourceError(f"{path}: the file is too large: the limit is {in_words(PICTURE_BYTES)}")
            if not size:
                raise SourceError(f"{path}: the file is empty")
            file.seek(0)
            known = format_of(file.read(HEAD_BYTES))
            if known is None:
                names = ", ".join(item.name for item in FORMATS)
                raise SourceError(f"{path}: not a picture in a supported format: {names}")
            _check_codec(known, path)
            with Image.open(_for_pillow(file), formats=known.pillow) as picture:
                check_pixels(picture, path)
                if known is TIFF and _is_raw(picture):
                    raise RawFileError(
                        f"{path}: a camera's raw file, of which only a thumbnail could be read; develop it into JPEG "
                        "or TIFF first"
                    )
                yield picture
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except PermissionError as error:
        raise SourceError(f"{path}: it cannot be read: {in_one_line(error).lower()}") from error
    except UnidentifiedImageError as error:
        raise SourceError(
            f"{path}: its header is damaged, or Pillow does not support its samples, such as several "
            "channels of floating point numbers"
        ) from error
    except Image.DecompressionBombError as error:
        raise SourceError(
            f"{path}: a picture is too large: the limit is {PICTURE_PIXELS:,} pixels ({in_one_line(error)})"
        ) from error
    except MemoryError as error:
        raise SourceError(f"{path}: not enough memory for its pixels") from error
    except Exception as error:
        # Any error of a decoder on damaged data.
        raise SourceError(f"{path}: the picture is damaged or truncated ({in_one_line(error)})") from error


def check_pixels(picture: Image.Image, path: object) -> None:
    """Reject a picture, or its current page, for its size.

    Raises:
        SourceError: It has more pixels than ``core/limits.py`` allows.
    """
    width, height = picture.size
    refusal = too_large(f"{path}: a picture", (height, width), PICTURE_PIXELS)
    if refusal:
        raise SourceError(refusal)


def _for_pillow(file: BinaryIO | io.BytesIO) -> BinaryIO | io.BytesIO:
    file.seek(0)
    if file.read(2) == b"P7":
        file.seek(0)
        return io.BytesIO(as_pnm(file.read(), PICTURE_PIXELS))
    file.seek(0)
    return file


def _check_codec(known: Format, path: object) -> None:
    if known is HEIF:
        try:
            from pillow_heif import register_heif_opener
        except ModuleNotFoundError as error:
            raise SourceError(
                f'{path}: a {known.name} picture, which needs pillow-heif: pip install "edgebone[heic]", or save it as '
                "JPEG"
            ) from error
        register_heif_opener(thumbnails=False)
    elif known.name in _CODECS and not features.check(_CODECS[known.name]):
        raise SourceError(
            f"{path}: a picture in {known.name}, which this Pillow was built without; install Pillow's own wheel"
        )


def _is_raw(picture: Image.Image) -> bool:
    tags = picture.tag_v2  # type: ignore[attr-defined]
    is_thumbnail = bool(_first(tags.get(_SUBFILE)) & _REDUCED) and _SUBIFDS in tags
    return _DNG_VERSION in tags or _first(tags.get(_PHOTOMETRIC)) in _SENSOR or is_thumbnail


def _first(value: object) -> int:
    found = value[0] if isinstance(value, tuple) and value else value
    return found if isinstance(found, int) else 0


def read_image(path: str | os.PathLike[str], content: bytes | None = None) -> NDArray[np.uint8]:
    """Read a picture upright (its EXIF orientation applied) and with 8 bits, for any mode.

    Of several pages or frames the first is read, with one warning per file. Transparent pixels keep their stored
    colour, as in training; ICC profiles are not applied, for the same reason. ``depth.py`` converts other depths to 8
    bits.

    Needs 8 bytes of memory per pixel temporarily, including 3 for the result. For formats whose decoders keep the whole
    picture it is 10 (progressive JPEG, AVIF), 16 (WebP) or 20 (JPEG 2000).

    Args:
        path: A picture, as for :func:`open_picture`.
        content: Its content, if already read.

    Returns:
        uint8, shape (height, width, 3), BGR.

    Raises:
        SourceError: As :func:`open_picture`; or the range of its samples is unknown.
    """
    with open_picture(path, content) as picture:
        if _is_paged(picture):
            _say_first_page(os.fspath(path))
        return _to_bgr(picture, path, in_place=True)


def picture_to_bgr(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a picture that the caller has open, without changing it; as :func:`read_image`.

    Raises:
        SourceError: It is too large, damaged, or the range of its samples is unknown.
    """
    name = getattr(picture, "filename", "") or "the picture"
    check_pixels(picture, name)
    try:
        return _to_bgr(picture, name, in_place=False)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{name}: the picture is damaged or truncated ({in_one_line(error)})") from error


def read_pages(path: str | os.PathLike[str]) -> Iterator[Page]:
    """Yield all of a file's pictures: an animation's frames, a TIFF's pages.

    Omitted are smaller versions and masks of a TIFF's pages, an APNG's fallback picture, and the further pictures of a
    phone's JPEG or HEIC, which show the same moment. A frame with a duration of 0 counts 0.1 s, as in browsers.

    The decoders of animations also keep the previous picture: up to 24 bytes of memory per pixel.

    Raises:
        SourceError: As :func:`read_image`; after the pages before it.
    """
    with open_picture(path) as picture:
        if not _is_paged(picture):
            yield Page(_to_bgr(picture, path, in_place=True), None, None)
            return
        number = 0
        place = 1 if picture.info.get("default_image") else 0
        while _turn_to(picture, place):
            place += 1
            if picture.format == "TIFF" and _first(picture.tag_v2.get(_SUBFILE)) & (_REDUCED | _MASK):  # type: ignore[attr-defined]
                continue
            check_pixels(picture, path)
            # Not in place: an animation's next frame is drawn over this one.
            image = _to_bgr(picture, path, in_place=False)
            number += 1
            yield Page(image, number, None if picture.format == "TIFF" else _duration_s(picture))


def describe_pages(path: str | os.PathLike[str]) -> tuple[int | None, float | None]:
    """Return the number of pages of a file, and its rate in pages per second by the first one.

    Returns:
        The number, None if only reading could tell; the rate, None if the file has no times.

    Raises:
        SourceError: As :func:`open_picture`.
    """
    with open_picture(path) as picture:
        if not _is_paged(picture):
            return 1, None
        if picture.format == "TIFF":
            return None, None
        skipped = 1 if picture.info.get("default_image") else 0
        count = int(picture.n_frames) - skipped  # type: ignore[attr-defined]
        picture.seek(skipped)
        picture.load()
        return count, 1 / _duration_s(picture)


def _turn_to(picture: Image.Image, place: int) -> bool:
    try:
        picture.seek(place)
    except EOFError:
        return False
    return True


def _is_paged(picture: Image.Image) -> bool:
    known = next((item for item in FORMATS if picture.format in item.pillow), None)
    return known is not None and known.paged and bool(getattr(picture, "is_animated", False))


def _duration_s(picture: Image.Image) -> float:
    duration_ms = picture.info.get("duration")
    stated = isinstance(duration_ms, (int, float)) and 0 < duration_ms < float("inf")
    return duration_ms / 1000 if stated and duration_ms else 0.1


@lru_cache(maxsize=4096)
def _say_first_page(path: str) -> None:
    """Warn once per file."""
    _log.warning("%s: only the first of its pages is used", path)


def _to_bgr(picture: Image.Image, path: object, in_place: bool) -> NDArray[np.uint8]:
    # Before rotation: a rotated copy has lost its file's metadata.
    samples = samples_of(picture)
    deep = is_deep(picture.mode, samples)
    if deep:
        check_range(picture, samples, path)
    upright = picture
    if in_place:
        ImageOps.exif_transpose(picture, in_place=True)
    else:
        upright = ImageOps.exif_transpose(picture)
    width, height = upright.size
    bgr = np.empty((height, width, 3), np.uint8)
    rows = max(1, _PIECE_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        piece = upright.crop((0, top, width, bottom))
        if deep:
            bgr[top:bottom] = to_eight_bits(piece, samples)[..., None]
        else:
            # Pillow reverses the channels while writing; NumPy takes five times as long.
            rows_bgr = piece.convert("RGB").tobytes("raw", "BGR")
            bgr[top:bottom] = np.frombuffer(rows_bgr, np.uint8).reshape(bottom - top, width, 3)
    return bgr


def stored_and_upright_hw(path: str | os.PathLike[str]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return a picture's stored and upright (by EXIF) height and width, without decoding it.

    Raises:
        SourceError: As :func:`open_picture`.
    """
    with open_picture(path) as picture:
        width, height = picture.size
        turned = picture.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
        return (height, width), ((width, height) if turned else (height, width))


def is_picture(path: Path) -> bool:
    """Return whether a file begins like a picture, readable or not."""
    return _kind(path) == "picture"


def is_listed(path: Path) -> bool:
    """Return whether a file counts as a picture among others.

    It is judged by content, or by name if the content says nothing: damaged, empty, unreadable files and dangling links
    must be reported, not skipped.
    """
    # For a name that is too long os.path returns False, while Path raises.
    if os.path.isdir(path) or not (os.path.isfile(path) or os.path.islink(path)):  # noqa: PTH112, PTH113, PTH114
        return False
    kind = _kind(path)
    return kind == "picture" or (kind == "unknown" and path.suffix.lower() in SUFFIXES)


def _kind(path: Path) -> Literal["picture", "other", "unknown"]:
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return "unknown"
    known = format_of(head)
    if known is None:
        return "other" if is_video(head) else "unknown"
    if path.suffix.lower() in _MOTION_JPEG:
        return "other"
    if known is TIFF:
        try:
            with open_picture(path):
                pass
        except RawFileError:
            return "other"
        except SourceError:
            pass
    return "picture"
