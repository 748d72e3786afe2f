"""Checks annotations against the pictures: boxes in other pixel coordinates would be counted wrongly."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgebone.core.errors import SourceError
from edgebone.sources.images import stored_and_upright_hw


def stated_wh(width: Any, height: Any) -> tuple[int, int] | None:
    """Return a width and height from annotations; None if missing, zero or not whole numbers."""
    whole = [isinstance(side, (int, float)) and side >= 1 and side == side // 1 for side in (width, height)]
    return (int(width), int(height)) if all(whole) else None


def check_sizes(where: Path | str, annotated: Iterable[tuple[Path, tuple[int, int] | None]]) -> None:
    """Compare the sizes that annotations state with the pictures' own.

    Pictures are read upright, by their EXIF orientation. If an annotation states the stored size before rotation, its
    boxes are in other pixel coordinates.

    Args:
        where: The annotations, for the message.
        annotated: Each picture's file, with the annotated width and height; None if there are none.

    Raises:
        SourceError: They differ, with both sizes. A picture that cannot be read is not compared.
    """
    wrong: list[str] = []
    turned = False
    for path, size_wh in annotated:
        if size_wh is None:
            continue
        width, height = size_wh
        try:
            stored_hw, upright_hw = stored_and_upright_hw(path)
        except SourceError:
            # Reading its pixels reports the error.
            continue
        if (height, width) != upright_hw:
            turned = turned or (height, width) == stored_hw
            own = f"{upright_hw[1]}x{upright_hw[0]}"
            if stored_hw != upright_hw:
                own += f" as its EXIF orientation turns it, {stored_hw[1]}x{stored_hw[0]} as it is stored"
            wrong.append(f"{path} is annotated as {width}x{height}, and is {own}")
    if wrong:
        advice = (
            "annotate the upright pictures, or remove the orientation from the files"
            if turned
            else "annotate the pictures at their own size"
        )
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise SourceError(f"{where}: {wrong[0]}{more}: the boxes would be in other pixels; {advice}")


def check_masks(where: Path, pairs: Iterable[tuple[Path, Path]]) -> None:
    """Reject masks in the stored orientation of pictures that EXIF rotates.

    Args:
        where: The masks' folder, for the message.
        pairs: Each picture's file and its mask's; their sizes may differ.

    Raises:
        SourceError: A mask is so, with both sizes. A file that cannot be read is not compared.
    """
    for picture, mask in pairs:
        try:
            stored_hw, (height, width) = stored_and_upright_hw(picture)
            mask_hw = stored_hw if stored_hw == (height, width) else stored_and_upright_hw(mask)[0]
        except SourceError:
            continue
        if mask_hw == stored_hw != (height, width):
            raise SourceError(
                f"{where}: {mask.name} is {mask_hw[1]}x{mask_hw[0]} as {picture} is stored, which is {width}x{height} "
                "as its EXIF orientation turns it; rotate the masks, or remove the orientation from the pictures"
            )


def check_inside(where: str, path: Path, boxes_xywh: Iterable[tuple[float, float, float, float]]) -> None:
    """Reject boxes that extend beyond the picture: the check for annotations without a size.

    Args:
        where: The annotations, for the message.
        path: The picture.
        boxes_xywh: Left, top, width and height in pixels; half a pixel and a hundredth of a side beyond are allowed as
            rounding.

    Raises:
        SourceError: A box does, with the picture's sizes; or the picture cannot be read.
    """
    stored_hw, (height, width) = stored_and_upright_hw(path)
    for left, top, wide, high in boxes_xywh:
        spare = 0.5 + 0.01 * max(width, height)
        if min(left, top) < -spare or left + wide > width + spare or top + high > height + spare:
            own = f"{width}x{height}"
            if stored_hw != (height, width):
                own += f" as its EXIF orientation turns it ({stored_hw[1]}x{stored_hw[0]} as it is stored)"
            raise SourceError(
                f"{where}: the box {left:g}, {top:g}, {wide:g}, {high:g} extends beyond {path}, which is {own}; give "
                "boxes in the pixels of the upright picture"
            )
