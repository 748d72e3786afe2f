"""Types that the steps of a fit share: settings, inputs, and result."""

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
    """Settings of a fit; missing ones are chosen automatically.

    Attributes:
        kind: Name of one of ``edgebone_export.heads.kinds.kinds()``.
        name: Name of the head; None takes the kind's default.
        val: Pictures to measure on, labelled like the training ones; None holds out ``hold_out`` of those.
        hold_out: Share to hold out, 0 to 1.
        read: Readings, such as ``embedding,features_s16:avg``; None takes the defaults.
        views: Augmented views per training picture; 1 is the picture alone.
        engine: Engine that computes features.
        precision: Precision of the engine.
        variant: Variant of the bundle; None takes the engine's choice.
        options: Settings of this kind only, by their names in its row's ``settings``: ``positive`` or ``sensitivity``
            of a classifier, ``columns`` of a regression, ``images`` of a detection.
        seed: Random seed.
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
"""A linear classifier with all other settings chosen automatically."""


@dataclass(frozen=True)
class Work:
    """The shared inputs of the steps of a fit.

    Attributes:
        bundle: The open bundle.
        taps: Taps of the bundle.
        candidate: Variant, engine and precision that compute features.
        kind: Table row of the kind to fit.
        settings: Settings of the fit.
        own: Settings of this kind only.
        cache: Folder of cached features; None for no cache.
        progress: Called with one line per step.
        count: Called with the number of pictures done and their total.
        alone: Whether only the artefact is written.
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
        """Return features of pictures, with this fit's cache and progress."""
        return extract(engine, pictures, views=views, seed=self.settings.seed, cache=self.cache, progress=self.count)

    def fit(self, given: OnVectors | OnMaps) -> FittedHead:
        """Fit the head with the kind's own function.

        Raises:
            ExportError: The data does not suit the settings, or the package of the kind fails.
        """
        head = self.kind.load(self.kind.fit)(given, self.own)
        if not isinstance(head, FittedHead):
            raise ExportError(
                f"the head kind {self.kind.name} is at fault: its fit returned {head!r:.80}, no FittedHead"
            )
        return head


@dataclass(frozen=True)
class Fitted:
    """A fitted head and how it was measured.

    Attributes:
        pictures: Pictures that it was measured on: the held-out ones, if any.
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
