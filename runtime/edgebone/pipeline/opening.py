"""From what a caller wishes to the steps that do it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgebone.pipeline.step import Step


def open_steps(
    galleries: Mapping[str, str | os.PathLike[str]],
    track: bool = False,
    zones: str | os.PathLike[str] | None = None,
    notice: Callable[[str], object] | None = None,
) -> list[Step]:
    """Make the steps of a run, in the order in which they follow each other.

    Args:
        galleries: Files that name embeddings, by head; the only one's under an empty name.
        track: Follow what is detected from frame to frame.
        zones: A file of zones and lines, for what is followed.
        notice: Called with a line where a gallery has changed; None logs it.

    Raises:
        ZonesError: The file of zones is not there, or says something else.
        MissingDependencyError: trackers or supervision is not installed.
    """
    steps: list[Step] = []
    if galleries:
        from edgebone.pipeline.naming import Naming

        steps.append(Naming(galleries, notice))
    if track:
        from edgebone.pipeline.tracks import Tracks

        steps.append(Tracks(zones))
    return steps
