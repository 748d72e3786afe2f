"""Warns of galleries that will mostly answer ``unknown``, with advice."""

from __future__ import annotations

from collections.abc import Mapping

from edgebone.gallery.calibration import Calibration

# The share of entries recognised by others of their label. Below it, most pictures are unknown.
_LEAST_RECOGNISED = 0.5


def doubts(labels: Mapping[str, int], calibration: Calibration | None) -> list[str]:
    """Return reasons not to rely on a gallery of similar things; empty if there are none.

    Args:
        labels: The number of entries per label.
        calibration: The threshold, and how many entries are recognised by others of their label, with each left out in
            turn.
    """
    found = []
    alone = sum(number == 1 for number in labels.values())
    if alone:
        found.append(
            f"{alone} of {len(labels)} labels {'has' if alone == 1 else 'have'} one picture, which does not show how "
            "others of the same thing look: enrol several of each, taken where the camera will be"
        )
    if calibration is not None and calibration.with_company:
        share = calibration.recognised / calibration.with_company
        if share < _LEAST_RECOGNISED:
            found.append(
                f"most pictures will be unknown: of {calibration.with_company} entries only "
                f"{calibration.recognised} are recognised by others of their label. Fit a head with classes on these "
                "pictures, which distinguishes products better: edgebone fit BUNDLE --data FOLDER -o products.bundle; "
                "or enrol more pictures of each, taken where the camera will be"
            )
    return found
