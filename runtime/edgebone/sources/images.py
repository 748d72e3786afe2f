"""Picture files."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame
from edgebone.core.limits import PICTURE_BYTES, PICTURE_PIXELS
from edgebone.core.reading import in_words, open_regular

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""What counts as a picture when a folder is searched; a file named by the user is tried whatever its name."""


# All that SUFFIXES name. Pillow's other formats are refused: one of them, EPS, starts Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
# Pillow's pixels are turned into an array so many at a time: no second and third copy of a large picture.
_PIECE_PIXELS = 1 << 20


@contextmanager
def open_picture(path: str | os.PathLike[str], content: bytes | None = None) -> Iterator[Image.Image]:
    """Open a picture with Pillow; its pixels are decoded when they are asked for, within the context.

    Args:
        path: A BMP, GIF, JPEG, PNG, PNM, TIFF or WebP.
        content: What is in it, where that was read already: ``path`` is for messages then.

    Raises:
        SourceError: There is no such file, it is no picture, it is damaged, or larger than ``core/limits.py`` allows;
            whatever Pillow raises within the context too.
    """
    try:
        with open_regular(path) if content is None else io.BytesIO(content) as file:
            if file.seek(0, os.SEEK_END) > PICTURE_BYTES:
                raise SourceError(f"{path}: the file is larger than {in_words(PICTURE_BYTES)}")
            file.seek(0)
            with Image.open(file, formats=_FORMATS) as picture:
                width, height = picture.size
                if width * height > PICTURE_PIXELS:
                    raise Image.DecompressionBombError(f"{width}x{height}")
                yield picture
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise SourceError(f"{path}: not a picture in a format that can be read") from error
    except Image.DecompressionBombError as error:
        most = PICTURE_PIXELS // 1_000_000
        raise SourceError(
            f"{path}: the picture has more than {most} million pixels ({error}); make it smaller"
        ) from error
    except Exception as error:
        # Whatever a decoder meets with in damaged data.
        raise SourceError(f"{path}: the picture is damaged or truncated ({error})") from error


def read_image(path: str | os.PathLike[str], content: bytes | None = None) -> NDArray[np.uint8]:
    """Read a picture upright (its EXIF orientation applied), whatever its mode.

    Takes 8 bytes of memory a pixel for a moment, 3 of which are the result; with a progressive JPEG 10 and with a WebP
    16, whose decoders keep the whole picture, too.

    Args:
        path: A picture, as :func:`open_picture` takes it.
        content: What is in it, where that was read already.

    Returns:
        uint8, shape (height, width, 3), BGR.

    Raises:
        SourceError: As :func:`open_picture`.
    """
    with open_picture(path, content) as picture:
        ImageOps.exif_transpose(picture, in_place=True)
        return picture_to_bgr(picture)


def picture_to_bgr(picture: Image.Image) -> NDArray[np.uint8]:
    """TEMPORARY"""
    width, height = picture.size
    bgr = np.empty((height, width, 3), np.uint8)
    rows = max(1, _PIECE_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        piece = _eight_bits(picture.crop((0, top, width, bottom)))
        bgr[top:bottom] = np.asarray(piece.convert("RGB"))[..., ::-1]
    return bgr


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits: Pillow's own conversion turns all that is not almost black into white."""
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def is_picture(path: Path) -> bool:
    """Whether the file's first bytes are those of a picture."""
    try:
        with open_picture(path):
            return True
    except SourceError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            return False
        # Too large, or a header that is cut off: a picture, though not one that can be read.
        return isinstance(error.__cause__, Image.DecompressionBombError) or path.suffix.lower() in SUFFIXES


class ImageFiles:
    """Picture files, one frame each.

    Args:
        paths: The files, in order.
        name: What the user called them.
    """

    live = False
    in_memory = False
    fps = None

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.name = name
        self.frame_count: int | None = len(paths)
        self._paths = list(paths)
        self._next = 0

    def read(self) -> Frame | None:
        """Read the next file; the frame's source is the file's own path."""
        if self._next >= len(self._paths):
            return None
        path = self._paths[self._next]
        image = read_image(path)
        self._next += 1
        return Frame(image, self._next - 1, time.monotonic_ns(), str(path))

    def interrupt(self) -> None:
        """A read never waits."""

    def close(self) -> None:
        """Nothing is held between frames."""
