"""Results with one class per pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.detections import import_supervision
from edgebone.core.near import did_you_mean
from edgebone.core.rle import run_lengths
from edgebone.core.shown import Shown


@dataclass(frozen=True, repr=False)
class SegmentationMap(Shown):
    """The class of every pixel of one picture.

    Attributes:
        class_id: uint8, of the picture's height and width: the class's index in ``labels``. Pixels that the
            network did not see (cut off by a centre crop) are 0.
        labels: Class names by class id; the first is the background.
    """

    class_id: NDArray[np.uint8]
    labels: tuple[str, ...]

    def mask(self, label: str) -> NDArray[np.bool_]:
        """Return the mask of a class: bool, of the picture's height and width.

        Raises:
            KeyError: No class of that name.
        """
        if label not in self.labels:
            raise KeyError(
                f"there is no class {label!r}; {did_you_mean(label, self.labels)}there are {', '.join(self.labels)}"
            )
        return np.asarray(self.class_id == self.labels.index(label))

    @property
    def area(self) -> NDArray[np.int64]:
        """Return the number of pixels per class: int64, shape (classes,)."""
        # Sorted counting over a uint8 picture is ten times slower than one pass of bins.
        return np.bincount(self.class_id.ravel(), minlength=len(self.labels))[: len(self.labels)]

    def shares(self) -> dict[str, float]:
        """Return each class's share of the picture, 0 to 1."""
        return dict(zip(self.labels, (self.area / max(self.class_id.size, 1)).tolist(), strict=True))

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections`` with one mask for each class present, without the background.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        supervision = import_supervision()
        present = list(self._present())
        if not present:
            return supervision.Detections.empty()
        masks = np.stack([self.class_id == index for index in present])
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks).astype(np.float32),
            mask=masks,
            class_id=np.array(present, np.int64),
            data={"class_name": np.array([self.labels[index] for index in present])},
        )

    def _present(self) -> dict[int, int]:
        """Return the number of pixels of each class present, by class id, without the background."""
        return {index: pixels for index, pixels in enumerate(self.area.tolist()) if pixels and index}

    def to_dict(self) -> dict[str, Any]:
        """``{"segments": [{"category_id", "label", "area", "segmentation": {"size", "counts"}}, …]}``.

        One entry for each class present, without the background, with COCO's uncompressed run lengths: column by
        column, beginning with a run of zeros.
        """
        return {
            "segments": [
                {
                    "category_id": index,
                    "label": self.labels[index],
                    "area": pixels,
                    "segmentation": {
                        "size": list(self.class_id.shape),
                        "counts": run_lengths(self.class_id == index),
                    },
                }
                for index, pixels in self._present().items()
            ]
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each class present, without the background: its area in pixels and its share."""
        return [
            {"category_id": index, "label": self.labels[index], "area": pixels, "share": pixels / self.class_id.size}
            for index, pixels in self._present().items()
        ]

    def __str__(self) -> str:
        """``drivable area 21.3 %, background 78.7 %``, largest first."""
        shares = sorted(self.shares().items(), key=lambda item: -item[1])
        return ", ".join(f"{label} {100 * share:.1f} %" for label, share in shares if share) or "nothing"
