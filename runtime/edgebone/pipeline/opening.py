"""Opens the steps of a run by the caller's options."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from edgebone.core.brought import make_brought, names_brought
from edgebone.core.errors import EdgeboneError
from edgebone.core.near import did_you_mean

if TYPE_CHECKING:
    from edgebone.pipeline.step import Step

GROUP = "edgebone.steps"
_MEMBERS = ("looks_itself", "prepare", "refresh", "look", "draw", "files", "load_again", "summary")


def open_step(text: str) -> Step:
    """Create a step that a package provides.

    Args:
        text: ``NAME``, or ``NAME=ARGUMENT`` for a step with an argument, which the step interprets.

    Raises:
        EdgeboneError: No package provides the name, or the one that does is at fault.
    """
    name, _, argument = text.partition("=")
    brought = names_brought(GROUP)
    if name not in brought:
        there = f"there are {', '.join(brought)}" if brought else "no installed package provides one"
        raise EdgeboneError(f"there is no step {name}; {did_you_mean(name, brought)}{there}")
    made: Step = make_brought(GROUP, name, f"step {name}", EdgeboneError, _MEMBERS, argument)
    return made


def open_steps(
    galleries: Mapping[str, str | os.PathLike[str]],
    track: bool = False,
    zones: str | os.PathLike[str] | None = None,
    others: Sequence[str] = (),
    notice: Callable[[str], object] | None = None,
) -> list[Step]:
    """Create the steps of a run, in their order.

    Args:
        galleries: Gallery files by head; an empty name stands for the only one.
        track: Track detections from frame to frame.
        zones: A file of zones and lines for tracked objects.
        others: Steps of packages, as for :func:`open_step`.
        notice: Called with a line when a gallery has changed; None logs it.

    Raises:
        ZonesError: The file of zones is missing or invalid.
        MissingDependencyError: trackers or supervision is not installed.
        EdgeboneError: No such step, or its package is at fault.
    """
    steps: list[Step] = []
    if galleries:
        from edgebone.pipeline.naming import Naming

        steps.append(Naming(galleries, notice))
    if track:
        from edgebone.pipeline.tracks import Tracks

        steps.append(Tracks(zones))
    return [*steps, *map(open_step, others)]
