"""The fit itself, imported when somebody fits a head of this kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgebone_export.errors import ExportError
from edgebone_export.heads.features.fitted import FittedHead, OnVectors
from edgebone_export.heads.vectors.graph import Affine, computed, folded, write_graph
from edgebone_export.heads.vectors.standardize import standardizer
from edgebone_nearest_mean.kind import NearestMeanSettings


def fit_nearest_mean(given: OnVectors, settings: NearestMeanSettings) -> FittedHead:
    """Fit a head that answers with the class whose mean is nearest.

    Args:
        given: Feature vectors with their classes.
        settings: What was said of this kind.

    Raises:
        ExportError: There is a class without a picture.
    """
    x, y = given.train.x, given.train.y
    counts = np.bincount(y, minlength=len(given.names))
    if not counts.all():
        raise ExportError(f"there is no picture of {given.names[int(counts.argmin())]} to fit on")
    scaling = standardizer(x)
    scaled = computed([scaling], x).astype(np.float64)
    means = np.stack([scaled[y == number].mean(axis=0) for number in range(len(counts))])
    # The squared distance to a mean, without what is the same for all of them, is a product and an offset.
    sharpness = settings.sharpness or 1
    nearest = Affine(2 * sharpness * means.T / x.shape[1], -sharpness * (means**2).sum(axis=1) / x.shape[1])
    layers = folded([scaling, nearest])
    graph, outputs = write_graph(layers, x.shape[1], "logits", len(given.names))
    measured = given.held_out
    right = None if measured is None else float((computed(layers, measured.x).argmax(axis=1) == measured.y).mean())
    report = {
        "task": "classification",
        "kind": given.kind,
        "pictures": len(np.unique(given.train.picture)),
        "accuracy": right,
    }
    params = {"activation": "softmax", "top_k": min(5, len(given.names))}
    return FittedHead(graph, outputs, "classification@1", given.names, params, report)


def lines(report: Mapping[str, Any]) -> list[str]:
    """Write the report of such a head for a person."""
    found = "not measured" if report["accuracy"] is None else f"accuracy {100 * report['accuracy']:.1f} %"
    return [f"{report['kind']}: {report['pictures']} pictures to fit on; {found} on held-out pictures"]
