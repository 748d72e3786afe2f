"""A backbone's feature maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone.core.compare import cosine
from edgebone.core.results import FeatureMaps
from edgebone.tasks.contract import Task


def _headlines(_: FeatureMaps) -> set[str]:
    return {"featuremaps"}


def _agreement(a: FeatureMaps, b: FeatureMaps, _: Mapping[str, Any]) -> float:
    return min(cosine(x, y) for x, y in zip(a.maps, b.maps, strict=True))


FEATURES = Task("features", FeatureMaps, "feature maps", _headlines, _agreement)
