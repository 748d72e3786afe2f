"""How far a variant's raw outputs are from FP32's, for the manifest: figures, not a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgebone.core.boxes import REDUCED_IOU, REDUCED_SCORE, matched_share
from edgebone.core.manifest import Head, Parity
from edgebone.core.tensors import Array
from edgebone_export.proof.differences import differences


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
                        matched_share(x, y, min_score=least, full=False, iou=REDUCED_IOU, score_within=REDUCED_SCORE)
                        for x, y in zip(a[name], b[name], strict=True)
                    ]
                elif b[name].dtype.kind in "ui":
                    matched.append(float(np.mean(a[name] == b[name])))
                else:
                    x, y = (each[name].astype(np.float64).reshape(1, -1) for each in (a, b))
                    off, off_by, direction = differences(x, y)
                    largest, relative, cosine = max(largest, off), max(relative, off_by), min(cosine, direction)
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
