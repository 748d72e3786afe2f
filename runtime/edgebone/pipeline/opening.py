"""From what a caller wishes to the steps that do it."""

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
    """Make a step that a package brings.

    Args:
        text: ``NAME``, or ``NAME=ARGUMENT`` for a step that is told something; what that means is the step's own.

    Raises:
        EdgeboneError: No package brings the name, or the one that does is at fault.
    """
    name, _, argument = text.partition("=")
    brought = names_brought(GROUP)
    if name not in brought:
        there = f"there are {', '.join(brought)}" if brought else "no package that is installed brings one"
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
    """Make the steps of a run, in the order in which they follow each other.

    Args:
        galleries: Files that name embeddings, by head; the only one's under an empty name.
        track: Follow what is detected from frame to frame.
        zones: A file of zones and lines, for what is followed.
        others: Steps of packages, as :func:`open_step` takes them.
        notice: Called with a line where a gallery has changed; None logs it.

    Raises:
        ZonesError: The file of zones is not there, or says something else.
        MissingDependencyError: trackers or supervision is not installed.
        EdgeboneError: There is no such step, or its package is at fault.
    """
    steps: list[Step] = []
    if galleries:
        from edgebone.pipeline.naming import Naming

        steps.append(Naming(galleries, notice))
    if track:
        from edgebone.pipeline.tracks import Tracks

        steps.append(Tracks(zones))
    return [*steps, *map(open_step, others)]
