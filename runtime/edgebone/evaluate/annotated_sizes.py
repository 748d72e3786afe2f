"""Annotations are held against the pictures: boxes in other pixels than those that are looked at count for nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgebone.core.errors import SourceError
from edgebone.sources.images import stored_and_upright_hw


def stated_wh(width: Any, height: Any) -> tuple[int, int] | None:
    """A width and height as annotations state them; None where they are left out, zero, or no whole numbers."""
    whole = [isinstance(side, (int, float)) and side >= 1 and side == side // 1 for side in (width, height)]
    return (int(width), int(height)) if all(whole) else None


def check_sizes(where: Path | str, annotated: Iterable[tuple[Path, tuple[int, int] | None]]) -> None:
    """Compare the sizes that annotations state with the pictures' own.

    A picture is looked at upright, as its EXIF orientation says. Where an annotation states the size that the file has
    before it is turned, its boxes are in pixels that nobody sees.

    Args:
        where: The annotations, for the message.
        annotated: Each picture's file, with the width and height that the annotations state; None where they state
            none.

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
            # Whoever reads its pixels says so.
            continue
        if (height, width) != upright_hw:
            turned = turned or (height, width) == stored_hw
            own = f"{upright_hw[1]}x{upright_hw[0]}"
            if stored_hw != upright_hw:
                own += f" as its EXIF orientation turns it, {stored_hw[1]}x{stored_hw[0]} as it is stored"
            wrong.append(f"{path} is annotated as {width}x{height}, and is {own}")
    if wrong:
        advice = (
            "annotate the pictures as they are seen, or take the orientation out of the files"
            if turned
            else "annotate the pictures in the size that they have"
        )
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise SourceError(f"{where}: {wrong[0]}{more}: the boxes would be in other pixels; {advice}")


def check_masks(where: Path, pairs: Iterable[tuple[Path, Path]]) -> None:
    """Refuse masks that lie as their pictures' files do before EXIF turns them.

    Args:
        where: The masks' folder, for the message.
        pairs: Each picture's file and its mask's; a mask may be of another size than its picture.

    Raises:
        SourceError: One does, with both sizes. A file that cannot be read is not compared.
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
                "as its EXIF orientation turns it; turn the masks, or take the orientation out of the pictures"
            )


def check_inside(where: str, path: Path, boxes_xywh: Iterable[tuple[float, float, float, float]]) -> None:
    """Refuse boxes that reach beyond the picture, which annotations that state no size can be held to.

    Args:
        where: The annotations, for the message.
        path: The picture.
        boxes_xywh: Left, top, width and height in pixels; half a pixel and a hundredth of a side beyond is rounding.

    Raises:
        SourceError: One does, with the picture's sizes; or the picture cannot be read.
    """
    stored_hw, (height, width) = stored_and_upright_hw(path)
    for left, top, wide, high in boxes_xywh:
        spare = 0.5 + 0.01 * max(width, height)
        if min(left, top) < -spare or left + wide > width + spare or top + high > height + spare:
            own = f"{width}x{height}"
            if stored_hw != (height, width):
                own += f" as its EXIF orientation turns it ({stored_hw[1]}x{stored_hw[0]} as it is stored)"
            raise SourceError(
                f"{where}: the box {left:g}, {top:g}, {wide:g}, {high:g} reaches beyond {path}, which is {own}; give "
                "boxes in the pixels of the picture as it is seen"
            )
