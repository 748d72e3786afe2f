"""A result in a word or two, for the box that it is about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgebone.core.results import Result, Results
from edgebone.tasks.anomaly import ANOMALY
from edgebone.tasks.classification import CLASSIFICATION
from edgebone.tasks.matches import MATCHES
from edgebone.tasks.multilabel import MULTILABEL
from edgebone.tasks.regression import REGRESSION
from edgebone.tasks.table import headlines, task_of_result

_IN_WORDS = (CLASSIFICATION, MATCHES, MULTILABEL, ANOMALY)


def said(results: Results) -> tuple[str, float]:
    """Return what results say in words, and how certain the best is: 0 to 1, of matches the cosine.

    Args:
        results: One model's results for one picture.

    Returns:
        The words, empty for results without any (an embedding), and the confidence, NaN without one. Of several heads
        the words are joined, and the confidence is the lowest one.
    """
    parts = [_said(result) for result in (results.values() if isinstance(results, dict) else [results])]
    scores = [score for _, score in parts if not math.isnan(score)]
    return ", ".join(words for words, _ in parts if words), min(scores, default=math.nan)


def _said(result: Result) -> tuple[str, float]:
    task = task_of_result(result)
    if task is REGRESSION:
        return str(result), math.nan
    if task not in _IN_WORDS:
        return "", math.nan
    row: Any = result
    scores: Sequence[float] = getattr(row, "confidence", getattr(row, "similarity", ()))
    return ", ".join(sorted(headlines(result))), float(scores[0]) if len(scores) else math.nan
