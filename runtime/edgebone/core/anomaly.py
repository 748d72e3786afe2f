"""How unusual a picture is, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.shown import Shown


@dataclass(frozen=True, repr=False)
class Anomaly(Shown):
    """How far one picture is from the normal ones that a head was fitted on.

    Attributes:
        score: The picture's distance from normal, 0 or more; not a probability.
        threshold: Scores above it are anomalous; set on normal pictures when the head was fitted.
        map: float32, of the picture's height and width: the distance at each pixel, in the score's unit. Pixels that
            the network did not see (cut off by a centre crop) are 0.
    """

    score: float
    threshold: float
    map: NDArray[np.float32]

    @property
    def is_anomalous(self) -> bool:
        """Whether the score is above the threshold."""
        return self.score > self.threshold

    @property
    def worst_xy(self) -> tuple[int, int]:
        """The column and row of the pixel that is farthest from normal."""
        row, column = np.unravel_index(int(self.map.argmax()), self.map.shape)
        return int(column), int(row)

    def to_dict(self) -> dict[str, Any]:
        """``{"anomaly": {"score": …, "threshold": …, "is_anomalous": …, "worst_xy": [x, y]}}``; no map."""
        return {
            "anomaly": {
                "score": round(self.score, 6),
                "threshold": round(self.threshold, 6),
                "is_anomalous": self.is_anomalous,
                "worst_xy": list(self.worst_xy),
            }
        }

    def __str__(self) -> str:
        """``anomalous: 3.21 > 2.4 at (120, 80)``, or ``normal: 1.9 ≤ 2.4``: score, threshold, worst pixel."""
        if self.is_anomalous:
            return f"anomalous: {self.score:.3g} > {self.threshold:.3g} at {self.worst_xy}"
        return f"normal: {self.score:.3g} ≤ {self.threshold:.3g}"
