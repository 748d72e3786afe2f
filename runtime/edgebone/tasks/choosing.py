"""Selects boxes by class label."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from edgebone.core.errors import BundleError
from edgebone.core.manifest import Manifest
from edgebone.core.near import did_you_mean
from edgebone.core.results import HeadResults, Result, Results
from edgebone.tasks.boxed import boxes_of, only_rows

_LISTED = 10


def check_classes(manifest: Manifest, classes: Collection[str]) -> None:
    """Reject a class that no head has.

    Raises:
        BundleError: The class is unknown; the message names similar ones.
    """
    known = dict.fromkeys(label for head in manifest.heads.values() for label in head.labels)
    for name in [classes] if isinstance(classes, str) else classes:
        if name not in known:
            some = f"{', '.join(list(known)[:_LISTED])}{' …' if len(known) > _LISTED else ''}"
            hint = did_you_mean(name, known)
            raise BundleError(f"there is no class {name!r}; {hint or f'there are {some or None}'}".rstrip())


def only_classes(results: Results, classes: Collection[str]) -> Results:
    """Return the results with only the boxes of these classes; results without boxes are kept."""
    wanted = {classes} if isinstance(classes, str) else set(classes)
    if isinstance(results, dict):
        return HeadResults((name, _only_of(result, wanted)) for name, result in results.items())
    return _only_of(results, wanted)


def _only_of(result: Result, wanted: set[str]) -> Result:
    boxes = boxes_of(result)
    if boxes is None:
        return result
    return only_rows(result, np.array([label in wanted for label in boxes.labels], bool))
