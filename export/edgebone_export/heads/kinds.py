"""The table of head kinds for the fit, its report and the command line. Imports nothing heavy.

Packages add kinds with an entry point in the group ``edgebone.heads``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from edgebone.core.brought import advice, guarded, load_brought, loading, names_brought, who_brings
from edgebone.core.foreign import foreign
from edgebone.core.near import did_you_mean
from edgebone.core.place import load_place
from edgebone_export.errors import ExportError


@dataclass(frozen=True)
class Option:
    """The command-line option ``--its-name`` of a setting; settings without one are available only in Python.

    Attributes:
        help: Help text.
        least: Smallest allowed number.
        is_share: Whether the value is a share from 0 to 1.
    """

    help: str
    least: int | None = None
    is_share: bool = False


@dataclass(frozen=True)
class HeadSettings:
    """Settings of one kind of head, beside those of every fit; None leaves the choice to its fit function."""

    def said(self, *but: str) -> dict[str, Any]:
        """Return the given settings by name, except those in ``but``."""
        named = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in but}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class ClassifierSettings(HeadSettings):
    """Settings of :func:`edgebone_export.heads.vectors.classifier.fit_classifier`."""

    positive: Annotated[str | None, Option("The positive class of two, such as malignant.")] = None
    sensitivity: Annotated[
        float | None, Option("Share of the positive class that decisions must find.", is_share=True)
    ] = None
    abstain: Annotated[
        tuple[float, float] | None,
        Option("LOW,HIGH: abstain between these probabilities of --positive."),
    ] = None
    abstain_below: Annotated[float | None, Option("Abstain if the best class is less probable.", is_share=True)] = None
    decision_accuracy: Annotated[
        float | None,
        Option("Share of decisions that must be right; chooses when to abstain.", is_share=True),
    ] = None
    balanced: bool | None = None
    folds: int | None = None


@dataclass(frozen=True)
class MlpSettings(ClassifierSettings):
    """Settings of the kind ``mlp``."""

    hidden: Annotated[int | None, Option("Size of the hidden layer.", least=1)] = None


@dataclass(frozen=True)
class MultilabelSettings(HeadSettings):
    """Settings of :func:`edgebone_export.heads.vectors.multilabel.fit_multilabel`."""

    folds: int | None = None


@dataclass(frozen=True)
class RegressionSettings(HeadSettings):
    """Settings of :func:`edgebone_export.heads.vectors.regression.fit_regression`, and the columns to fit on."""

    columns: Annotated[tuple[str, ...] | None, Option("Columns of numbers, a,b; default all.")] = None
    folds: int | None = None


@dataclass(frozen=True)
class EmbeddingSettings(HeadSettings):
    """Settings of :func:`edgebone_export.heads.vectors.embedding.fit_embedding`."""

    dimension: Annotated[int | None, Option("Largest length of the embedding.", least=1)] = None
    folds: int | None = None


_Epochs = Annotated[int | None, Option("Passes over the data.", least=1)]
_Images = Annotated[Path | None, Option("Folder of the pictures, if not images beside the data.")]
_ValImages = Annotated[Path | None, Option("Folder of the pictures of --val.")]


@dataclass(frozen=True)
class SegmentationSettings(HeadSettings):
    """Settings of :func:`edgebone_export.heads.maps.segmentation.fit_segmentation`, and paths of pictures and names."""

    epochs: _Epochs = None
    output_stride: Annotated[
        int | None, Option("Pixels of the network's input per cell of the class map.", least=1)
    ] = None
    labels: Annotated[Path | None, Option("Class names, one per line; default labels.txt in the data.")] = None
    images: _Images = None
    val_images: _ValImages = None
    decoder_kind: Literal["lraspp", "linear"] | None = None
    width: int | None = None
    batch: int | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class DetectionSettings(HeadSettings):
    """Settings of :func:`edgebone_export.heads.maps.detection.fit_detection`, and paths of its pictures."""

    epochs: _Epochs = None
    images: _Images = None
    val_images: _ValImages = None
    width: int | None = None
    blocks: int | None = None
    boxes: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    iou: float | None = None


@dataclass(frozen=True)
class AnomalySettings(HeadSettings):
    """Settings of :func:`edgebone_export.heads.maps.anomaly.fit_anomaly`, and the anomalous pictures."""

    anomalous: Annotated[Path | None, Option("Folder of anomalous pictures to measure on.")] = None
    false_alarm_rate: Annotated[
        float | None,
        Option("Accepted share of normal pictures that raise an alarm.", is_share=True),
    ] = None
    coreset: int | None = None
    dimensions: int | None = None


@dataclass(frozen=True)
class HeadKind:
    """A kind of head.

    Functions are named ``module:function``.

    Attributes:
        name: Name of the kind.
        task: The head's task, as in its report.
        head: Default name of the head in a bundle.
        fitted_on: Whether it reads vectors or whole maps of the backbone.
        settings: Settings class.
        data: Function that reads the pictures to fit on and to measure on:
            ``(data, val, settings) -> edgebone_export.heads.data.sets.Sets``.
        fit: Function that fits it: ``(given, settings) -> FittedHead``, where ``given`` is an ``OnVectors`` or an
            ``OnMaps`` of ``edgebone_export.heads.features.fitted``.
        lines: Function that formats its report as text: ``(report) -> list[str]``.
        strides: On maps: preferred strides of the maps, if a backbone has them.
        vector_alone: On vectors: whether it reads only the backbone's vector by default, not vectors pooled from maps.
    """

    name: str
    task: str
    head: str
    fitted_on: Literal["vectors", "maps"]
    settings: type[HeadSettings]
    data: str
    fit: str
    lines: str
    strides: tuple[int, ...] = ()
    vector_alone: bool = False

    def make_settings(self, said: Mapping[str, Any]) -> HeadSettings:
        """Return the settings object for given settings.

        Raises:
            ExportError: This kind does not have one of them.
        """
        known = [item.name for item in fields(self.settings)]
        for name in said:
            if name not in known:
                has = f"it has {', '.join(known)}" if known else "it has none of its own"
                raise ExportError(f"heads of the kind {self.name} have no {name}; {did_you_mean(name, known)}{has}")
        return self.settings(**said)

    def load(self, place: str) -> Callable[..., Any]:
        """Import one of its functions; an error from a package's function becomes one line that names the package.

        Raises:
            ExportError: The package fails.
        """
        if self in KINDS:
            own: Callable[..., Any] = load_place(place)
            return own
        about = f"head kind {self.name} of {who_brings(GROUP, self.name)}"
        with loading(GROUP, self.name, about, ExportError):
            found: Callable[..., Any] = load_place(place)
        return guarded(found, lambda reason: ExportError(f"{about} fails: {reason}"))


_VECTORS, _MAPS = "edgebone_export.heads.vectors", "edgebone_export.heads.maps"
_SETS = "edgebone_export.heads.data.sets"


def _classifier(name: str, settings: type[HeadSettings] = ClassifierSettings, vector_alone: bool = False) -> HeadKind:
    return HeadKind(
        name=name,
        task="classification",
        head="classification",
        fitted_on="vectors",
        settings=settings,
        data=f"{_SETS}:classes",
        fit=f"{_VECTORS}.classifier:fit_from_settings",
        lines=f"{_VECTORS}.classifier:lines",
        vector_alone=vector_alone,
    )


KINDS = (
    _classifier("linear"),
    _classifier("logistic"),
    _classifier("mlp", MlpSettings),
    # The vector alone is best for few pictures per class, and for nearest neighbours.
    _classifier("prototype", vector_alone=True),
    HeadKind(
        name="multilabel",
        task="multilabel",
        head="labels",
        fitted_on="vectors",
        settings=MultilabelSettings,
        data=f"{_SETS}:several_labels",
        fit=f"{_VECTORS}.multilabel:fit_from_settings",
        lines=f"{_VECTORS}.multilabel:lines",
    ),
    HeadKind(
        name="regression",
        task="regression",
        head="values",
        fitted_on="vectors",
        settings=RegressionSettings,
        data=f"{_SETS}:values",
        fit=f"{_VECTORS}.regression:fit_from_settings",
        lines=f"{_VECTORS}.regression:lines",
    ),
    HeadKind(
        name="embedding",
        task="embedding",
        head="embedding",
        fitted_on="vectors",
        settings=EmbeddingSettings,
        data=f"{_SETS}:classes_or_none",
        fit=f"{_VECTORS}.embedding:fit_from_settings",
        lines=f"{_VECTORS}.embedding:lines",
        vector_alone=True,
    ),
    HeadKind(
        name="segmentation",
        task="segmentation",
        head="segmentation",
        fitted_on="maps",
        settings=SegmentationSettings,
        data=f"{_SETS}:masks",
        fit=f"{_MAPS}.segmentation:fit_from_settings",
        lines=f"{_MAPS}.segmentation:lines",
        strides=(4, 8, 16),
    ),
    HeadKind(
        name="detection",
        task="detection",
        head="detection",
        fitted_on="maps",
        settings=DetectionSettings,
        data=f"{_SETS}:boxes",
        fit=f"{_MAPS}.detection:fit_from_settings",
        lines=f"{_MAPS}.detection:lines",
        strides=(8, 16, 32),
    ),
    HeadKind(
        name="anomaly",
        task="anomaly",
        head="anomaly",
        fitted_on="maps",
        settings=AnomalySettings,
        data=f"{_SETS}:normal",
        fit=f"{_MAPS}.anomaly:fit_from_settings",
        lines=f"{_MAPS}.anomaly:lines",
        strides=(8, 16, 32),
    ),
)
"""A new kind of edgebone's own is a file and a row here."""
GROUP = "edgebone.heads"
_log = logging.getLogger("edgebone.heads")


