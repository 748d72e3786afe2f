"""Read calibration pictures from a folder, a labelled set or a video."""

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

# Fewer pictures say little about a network's ranges.
FEW = 16


@dataclass(frozen=True)
class Calibration:
    """Network inputs for calibration.

    Attributes:
        name: Name of the folder or file.
        inputs: uint8 (n, height, width, 3), as the runtime makes them.
    """

    name: str
    inputs: NDArray[np.uint8]


def read_calibration(
    source: Path, spec: Preprocess, count: int, notice: Callable[[str], None] = lambda _: None
) -> Calibration:
    """Preprocess pictures, evenly spaced over the source.

    Args:
        source: Folder of pictures (with or without subfolders), a labelled set (CSV or COCO's JSON), or a video.
        spec: The bundle's preprocessing.
        count: Number of pictures.
        notice: Called with a line if there are fewer, or some cannot be read.

    Raises:
        SourceError: The source is missing, or has no readable pictures.
        ExportError: ``count`` is not positive.
    """
    if count < 1:
        raise ExportError(f"calibration needs 1 picture or more, found {count}")
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
        raise SourceError(f"{source}: none of its {available} pictures can be read, so calibration is not possible")
    if found < count:
        notice(f"{source}: found {found} calibration pictures, not the {count} requested")
    elif found < FEW:
        notice(f"{found} calibration pictures say little about a network's ranges; use 100 or more")
    return Calibration(source.name, inputs[:found])
