"""From which similarity on a picture is one of the gallery's, found from the gallery itself."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.bounded import Count, Finite
from edgebone.gallery.entries import Entries
from edgebone.gallery.errors import GalleryError
from edgebone.gallery.vectors import Floats

# Of a large gallery a sample is asked about, each held against every entry: so large that so many false accepts can be
# counted at the rate that is asked for, which then is known to some 20 % of itself.
_FALSE_ACCEPTS = 20
_LEAST_QUERIES, _MOST_QUERIES = 1000, 5000
# Cosines that are in memory at a time, however large the gallery is.
_COSINES = 1 << 22
_Z95 = 1.959964


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A threshold, and what it costs, counted on all entries or, of more than a thousand, on a sample of them.

    Attributes:
        threshold: The least similarity to the nearest entry at which a picture is known, -1 to 1.
        false_accept_rate: How many unknown pictures in one may be taken for known, as asked for; 0 to 1.
        false_accepts: How many strangers were taken for known.
        strangers: How many there were.
        own_strangers: Whether they were the entries themselves, each held against all labels but its own.
        recognised: How many entries are known by another entry of their own label, and are given that label.
        with_company: How many were asked about that have another entry of their label.
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
            raise ValueError("more were taken for known than there were")

    def __str__(self) -> str:
        """``known from 0.812 on; of 500 strangers 4 are taken for known (95 %: 0.3-2.0 %); of 490 entries …``."""
        low, high = wilson(self.false_accepts, self.strangers)
        text = (
            f"known from {self.threshold:.3f} on; of {self.strangers} strangers {self.false_accepts} are taken for "
            f"known (95 %: {100 * low:.1f}-{100 * high:.1f} %)"
        )
        if self.with_company:
            text += f"; of {self.with_company} entries {self.recognised} are recognised by others of their label"
        return text


def calibrated(entries: Entries, false_accept_rate: float, strangers: Floats | None = None) -> Calibration:
    """Find the threshold.

    Args:
        entries: The gallery.
        false_accept_rate: How many strangers may be taken for known, above 0 and below 1.
        strangers: Vectors that are not in it, float32 of shape (m, d), of length one. None leaves out: an entry whose
            whole label is left out is a stranger to the rest.

    Returns:
        The threshold, and what it costs. Of many entries a random sample of 1000 to 5000 is asked about, always the
        same one: 20 divided by the rate, so that the interval that is printed stays narrow. Each is held against
        every entry, so that no size of gallery makes strangers look less alike than they are.

    Raises:
        GalleryError: The gallery is empty; there are no strangers, and no two labels either; the rate is no rate.
    """
    if not 0 < false_accept_rate < 1:
        raise GalleryError(f"a false accept rate is above 0 and below 1, not {false_accept_rate:g}")
    names = len(np.unique(entries.label_index))
    if not names or (strangers is None and names < 2) or (strangers is not None and not len(strangers)):
        raise GalleryError(
            f"the gallery holds {len(entries)} entries of {names} labels: a threshold is found between two labels, or "
            "between entries and pictures of strangers; enrol more, or give strangers"
        )
    rows = _sample(len(entries), false_accept_rate)
    own, other = _nearest_by_label(entries, rows)
    top = other if strangers is None else _exact_nearest(entries, strangers)
    allowed = math.floor(false_accept_rate * len(top))
    # The next number above: what is as similar as this stranger is not known.
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
    """The rows that are asked about, ascending; by chance, since pictures come in an order and signatures in pairs."""
    size = min(count, _MOST_QUERIES, max(_LEAST_QUERIES, math.ceil(_FALSE_ACCEPTS / false_accept_rate)))
    return np.sort(np.random.default_rng(0).choice(count, size, replace=False))


def _exact_nearest(entries: Entries, queries: Floats) -> Floats:
    """Each query's similarity to the nearest entry."""
    nearest = np.full(len(queries), -np.inf, np.float32)
    for start in range(0, len(queries), _MOST_QUERIES):
        asked, best = queries[start : start + _MOST_QUERIES], nearest[start : start + _MOST_QUERIES]
        for _, part in entries.parts(max(1, _COSINES // len(asked))):
            np.maximum(best, part.similarity(asked).max(axis=1), out=best)
    return nearest


def _nearest_by_label(entries: Entries, rows: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Each row's similarity to the nearest other entry of its own label (-inf where alone), and of another label."""
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
    """The 95 % interval of a share that was counted (Wilson, 1927): lower and upper end, 0 to 1."""
    if not trials:
        return 0.0, 1.0
    share, z2 = hits / trials, _Z95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, middle - half), min(1.0, middle + half)