def kinds() -> tuple[HeadKind, ...]:
    """Return every kind, edgebone's own first; warn once about a package's kind that does not load."""
    own = {kind.name for kind in KINDS}
    brought = [_brought(name) for name in names_brought(GROUP) if name not in own]
    return (*KINDS, *(kind for kind in brought if kind is not None))


@functools.cache
def _brought(name: str) -> HeadKind | None:
    about = f"head kind {name} of {who_brings(GROUP, name)}"
    try:
        with foreign(lambda reason: ExportError(f"{about} is left out: {reason}; {advice(GROUP, name)}")):
            kind: HeadKind = load_brought(GROUP, name, HeadKind)
            if not issubclass(kind.settings, HeadSettings):
                raise TypeError(f"its settings are {kind.settings!r:.80}, not a subclass of HeadSettings")
            own_options(kind)
        return kind
    except ExportError as error:
        _log.warning("%s", error)
        return None


@functools.cache
def own_options(kind: HeadKind) -> dict[str, tuple[Any, Option]]:
    """Return the type and the :class:`Option` of each of a kind's settings that has one, by name, in their order.

    Raises:
        TypeError: A setting with an option is not optional.
    """
    found = {}
    for name, hint in get_type_hints(kind.settings, include_extras=True).items():
        option = next((item for item in get_args(hint) if isinstance(item, Option)), None)
        if option is None:
            continue
        types = [item for item in get_args(get_args(hint)[0]) if item is not type(None)]
        if not types:
            raise TypeError(f"the setting {name} has an option, and is not of a type such as `int | None`")
        found[name] = types[0], option
    return found


def names_of(task: str | None = None) -> tuple[str, ...]:
    """Return the names of all kinds, or of one task's, in table order."""
    return tuple(kind.name for kind in kinds() if task in (None, kind.task))


def find_kind(name: str) -> HeadKind:
    """Return the row of a kind.

    Raises:
        ExportError: No kind has that name.
    """
    for kind in kinds():
        if kind.name == name:
            return kind
    names = names_of()
    raise ExportError(f"no kind of head {name}; {did_you_mean(name, names)}choose {', '.join(names)}")
