"""Whether a gallery will mostly answer ``unknown``, and what to do about that."""

from __future__ import annotations

from collections.abc import Mapping

from edgebone.gallery.calibration import Calibration

# Of entries that others of their label should recognise. Below that, more is unknown than known.
_LEAST_RECOGNISED = 0.5


def doubts(labels: Mapping[str, int], calibration: Calibration | None) -> list[str]:
    """What speaks against relying on a gallery of things that look alike, in words; nothing where nothing does.

    Args:
        labels: How many entries each label has.
        calibration: The threshold, and how many entries are recognised by others of their label: each is left out and
            asked about.
    """
    found = []
    alone = sum(number == 1 for number in labels.values())
    if alone:
        found.append(
            f"{alone} of {len(labels)} labels {'has' if alone == 1 else 'have'} one picture, which does not say how "
            "another one of the same thing looks: enrol several of each, taken where the camera will be"
        )
    if calibration is not None and calibration.with_company:
        share = calibration.recognised / calibration.with_company
        if share < _LEAST_RECOGNISED:
            found.append(
                f"most pictures will be called unknown: of {calibration.with_company} entries only "
                f"{calibration.recognised} are recognised by others of their label. Fit a head with classes on these "
                "pictures, which tells products apart better: edgebone fit BUNDLE --data FOLDER -o products.bundle; or "
                "enrol more pictures of each, taken where the camera will be"
            )
    return found
