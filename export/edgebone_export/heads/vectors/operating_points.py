"""From probabilities to decisions: where to say yes, and where to leave it to a person."""

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
"""What ``classification@1`` decides by."""
_CANDIDATES = 400


@dataclass(frozen=True)
class Wanted:
    """What a caller wants decided.

    Attributes:
        positive: Of two classes, the one that is looked for.
        sensitivity: The share of positive pictures that must be found.
        abstain: Probabilities of the positive class between which nothing is decided.
        abstain_below: Without a positive class: the least probability of the best class for a decision.
        accuracy: The share of decisions that must be right; what is abstained on is chosen for it.
    """

    positive: str | None = None
    sensitivity: float | None = None
    abstain: tuple[float, float] | None = None
    abstain_below: float | None = None
    accuracy: float | None = None

    @property
    def anything(self) -> bool:
        """Whether a decision is wanted at all."""
        return self != Wanted()

    @property
    def chosen_on_predictions(self) -> bool:
        """Whether something is to be chosen on predictions for rows that were not learned from."""
        return self.sensitivity is not None or self.accuracy is not None

    def check(self, labels: Sequence[str]) -> None:
        """Refuse what does not go together.

        Raises:
            ExportError: With what is wrong.
        """
        if self.positive is None and (self.sensitivity is not None or self.abstain is not None):
            raise ExportError("sensitivity and abstain are about a positive class: say which label that is")
        if self.positive is not None and (len(labels) != 2 or list(labels).count(self.positive) != 1):
            raise ExportError(
                f"the positive class {self.positive!r} must be one of two labels, not of {', '.join(labels[:5])}"
                f"{' …' if len(labels) > 5 else ''}; for more classes there is abstain_below"
            )
        if self.positive is not None and self.abstain_below is not None:
            raise ExportError("abstain_below is for heads without a positive class; use abstain")
        if self.accuracy is not None and (self.abstain is not None or self.abstain_below is not None):
            raise ExportError("give either the accuracy that decisions must reach, or what to abstain on")
        for name, value in (("sensitivity", self.sensitivity), ("accuracy of decisions", self.accuracy)):
            if value is not None and not 0 < value <= 1:
                raise ExportError(f"the {name} must be above 0 and at most 1, got {value}")
        low, high = self.abstain or (0.0, 1.0)
        if not 0 <= low <= high <= 1:
            raise ExportError(f"abstain must be two probabilities, the lower first, got {low} and {high}")
        if self.abstain_below is not None and not 0 <= self.abstain_below <= 1:
            raise ExportError(f"abstain_below must be a probability, got {self.abstain_below}")
        abstains = self.abstain is not None or self.abstain_below is not None or self.accuracy is not None
        if abstains and ABSTAIN in labels:
            raise ExportError(f"a class is called {ABSTAIN!r}, which is also what no decision is called; rename it")


