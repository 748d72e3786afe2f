"""A gallery's result for one picture: the most similar entries and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.shown import Shown

UNKNOWN = "unknown"
"""The label of a picture that resembles nothing in the gallery."""


@dataclass(frozen=True, repr=False)
class Matches(Shown):
    """The entries of a gallery that are most similar to one picture, best first.

    Attributes:
        labels: The k entries' labels.
        similarity: float32, shape (k,), -1 to 1, descending: the cosine between the vectors.
        ids: int64, shape (k,): the entries' ids.
        label: The recognised label; ``"unknown"`` if no entry is similar enough.
    """

    labels: tuple[str, ...]
    similarity: NDArray[np.float32]
    ids: NDArray[np.int64]
    label: str = UNKNOWN

    @classmethod
    def none(cls) -> Matches:
        """Return the result of an empty gallery."""
        return cls((), np.empty(0, np.float32), np.empty(0, np.int64))

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.labels)

    @property
    def is_unknown(self) -> bool:
        """Whether no entry is similar enough."""
        return self.label == UNKNOWN

    def to_dict(self) -> dict[str, Any]:
        """``{"label": …, "matches": [{"id": …, "label": …, "similarity": …}, …]}``, best first."""
        return {
            "label": self.label,
            "matches": [
                {"id": int(entry), "label": label, "similarity": round(float(similarity), 6)}
                for entry, label, similarity in zip(self.ids, self.labels, self.similarity, strict=True)
            ],
        }

    def __str__(self) -> str:
        """``oat milk (oat milk 0.912, oat milk 0.874, soy milk 0.731)``."""
        pairs = zip(self.labels, self.similarity, strict=True)
        listed = ", ".join(f"{label} {similarity:.3f}" for label, similarity in pairs)
        return f"{self.label} ({listed or 'nothing in the gallery'})"
