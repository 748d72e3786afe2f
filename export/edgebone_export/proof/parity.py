"""Measure how far a variant's raw outputs are from FP32's, for the manifest: figures, not a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgebone.core.compare import REDUCED, ROWS, Difference, compare, comparison_of, worst
from edgebone.core.manifest import Head, Parity
from edgebone.core.tensors import Array


def measure_parity(
    have: Sequence[Mapping[str, Array]], want: Sequence[Mapping[str, Array]], heads: Mapping[str, Head]
) -> Parity:
    """Compare the outputs of several runs.

    Args:
        have: The variant's outputs by name, one mapping per run.
        want: FP32's outputs in the same form.
        heads: The bundle's heads, which define how outputs are compared.
    """
    found: list[Difference] = []
    for head in heads.values():
        for name in head.outputs:
            for a, b in zip(have, want, strict=True):
                how = comparison_of(head, b[name].dtype, b[name].ndim)
                shown = float(head.params["score"]) if how in ROWS else 0.0
                found.append(compare(a[name], b[name], how, REDUCED, shown))
    off = worst(found)
    agree = [item.top1 for item in found if item.top1 is not None]
    return Parity(
        max_abs=off.max_abs or 0.0,
        max_rel=off.max_rel or 0.0,
        cosine=1.0 if off.cosine is None else off.cosine,
        pictures=len(have),
        top1_agreement=float(np.mean(agree)) if agree else None,
        matched=min((share for share in (off.matched, off.equal) if share is not None), default=None),
        reference="FP32",
    )
