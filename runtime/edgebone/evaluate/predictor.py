"""What counting accuracy needs of a model."""

from __future__ import annotations

from typing import Any, Protocol

from edgebone.core.results import Results


class Predictor(Protocol):
    """Answers several pictures at once, as :class:`edgebone.Model` does."""

    @property
    def max_batch(self) -> int:
        """The largest batch that one run takes."""

    def __call__(self, picture: list[Any]) -> list[Results]:
        """One result a picture."""
