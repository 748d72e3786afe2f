"""A picture as a vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone.core.compare import cosine
from edgebone.core.results import Embedding
from edgebone.tasks.contract import Task


def _headlines(_: Embedding) -> set[str]:
    return {"embedding"}


def _agreement(a: Embedding, b: Embedding, _: Mapping[str, Any]) -> float:
    return cosine(a.vector, b.vector)


EMBEDDING = Task("embedding", Embedding, "an embedding", _headlines, _agreement)
