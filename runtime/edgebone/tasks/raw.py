"""The network's raw outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone.core.compare import cosine
from edgebone.core.results import RawTensors
from edgebone.tasks.contract import Task


def _headlines(_: RawTensors) -> set[str]:
    return {"rawtensors"}


def _agreement(a: RawTensors, b: RawTensors, _: Mapping[str, Any]) -> float:
    return min(cosine(a.tensors[name], b.tensors[name]) for name in a.tensors)


RAW = Task("raw", RawTensors, "tensors", _headlines, _agreement)
