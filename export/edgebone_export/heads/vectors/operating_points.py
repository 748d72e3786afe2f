"""Choose operating points: when to decide for the positive class, and when to abstain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.results import ABSTAIN
from edgebone_export.errors import ExportError
from edgebone_export.heads.report import Report, number_text, share_text
from edgebone_export.heads.vectors.calibration import cut
from edgebone_export.heads.vectors.metrics import Floats, Rows, auroc, share

SETTINGS = ("positive", "threshold", "abstain", "abstain_below")
"""Parameters of ``classification@1`` that control decisions."""
_CANDIDATES = 400


@dataclass(frozen=True)
class Wanted:
    """The requested operating point.

    Attributes:
        positive: The positive class of two.
        sensitivity: Share of positive pictures that must be found.
        abstain: Two probabilities of the positive class between which the head abstains.
        abstain_below: Without a positive class: smallest probability of the best class for a decision.
        accuracy: Share of decisions that must be right; determines when to abstain.
    """

    positive: str | None = None
    sensitivity: float | None = None
    abstain: tuple[float, float] | None = None
    abstain_below: float | None = None
    accuracy: float | None = None

    @property
    def anything(self) -> bool:
        """Whether any decision is requested."""
        return self != Wanted()

    @property
    def chosen_on_predictions(self) -> bool:
        """Whether something is chosen on predictions for rows that were not trained on."""
        return self.sensitivity is not None or self.accuracy is not None

    def check(self, labels: Sequence[str]) -> None:
        """Check that the values are consistent.

        Raises:
            ExportError: They are not; the message says why.
        """
        if self.positive is None and (self.sensitivity is not None or self.abstain is not None):
            raise ExportError("sensitivity and abstain need a positive class: pass positive")
        if self.positive is not None and (len(labels) != 2 or list(labels).count(self.positive) != 1):
            raise ExportError(
                f"the positive class {self.positive!r} must be one of two labels, found {', '.join(labels[:5])}"
                f"{' …' if len(labels) > 5 else ''}; for more classes use abstain_below"
            )
        if self.positive is not None and self.abstain_below is not None:
            raise ExportError("abstain_below is for heads without a positive class; use abstain")
        if self.accuracy is not None and (self.abstain is not None or self.abstain_below is not None):
            raise ExportError("pass either the accuracy of decisions, or when to abstain, not both")
        for name, value in (("sensitivity", self.sensitivity), ("accuracy of decisions", self.accuracy)):
            if value is not None and not 0 < value <= 1:
                raise ExportError(f"the {name} must be above 0 and at most 1, found {value}")
        low, high = self.abstain or (0.0, 1.0)
        if not 0 <= low <= high <= 1:
            raise ExportError(f"abstain must be two probabilities, the lower first, found {low} and {high}")
        if self.abstain_below is not None and not 0 <= self.abstain_below <= 1:
            raise ExportError(f"abstain_below must be a probability, found {self.abstain_below}")
        abstains = self.abstain is not None or self.abstain_below is not None or self.accuracy is not None
        if abstains and ABSTAIN in labels:
            raise ExportError(f"a class is named {ABSTAIN!r}, the reserved name for no decision; rename it")


def decoder_params(wanted: Wanted, labels: Sequence[str], probabilities: Floats, y: Rows) -> dict[str, Any]:
    """Return the parameters of ``classification@1`` for an operating point, chosen on predictions.

    Args:
        wanted: The operating point, already checked.
        labels: Class names.
        probabilities: Probabilities of rows that were not trained on, shape (n, classes).
        y: Their true classes, shape (n,).

    Raises:
        ExportError: The operating point cannot be reached.
    """
    if not wanted.anything:
        return {}
    if wanted.positive is None:
        least = wanted.abstain_below if wanted.accuracy is None else _least(probabilities, y, wanted.accuracy)
        return {"abstain_below": least}
    place = list(labels).index(wanted.positive)
    p, positive = probabilities[:, place], y == place
    threshold = 0.5 if wanted.sensitivity is None else _threshold(p, positive, wanted.sensitivity, wanted.positive)
    params: dict[str, Any] = {"positive": wanted.positive, "threshold": threshold}
    band = wanted.abstain if wanted.accuracy is None else _band(p, positive, threshold, wanted.accuracy)
    if band is not None:
        low, high = band
        if wanted.abstain is not None and wanted.sensitivity is not None and not low <= threshold <= high:
            raise ExportError(
                f"the sensitivity of {wanted.sensitivity:g} needs the threshold {threshold:g}, which is outside the "
                f"abstention band {low:g} to {high:g}; pass a band around it, or the accuracy of decisions"
            )
        params |= {"threshold": min(max(threshold, low), high), "abstain": [low, high]}
    return params


def _threshold(p: Floats, positive: NDArray[np.bool_], sensitivity: float, name: str) -> float:
    """Return the highest threshold that at least this share of the positive rows reaches."""
    found = np.sort(p[positive])[::-1]
    if not len(found):
        raise ExportError(f"no picture of {name!r} could be tested, so no threshold can be chosen; add more pictures")
    needed = int(np.ceil(sensitivity * len(found) - 1e-9))
    ranked = np.unique(p)[::-1]
    # Rounding must not raise the threshold above the rows that it must find.
    last = int(np.flatnonzero(ranked == found[needed - 1])[0])
    return min(cut(ranked, last), float(ranked[last]))


def _band(p: Floats, positive: NDArray[np.bool_], threshold: float, accuracy: float) -> tuple[float, float] | None:
    """Return the band around the threshold with the fewest rows, outside which decisions are accurate enough.

    None if no band is needed.
    """
    order = np.argsort(p, kind="stable")
    ranked = p[order].astype(np.float64)
    middle = int(np.searchsorted(ranked, threshold))
    right_below = np.concatenate([[0], np.cumsum(~positive[order][:middle])])
    right_above = np.concatenate([[0], np.cumsum(positive[order][middle:][::-1])])[::-1]
    if right_below[-1] + right_above[0] >= accuracy * len(p):
        return None
    # Number of rows below and above the threshold that are decided; ties are never split.
    lows = _places(ranked, 0, middle)
    highs = _places(ranked, middle, len(p))
    decided = lows[:, None] + (len(p) - highs)[None, :]
    right = right_below[lows][:, None] + right_above[highs - middle][None, :]
    good = (right >= accuracy * decided) & (decided > 0)
    if not good.any():
        raise ExportError(
            f"decisions cannot reach an accuracy of {accuracy:g} even with the largest abstention: wrong ones are "
            "among the pictures that the head is surest of; check their labels, or lower the accuracy"
        )
    row, column = np.unravel_index(int(np.where(good, decided, -1).argmax()), decided.shape)
    low, high = int(lows[row]), int(highs[column])
    edges = (
        _between(ranked, low) if low < middle else threshold,
        _between(ranked, high) if high > middle else threshold,
    )
    return min(edges[0], threshold), max(edges[1], threshold)


def _places(ranked: Floats, start: int, stop: int) -> NDArray[np.int64]:
    """Return indices between different values from start to stop, inclusive; at most a few hundred."""
    inner = np.arange(start + 1, stop)
    inner = inner[ranked[inner] != ranked[inner - 1]] if len(inner) else inner
    if len(inner) > _CANDIDATES:
        inner = inner[np.linspace(0, len(inner) - 1, _CANDIDATES).astype(int)]
    return np.unique(np.concatenate([[start], inner, [stop]])).astype(np.int64)


def _between(ranked: Floats, place: int) -> float:
    """Return a value between the rows before and at an index; 0 before all rows, 1 after."""
    if place in (0, len(ranked)):
        return float(place > 0)
    return float(ranked[place - 1] + ranked[place]) / 2


def _least(probabilities: Floats, y: Rows, accuracy: float) -> float:
    """Return the smallest probability of the best class from which decisions are accurate enough."""
    best = probabilities.max(axis=1)
    order = np.argsort(-best, kind="stable")
    ranked = best[order].astype(np.float64)
    right = np.cumsum((probabilities.argmax(axis=1) == y)[order])
    good = right >= accuracy * np.arange(1, len(ranked) + 1)
    good[:-1] &= ranked[1:] != ranked[:-1]
    if not good.any():
        raise ExportError(
            f"decisions cannot reach an accuracy of {accuracy:g} even with the largest abstention: wrong ones are "
            "among the pictures that the head is surest of; check their labels, or lower the accuracy"
        )
    last = int(np.flatnonzero(good)[-1])
    return 0.0 if last == len(ranked) - 1 else cut(ranked, last)


def decision_figures(
    params: dict[str, Any], labels: Sequence[str], probabilities: Floats, y: Rows, n: int
) -> dict[str, Any]:
    """Return the metrics of decisions as JSON values, each share with its 95 % interval.

    Args:
        params: Result of :func:`decoder_params`.
        labels: Class names.
        probabilities: Shape (rows, classes).
        y: The true classes, shape (rows,).
        n: Number of independent rows, that is, pictures.
    """
    views = max(1.0, len(y) / n)

    def part(hits: NDArray[Any]) -> dict[str, Any]:
        return share(hits, round(len(hits) / views))

    if "positive" not in params:
        abstained = probabilities.max(axis=1) < params["abstain_below"]
        hits = probabilities.argmax(axis=1) == y
        return {"abstained": part(abstained), "accuracy_of_decisions": part(hits[~abstained])}
    place = list(labels).index(params["positive"])
    p, positive = probabilities[:, place], y == place
    called = p >= params["threshold"]
    found = {
        "auroc": auroc(positive, p),
        "sensitivity": part(called[positive]),
        "specificity": part(~called[~positive]),
        "accuracy": part(called == positive),
    }
    if "abstain" in params:
        low, high = params["abstain"]
        abstained = (p >= low) & (p <= high)
        found |= {
            "abstained": part(abstained),
            "accuracy_of_decisions": part((called == positive)[~abstained]),
            "sensitivity_of_decisions": part(called[positive & ~abstained]),
            "specificity_of_decisions": part(~called[~positive & ~abstained]),
        }
    return found


def decision_lines(name: str, report: Report) -> list[str]:
    """Return one measurement of a classifier's operating point as text lines."""
    decision = report.get("decision", {})
    figures = decision.get(name.replace(" ", "_").replace("-", "_"))
    if figures is None:
        return []
    if "positive" in decision:
        how = f"{decision['positive']} from {decision['threshold']:.3f} up"
        if "abstain" in decision:
            how += ", abstaining from {:.3f} to {:.3f}".format(*decision["abstain"])
    else:
        how = f"abstaining below {decision['abstain_below']:.3f}"
    parts = [
        f"{figure.replace('_', ' ')} {number_text(value) if not isinstance(value, Mapping) else share_text(value)}"
        for figure, value in figures.items()
        if value is not None
    ]
    return [f"{name}, decided as {how}: {', '.join(parts)}"]
