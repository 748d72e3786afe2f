"""A gallery's matches for an embedding: no decoder returns them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone.core.matches import Matches
from edgebone.tasks.contract import Task


def _headlines(result: Matches) -> set[str]:
    return {result.label}


def _agreement(a: Matches, b: Matches, _: Mapping[str, Any]) -> float:
    return float(a.label == b.label)


MATCHES = Task("matches", Matches, "names", _headlines, _agreement)
