"""Converts samples of any depth to 8 bits, by the file's format and metadata, never by its content.

8 bits are unchanged. Fewer bits are scaled to 0 to 255. Of 9 to 16 unsigned bits the highest 8 are kept, in any format.
Signed, 32-bit and floating point samples have no natural range: the file must state one, which is mapped to 0 to 255; a
file without one is rejected, with the range found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgebone.core.errors import SourceError

# Tags of TIFF 6.0.
_BITS, _PHOTOMETRIC, _FORMAT, _LOWEST, _HIGHEST = 258, 262, 339, 340, 341
_WHITE_IS_ZERO, _SIGNED = 0, 2
_KINDS = {
    "L": "signed 8-bit integers",
    "I": "signed or 32-bit integers",
    "F": "floating point numbers",
}


@dataclass(frozen=True)
class Samples:
    """A file's metadata about single-channel samples other than 8 unsigned bits.

    Attributes:
        bits: Bits per sample.
        signed: Whether they are signed.
        inverted: Whether 0 is white and Pillow does not invert it.
        span: The values that become 0 and 255; None if the file states none.
    """

    bits: int = 16
    signed: bool = False
    inverted: bool = False
    span: tuple[float, float] | None = None


def samples_of(picture: Image.Image) -> Samples:
    """Read the metadata of the file's, or the current page's, samples.

    Pillow itself scales the ranges of PNM, up to its maxval, and of JPEG 2000 to 16 bits.
    """
    if picture.format != "TIFF":
        return Samples()
    tags: Any = picture.tag_v2  # type: ignore[attr-defined]
    lowest, highest = (_number(tags.get(tag)) for tag in (_LOWEST, _HIGHEST))
    return Samples(
        bits=int(_number(tags.get(_BITS)) or 1),
        signed=_number(tags.get(_FORMAT)) == _SIGNED,
        # For up to 8 bits Pillow inverts them itself.
        inverted=_number(tags.get(_PHOTOMETRIC)) == _WHITE_IS_ZERO and picture.mode not in ("1", "L"),
        span=None if lowest is None or highest is None or not lowest < highest else (lowest, highest),
    )


def _number(value: Any) -> float | None:
    first = value[0] if isinstance(value, tuple) and value else value
    return float(first) if isinstance(first, (int, float)) and np.isfinite(first) else None


def is_deep(mode: str, samples: Samples) -> bool:
    """Return whether Pillow's own conversion to RGB would clip or wrap such samples."""
    return mode in ("I", "F") or mode.startswith("I;16") or (mode == "L" and samples.signed)


def check_range(picture: Image.Image, samples: Samples, path: object) -> None:
    """Reject a picture whose mode :func:`is_deep` if nothing defines black and white.

    Raises:
        SourceError: Neither the file nor its type of samples defines a range.
    """
    if samples.span is not None or _has_own_range(picture):
        return
    values = _values(picture, samples)
    raise SourceError(
        f"{path}: its samples are {_KINDS[picture.mode]}, {np.nanmin(values):g} to {np.nanmax(values):g} here, and "
        "the file does not define black and white (as TIFF's tags SMinSampleValue and SMaxSampleValue do); "
        "save it with 8 or 16 bits"
    )


def to_eight_bits(piece: Image.Image, samples: Samples) -> NDArray[np.uint8]:
    """Scale one channel.

    Args:
        piece: Some rows of a picture that :func:`check_range` accepts.
        samples: Their metadata.

    Returns:
        uint8, shape (height, width).
    """
    values = _values(piece, samples)
    if samples.span is None:
        levels = (values >> max(0, samples.bits - 8)).clip(0, 255).astype(np.uint8)
    else:
        lowest, highest = samples.span
        shares = (values.astype(np.float64) - lowest) / (highest - lowest)
        levels = np.rint(np.nan_to_num(shares, nan=0.0).clip(0, 1) * 255).astype(np.uint8)
    return np.asarray(255 - levels if samples.inverted else levels, np.uint8)


def _has_own_range(picture: Image.Image) -> bool:
    return picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM")


def _values(piece: Image.Image, samples: Samples) -> NDArray[Any]:
    values = np.asarray(piece)
    if piece.mode == "I" and samples.bits == 32 and not samples.signed:
        return values.astype(np.int32).view(np.uint32)
    return values.view(np.int8) if piece.mode == "L" else values
