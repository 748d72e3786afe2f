"""Picture files."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""What counts as a picture when a folder is searched; a file named by the user is tried whatever its name."""


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a picture upright (its EXIF orientation applied), whatever its mode.

    Args:
        path: Any format that Pillow reads.

    Returns:
        uint8, shape (height, width, 3), BGR.

    Raises:
        SourceError: There is no such file, it is no picture, or it is truncated.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            rgb = np.asarray(_eight_bits(upright).convert("RGB"))
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise SourceError(f"{path}: not a picture in a format that can be read") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        # Pillow reports damage within a known format by all of these.
        raise SourceError(f"{path}: the picture is damaged or truncated ({error})") from error
    return np.ascontiguousarray(rgb[..., ::-1])


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits: Pillow's own conversion turns all that is not almost black into white."""
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def is_picture(path: Path) -> bool:
    """Whether the file's first bytes are those of a picture."""
    try:
        with Image.open(path):
            return True
    except UnidentifiedImageError:
        return False
    except Image.DecompressionBombError:
        return True
    except (OSError, SyntaxError, ValueError, EOFError):
        # A header that is cut off: a picture, though not one that can be read.
        return path.suffix.lower() in SUFFIXES


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
