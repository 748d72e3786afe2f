"""The contract of evaluations for all tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgebone.core.manifest import Head
from edgebone.evaluate.answers import LeftOut
from edgebone.evaluate.predictor import Predictor


@dataclass(frozen=True)
class Figures:
    """The figures of an evaluation.

    Attributes:
        value: The task's one metric, 0 to 100.
        record: All figures, as plain JSON values.
        text: The same in words.
    """

    value: float
    record: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Truth:
    """Labelled pictures.

    Attributes:
        pictures: Their files.
        count: Runs a model on them and counts; takes callbacks for the number of pictures done and for pictures left
            out.
        check: Checks the labels against the pictures' sizes; call it before ``count``.
    """

    pictures: tuple[Path, ...]
    count: Callable[[Predictor, Callable[[int], None], LeftOut], Figures]
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Evaluation:
    """How a task is evaluated.

    Attributes:
        find: Returns the labels at a path, given the folder of the pictures; None if it holds only pictures.
        read: Reads the labels for a head, from its name, the head, the labels' path and the folder of the pictures.
        has_folder: Whether the pictures may be in a separate folder.
        settings: Settings for the head's decoder, where it has them.
    """

    find: Callable[[Path, Path | None], Path | None]
    read: Callable[[str, Head, Path, Path | None], Truth]
    has_folder: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
