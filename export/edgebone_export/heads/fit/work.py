"""What the parts of a fit share: what was said, what is at hand, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgebone.core.bundle import Bundle
from edgebone.core.manifest import Accuracy, Tap
from edgebone.engines.spec import Candidate
from edgebone_export.errors import ExportError
from edgebone_export.heads.features.features import FeatureEngine, Features, extract
from edgebone_export.heads.features.fitted import FittedHead, OnMaps, OnVectors
from edgebone_export.heads.features.readings import Reading
from edgebone_export.heads.kinds import HeadKind, HeadSettings


@dataclass(frozen=True)
class Settings:
    """What can be said about a fit; what is left out is chosen.

    Attributes:
        kind: The name of one of ``edgebone_export.heads.kinds.kinds()``.
        name: The head's name; None for what it does.
        val: Pictures to measure on, labelled as those to fit on; None holds out ``hold_out`` of them.
        hold_out: The share that is held out, 0 to 1.
        read: What it reads, such as ``embedding,features_s16:avg``; None takes what has served best.
        views: Augmented views a picture, while fitting; 1 for the picture alone.
        engine: The engine that features are computed with.
        precision: Its precision.
        variant: The bundle's variant; None takes what the engine takes.
        options: The settings that this kind has of its own, by their names in its row's ``settings``: ``positive`` or
            ``sensitivity`` of a classifier, ``columns`` of a regression, ``images`` of a detection.
        seed: Of all that is random.
    """

    kind: str = "linear"
    name: str | None = None
    val: Path | None = None
    hold_out: float = 0.2
    read: str | None = None
    views: int = 1
    engine: str = "auto"
    precision: str | None = None
    variant: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


LINEAR = Settings()
"""A linear classifier; all else is chosen."""


@dataclass(frozen=True)
class Work:
    """What the parts of a fit share.

    Attributes:
        bundle: The open bundle.
        taps: Its taps.
        candidate: What computes features.
        kind: The row of the kind that is fitted.
        settings: What was said.
        own: What was said of the settings that the kind has of its own.
        cache: The folder of features; None for none.
        progress: Called with a line a step.
        count: Called with how many of how many pictures are done.
        alone: Whether the artefact is all that is wanted.
    """

    bundle: Bundle
    taps: dict[str, Tap]
    candidate: Candidate
    kind: HeadKind
    settings: Settings
    own: HeadSettings
    cache: Path | None
    progress: Callable[[str], None]
    count: Callable[[int, int], None]
    alone: bool = False

    def features(self, engine: FeatureEngine, pictures: Sequence[Path], views: int) -> Features:
        """Features of pictures, with this work's cache and progress."""
        return extract(engine, pictures, views=views, seed=self.settings.seed, cache=self.cache, progress=self.count)

    def fit(self, given: OnVectors | OnMaps) -> FittedHead:
        """Have the kind fit its head.

        Raises:
            ExportError: The data does not allow what is wanted, or the package that brings the kind is at fault.
        """
        head = self.kind.load(self.kind.fit)(given, self.own)
        if not isinstance(head, FittedHead):
            raise ExportError(
                f"the head kind {self.kind.name} is at fault: its fit returned {head!r:.80}, no FittedHead"
            )
        return head


@dataclass(frozen=True)
class Fitted:
    """A head, and what is to be told about how it came about.

    Attributes:
        pictures: What it was measured on: those that were held out, where some were.
    """

    head: FittedHead
    pictures: Sequence[Path]
    reads: tuple[Reading, ...] | tuple[str, ...]
    accuracies: dict[str, Accuracy | None]
    unreadable: dict[str, str]
    leaked: tuple[str, ...]
    contradictory: tuple[str, ...]
    from_cache: tuple[int, int]
    features_s: float
    fit_s: float
