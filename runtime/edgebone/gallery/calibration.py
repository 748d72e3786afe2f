"""Finds the similarity threshold of a gallery from its own entries."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.bounded import Count, Finite
from edgebone.gallery.entries import Entries
from edgebone.gallery.errors import GalleryError
from edgebone.gallery.vectors import Floats

# A large gallery is calibrated on a sample, compared with every entry. The sample is large enough for this number of
# false accepts at the requested rate, which determines the rate to within some 20 %.
_FALSE_ACCEPTS = 20
_LEAST_QUERIES, _MOST_QUERIES = 1000, 5000
# The number of cosines in memory at a time, for any size of gallery.
_COSINES = 1 << 22
_Z95 = 1.959964


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A threshold and its error rates, counted on all entries or, above a thousand, on a sample.

    Attributes:
        threshold: The least similarity to the nearest entry for a known picture, -1 to 1.
        false_accept_rate: The requested share of unknown pictures that may be accepted as known, 0 to 1.
        false_accepts: The number of strangers accepted as known.
        strangers: The number of strangers.
        own_strangers: Whether the strangers were the entries, each compared with all labels except its own.
        recognised: The number of entries recognised correctly by another entry of their own label.
        with_company: The number of tested entries that have another entry of their label.
    """

    threshold: Finite
    false_accept_rate: Finite
    false_accepts: Count
    strangers: Count
    own_strangers: bool
    recognised: Count
    with_company: Count

    def __post_init__(self) -> None:
        """Refuse shares above one."""
        if self.false_accepts > self.strangers or self.recognised > self.with_company:
            raise ValueError("more were accepted than there were")

    def __str__(self) -> str:
        """``known from 0.812 on; of 500 strangers 4 are accepted as known (95 %: 0.3-2.0 %); of 490 …``."""
        low, high = wilson(self.false_accepts, self.strangers)
        text = (
            f"known from {self.threshold:.3f} on; of {self.strangers} strangers {self.false_accepts} are accepted as "
            f"known (95 %: {100 * low:.1f}-{100 * high:.1f} %)"
        )
        if self.with_company:
            text += f"; of {self.with_company} entries {self.recognised} are recognised by others of their label"
        return text


def calibrated(entries: Entries, false_accept_rate: float, strangers: Floats | None = None) -> Calibration:
    """Find the threshold.

    Args:
        entries: The gallery.
        false_accept_rate: The share of strangers that may be accepted as known, above 0 and below 1.
        strangers: Unit vectors that are not in the gallery, float32 of shape (m, d). None leaves one label out at a
            time: its entries are strangers to the rest.

    Returns:
        The threshold and its error rates. Of many entries a fixed random sample of 1000 to 5000 is tested: 20 divided
        by the rate, so that the printed interval stays narrow. Each is compared with every entry, as strangers
        must not seem less similar in a large gallery than they are.

    Raises:
        GalleryError: The gallery is empty; it has neither strangers nor two labels; the rate is not a rate.
    """
    if not 0 < false_accept_rate < 1:
        raise GalleryError(f"the false accept rate must be above 0 and below 1, not {false_accept_rate:g}")
    names = len(np.unique(entries.label_index))
    if not names or (strangers is None and names < 2) or (strangers is not None and not len(strangers)):
        raise GalleryError(
            f"the gallery holds {len(entries)} entries of {names} labels: a threshold needs two labels, or "
            "pictures of strangers; enrol more, or give strangers"
        )
    rows = _sample(len(entries), false_accept_rate)
    own, other = _nearest_by_label(entries, rows)
    top = other if strangers is None else _exact_nearest(entries, strangers)
    allowed = math.floor(false_accept_rate * len(top))
    # The next larger number: a picture as similar as this stranger is unknown.
    threshold = float(np.nextafter(np.sort(top)[::-1][allowed], np.float32(2)))
    return Calibration(
        threshold=threshold,
        false_accept_rate=false_accept_rate,
        false_accepts=int((top >= threshold).sum()),
        strangers=len(top),
        own_strangers=strangers is None,
        recognised=int(((own >= threshold) & (own > other)).sum()),
        with_company=int(np.isfinite(own).sum()),
    )


def _sample(count: int, false_accept_rate: float) -> NDArray[np.intp]:
    """Return the rows to test, ascending; random, since pictures are ordered and signatures come in pairs."""
    size = min(count, _MOST_QUERIES, max(_LEAST_QUERIES, math.ceil(_FALSE_ACCEPTS / false_accept_rate)))
    return np.sort(np.random.default_rng(0).choice(count, size, replace=False))


def _exact_nearest(entries: Entries, queries: Floats) -> Floats:
    """Return each query's similarity to the nearest entry."""
    nearest = np.full(len(queries), -np.inf, np.float32)
    for start in range(0, len(queries), _MOST_QUERIES):
        asked, best = queries[start : start + _MOST_QUERIES], nearest[start : start + _MOST_QUERIES]
        for _, part in entries.parts(max(1, _COSINES // len(asked))):
            np.maximum(best, part.similarity(asked).max(axis=1), out=best)
    return nearest


def _nearest_by_label(entries: Entries, rows: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return each row's similarity to the nearest other entry of its label (-inf if none), and of another label."""
    own, other = np.full((2, len(rows)), -np.inf, np.float32)
    asked = entries.unit(rows)
    for start, part in entries.parts(max(1, _COSINES // len(rows))):
        end = start + len(part)
        similarity = part.similarity(asked)
        same = entries.label_index[rows, None] == entries.label_index[start:end]
        np.maximum(other, np.where(same, -np.inf, similarity).max(axis=1), out=other)
        itself = np.flatnonzero((rows >= start) & (rows < end))
        similarity[itself, rows[itself] - start] = -np.inf
        similarity[~same] = -np.inf
        np.maximum(own, similarity.max(axis=1), out=own)
    return own, other


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a counted share (Wilson, 1927): lower and upper bound, 0 to 1."""
    if not trials:
        return 0.0, 1.0
    share, z2 = hits / trials, _Z95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, middle - half), min(1.0, middle + half)