def decoder_params(wanted: Wanted, labels: Sequence[str], probabilities: Floats, y: Rows) -> dict[str, Any]:
    """The settings of ``classification@1`` that decide as wanted, chosen on predictions.

    Args:
        wanted: Checked.
        labels: The classes' names.
        probabilities: Of rows that were not learned from, shape (n, classes).
        y: Their true classes, shape (n,).

    Raises:
        ExportError: What is wanted cannot be reached.
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
                f"the sensitivity of {wanted.sensitivity:g} needs the threshold {threshold:g}, which is outside of the "
                f"abstained {low:g} to {high:g}; give a band around it, or the accuracy that decisions must reach"
            )
        params |= {"threshold": min(max(threshold, low), high), "abstain": [low, high]}
    return params


def _threshold(p: Floats, positive: NDArray[np.bool_], sensitivity: float, name: str) -> float:
    """The highest threshold from which on at least this share of the positive rows lies."""
    found = np.sort(p[positive])[::-1]
    if not len(found):
        raise ExportError(f"no picture of {name!r} could be tested, so no threshold can be chosen; give more pictures")
    needed = int(np.ceil(sensitivity * len(found) - 1e-9))
    ranked = np.unique(p)[::-1]
    # Rounding must not lift the threshold above what it has to find.
    last = int(np.flatnonzero(ranked == found[needed - 1])[0])
    return min(cut(ranked, last), float(ranked[last]))


def _band(p: Floats, positive: NDArray[np.bool_], threshold: float, accuracy: float) -> tuple[float, float] | None:
    """The band around the threshold with the fewest rows in it, outside of which decisions are accurate enough.

    None where they are without one.
    """
    order = np.argsort(p, kind="stable")
    ranked = p[order].astype(np.float64)
    middle = int(np.searchsorted(ranked, threshold))
    right_below = np.concatenate([[0], np.cumsum(~positive[order][:middle])])
    right_above = np.concatenate([[0], np.cumsum(positive[order][middle:][::-1])])[::-1]
    if right_below[-1] + right_above[0] >= accuracy * len(p):
        return None
    # How many rows below and above the threshold are still decided on; ties are never parted.
    lows = _places(ranked, 0, middle)
    highs = _places(ranked, middle, len(p))
    decided = lows[:, None] + (len(p) - highs)[None, :]
    right = right_below[lows][:, None] + right_above[highs - middle][None, :]
    good = (right >= accuracy * decided) & (decided > 0)
    if not good.any():
        raise ExportError(
            f"decisions cannot reach an accuracy of {accuracy:g} however many are abstained on: the pictures that the "
            "head is surest of have wrong ones among them; look at their labels, or ask for less"
        )
    row, column = np.unravel_index(int(np.where(good, decided, -1).argmax()), decided.shape)
    low, high = int(lows[row]), int(highs[column])
    edges = (
        _between(ranked, low) if low < middle else threshold,
        _between(ranked, high) if high > middle else threshold,
    )
    return min(edges[0], threshold), max(edges[1], threshold)


def _places(ranked: Floats, start: int, stop: int) -> NDArray[np.int64]:
    """Places between different values from start to stop, both among them; a few hundred at most."""
    inner = np.arange(start + 1, stop)
    inner = inner[ranked[inner] != ranked[inner - 1]] if len(inner) else inner
    if len(inner) > _CANDIDATES:
        inner = inner[np.linspace(0, len(inner) - 1, _CANDIDATES).astype(int)]
    return np.unique(np.concatenate([[start], inner, [stop]])).astype(np.int64)


def _between(ranked: Floats, place: int) -> float:
    """A value between the row before a place and the one at it; 0 before all of them, 1 after."""
    if place in (0, len(ranked)):
        return float(place > 0)
    return float(ranked[place - 1] + ranked[place]) / 2


def _least(probabilities: Floats, y: Rows, accuracy: float) -> float:
    """The least probability of the best class from which on decisions are accurate enough."""
    best = probabilities.max(axis=1)
    order = np.argsort(-best, kind="stable")
    ranked = best[order].astype(np.float64)
    right = np.cumsum((probabilities.argmax(axis=1) == y)[order])
    good = right >= accuracy * np.arange(1, len(ranked) + 1)
    good[:-1] &= ranked[1:] != ranked[:-1]
    if not good.any():
        raise ExportError(
            f"decisions cannot reach an accuracy of {accuracy:g} however many are abstained on: the pictures that the "
            "head is surest of have wrong ones among them; look at their labels, or ask for less"
        )
    last = int(np.flatnonzero(good)[-1])
    return 0.0 if last == len(ranked) - 1 else cut(ranked, last)


def decision_figures(
    params: dict[str, Any], labels: Sequence[str], probabilities: Floats, y: Rows, n: int
) -> dict[str, Any]:
    """What decisions come to, as JSON values, each share with its 95 % interval.

    Args:
        params: From :func:`decoder_params`.
        labels: The classes' names.
        probabilities: Shape (rows, classes).
        y: The true classes, shape (rows,).
        n: How many of the rows are independent: pictures.
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
    """What the operating point of a classifier is worth at one place, for a person."""
    decision = report.get("decision", {})
    figures = decision.get(name.replace(" ", "_").replace("-", "_"))
    if figures is None:
        return []
    if "positive" in decision:
        how = f"{decision['positive']} from {decision['threshold']:.3f} on"
        if "abstain" in decision:
            how += ", nothing from {:.3f} to {:.3f}".format(*decision["abstain"])
    else:
        how = f"nothing below {decision['abstain_below']:.3f}"
    parts = [
        f"{figure.replace('_', ' ')} {number_text(value) if not isinstance(value, Mapping) else share_text(value)}"
        for figure, value in figures.items()
        if value is not None
    ]
    return [f"{name}, decided as {how}: {', '.join(parts)}"]
