"""How the answers of a head are counted, whatever its task."""

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
    """What was counted.

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
        count: Has a model look at them and counts; called with the number of pictures done, and with why a picture is
            left out.
        check: Holds what the labels say of the pictures against them; to be called before they are looked at.
    """

    pictures: tuple[Path, ...]
    count: Callable[[Predictor, Callable[[int], None], LeftOut], Figures]
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Evaluation:
    """How a task is evaluated.

    Attributes:
        find: The labels that a path is or holds, given the folder of the pictures; None where it holds pictures alone.
        read: Reads the labels for a head, from its name, itself, the labels' path and the folder of the pictures.
        has_folder: Whether the pictures may lie in a folder of their own.
        settings: What the head's decoder is set to, where it has such a setting.
    """

    find: Callable[[Path, Path | None], Path | None]
    read: Callable[[str, Head, Path, Path | None], Truth]
    has_folder: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
