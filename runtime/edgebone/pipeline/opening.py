"""Opens the steps of a run by the caller's options."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgebone.core.brought import make_brought, names_brought
from edgebone.core.errors import EdgeboneError
from edgebone.core.model_files import bundle_name
from edgebone.core.near import did_you_mean

if TYPE_CHECKING:
    from edgebone.pipeline.crops import Crops
    from edgebone.pipeline.step import Step
    from edgebone.pipeline.tiles import Tiles

GROUP = "edgebone.steps"
_MEMBERS = ("looks_itself", "prepare", "refresh", "look", "draw", "files", "load_again", "summary", "close")


@dataclass(frozen=True)
class Cascade:
    """The second models of a run: each cuts out the boxes of the latest one before it that finds boxes.

    Attributes:
        bundles: Their names, empty for the file's own, and paths.
        classes: The classes of the run's own model that are cut out; None for all.
        budget: The largest number of crops a frame, for each of them; None for all.
        once_a_track: Seconds after which a tracked object is asked about again; None for each frame.
        options: Those of :func:`edgebone.load`.
    """

    bundles: Sequence[tuple[str, str]] = ()
    classes: Sequence[str] | None = None
    budget: int | None = None
    once_a_track: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


NO_CASCADE = Cascade()


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
    then: Cascade = NO_CASCADE,
    tiles: Tiles | None = None,
) -> list[Step]:
    """Create the steps of a run, in their order.

    Args:
        galleries: Gallery files by head, or by the name of a second model; an empty name stands for the last second
            model, without any for the only head.
        track: Track detections from frame to frame.
        zones: A file of zones and lines for tracked objects.
        others: Steps of packages, as for :func:`open_step`.
        notice: Called with a line when a gallery has changed; None logs it.
        then: The second models, opened here: close the steps after the run.
        tiles: Runs the model on parts of frames.

    Raises:
        BundleError: A second model cannot be opened, or has nothing to cut out.
        ZonesError: The file of zones is missing or invalid.
        MissingDependencyError: trackers or supervision is not installed.
        EdgeboneError: No such step, or its package is at fault.
    """
    names = [name or bundle_name(path) for name, path in then.bundles]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise EdgeboneError(f"two second models have the name {twice}; name them: NAME=BUNDLE")
    files = {names[-1] if names and not key else key: path for key, path in galleries.items()}
    if len(files) < len(galleries):
        raise EdgeboneError(f"two galleries name the answers of {names[-1]}; give it one")
    own = {key: path for key, path in files.items() if key not in names}
    steps: list[Step] = [] if tiles is None else [tiles]
    if own:
        from edgebone.pipeline.naming import Naming

        steps.append(Naming(own, notice))
    if track:
        from edgebone.pipeline.tracks import Tracks

        steps.append(Tracks(zones))
    with ExitStack() as opened:
        of: Crops | None = None
        for name, (_, path) in zip(names, then.bundles, strict=True):
            from edgebone.pipeline.crops import DETECTIONS, Crops

            crops = Crops(
                path, of or DETECTIONS, name=name, classes=None if of else then.classes, budget=then.budget,
                once_a_track=None if of else then.once_a_track, gallery=files.get(name), notice=notice, **then.options,
            )  # fmt: skip
            opened.callback(crops.close)
            steps.append(crops)
            of = crops if crops.finds_boxes else of
        steps += map(open_step, others)
        opened.pop_all()
    return steps
