"""The part of a model that evaluation needs."""

from __future__ import annotations

from typing import Any, Protocol

from edgebone.core.results import Results


class Predictor(Protocol):
    """Runs on several pictures at once, like :class:`edgebone.Model`."""

    @property
    def max_batch(self) -> int:
        """The largest batch of one run."""

    def __call__(self, picture: list[Any]) -> list[Results]:
        """Return one result per picture."""
