"""How far a variant's raw outputs are from FP32's, for the manifest: figures, not a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgebone.core.boxes import matched_share
from edgebone.core.manifest import Head, Parity
from edgebone.core.tensors import Array

_SAME_IOU, _SAME_SCORE = 0.5, 0.15


def measure_parity(
    have: Sequence[Mapping[str, Array]], want: Sequence[Mapping[str, Array]], heads: Mapping[str, Head]
) -> Parity:
    """Compare the outputs of several runs.

    Args:
        have: The variant's outputs by name, one a run.
        want: FP32's.
        heads: The bundle's, which say what outputs are.
    """
    largest = relative = 0.0
    cosine = 1.0
    matched: list[float] = []
    agree: list[float] = []
    for head in heads.values():
        for name in head.outputs:
            for a, b in zip(have, want, strict=True):
                if head.decoder.startswith("boxes@"):
                    least = float(head.params["score"])
                    matched += [
                        matched_share(x, y, min_score=least, full=False, iou=_SAME_IOU, score_within=_SAME_SCORE)
                        for x, y in zip(a[name], b[name], strict=True)
                    ]
                elif b[name].dtype.kind in "ui":
                    matched.append(float(np.mean(a[name] == b[name])))
                else:
                    x, y = a[name].astype(np.float64).ravel(), b[name].astype(np.float64).ravel()
                    difference = float(np.abs(x - y).max())
                    largest = max(largest, difference)
                    relative = max(relative, difference / max(float(np.abs(y).max()), 1e-12))
                    length = float(np.linalg.norm(x) * np.linalg.norm(y))
                    cosine = min(cosine, float(x @ y) / length if length else 1.0)
                    if head.decoder.startswith("classification@"):
                        agree.append(float(np.mean(a[name].argmax(axis=-1) == b[name].argmax(axis=-1))))
    return Parity(
        max_abs=largest,
        max_rel=relative,
        cosine=cosine,
        pictures=len(have),
        top1_agreement=float(np.mean(agree)) if agree else None,
        matched=min(matched) if matched else None,
        reference="FP32",
    )
