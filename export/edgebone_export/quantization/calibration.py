"""Pictures that ranges are measured on: a folder, a labelled set or a video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError
from edgebone.core.manifest import Preprocess
from edgebone.evaluate.evaluation_set import prepared
from edgebone.evaluate.pictures import find_pictures, spread, video_frames
from edgebone_export.errors import ExportError

# Fewer say little about a network's ranges.
FEW = 16


@dataclass(frozen=True)
class Calibration:
    """Network inputs to measure on.

    Attributes:
        name: The folder's or file's name.
        inputs: uint8, (n, height, width, 3), as the runtime makes them.
    """

    name: str
    inputs: NDArray[np.uint8]


def read_calibration(
    source: Path, spec: Preprocess, count: int, notice: Callable[[str], None] = lambda _: None
) -> Calibration:
    """Prepare pictures, spread evenly over what there is.

    Args:
        source: A folder of pictures (with or without subfolders), a labelled set (CSV or COCO's JSON), or a video.
        spec: The bundle's preprocessing.
        count: How many are wanted.
        notice: Called with a line where fewer can be had, or some cannot be read.

    Raises:
        SourceError: There is nothing there, or nothing that can be read.
        ExportError: ``count`` is not positive.
    """
    if count < 1:
        raise ExportError(f"calibration needs pictures, not {count} of them")
    paths = find_pictures(source)
    chosen: Sequence[Path | NDArray[np.uint8]]
    chosen = video_frames(source, count) if paths is None else spread(paths, count)

    inputs = np.zeros((len(chosen), *spec.size_hw, 3), np.uint8)
    found, unreadable = 0, []
    with closing(prepared(spec, chosen, str(source))) as made:
        for own in made:
            if isinstance(own, str):
                unreadable.append(own)
            else:
                inputs[found], _ = own
                found += 1
    if unreadable:
        notice(f"{len(unreadable)} of {len(chosen)} calibration pictures cannot be read")
    for why in unreadable:
        notice(f"left out: {why}")
    if not found:
        available = len(chosen if paths is None else paths)
        raise SourceError(f"{source}: none of its {available} pictures can be read; nothing to calibrate on")
    if found < count:
        notice(f"{source}: {found} calibration pictures instead of the {count} asked for")
    elif found < FEW:
        notice(f"{found} calibration pictures say little about a network's ranges; 100 or more are usual")
    return Calibration(source.name, inputs[:found])
