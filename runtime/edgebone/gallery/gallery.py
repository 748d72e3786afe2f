"""A gallery: labelled vectors that identify a new vector by its nearest neighbours."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgebone.core.errors import OutputError
from edgebone.core.locking import locked
from edgebone.core.matches import UNKNOWN, Matches
from edgebone.core.near import did_you_mean
from edgebone.core.version import created_at, created_by
from edgebone.core.writing import as_utf8
from edgebone.gallery.calibration import Calibration, calibrated
from edgebone.gallery.entries import Entries
from edgebone.gallery.errors import GalleryError
from edgebone.gallery.file import SCHEMA, Header, file_stamp, read_gallery, write_gallery
from edgebone.gallery.graph import has_usearch
from edgebone.gallery.intake import Added, as_ids, duplicates, new_ids, one_each
from edgebone.gallery.vectors import Storage, as_unit
from edgebone.gallery.views import OWN, View
from edgebone.gallery.vote import voted

EXACT_NUMBERS = 1 << 25
"""Up to this many numbers, such as 26,214 vectors of 1280, every entry is compared, which takes some 10 ms; beyond
it usearch's index is used."""
FALSE_ACCEPT_RATE = 0.01
"""The default share of unknown pictures that may be accepted as known."""
SAME = 0.99
"""The similarity from which two entries are reported as the same picture."""
_log = logging.getLogger("edgebone.gallery")

Duplicates = Literal["keep", "skip", "refuse"]


@dataclass(frozen=True)
class Entry:
    """One entry, without its vector.

    Attributes:
        id: Its number.
        label: Its label.
        source: Where it came from; empty if unknown.
    """

    id: int
    label: str
    source: str


class Gallery:
    """Labelled vectors of one embedding.

    Thread-safe: searches run while others add and remove, and each sees one consistent set of entries.

    Args:
        space: A fingerprint of how the vectors are computed; vectors of another space are not comparable.
        dimension: The number of values of a vector.
        storage: ``float32``; ``float16`` and ``int8`` take half and a quarter of the memory.
        about: How the vectors are computed, in words, for messages.
        views: The views of a picture that a vector is computed from.
    """

    def __init__(
        self,
        space: str,
        dimension: int,
        storage: Storage = "float32",
        about: str = "",
        views: Sequence[View] = OWN,
    ) -> None:
        self.space = space
        self.dimension = dimension
        self.storage: Storage = storage
        self.about = about
        self.views = tuple(views)
        self.path: Path | None = None
        self._entries = Entries.none()
        self._calibration: Calibration | None = None
        self._changing = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._saved: tuple[Entries, Calibration | None] = (self._entries, None)
        self._left_aside: tuple[int, ...] | None = None
        self._told = False

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Gallery:
        """Read a gallery into memory.

        Raises:
            GalleryError: It is missing, damaged, not a gallery, or of another version.
        """
        place = Path(path)
        stamp = file_stamp(place)
        header, entries = read_gallery(place)
        gallery = cls(header.space, header.dimension, header.storage, header.about, header.views)
        gallery.path = place
        gallery._adopt(header, entries, stamp)
        return gallery

    def save(self, path: str | os.PathLike[str] | None = None, overwrite: bool = False) -> Path:
        """Write the gallery atomically; searches continue meanwhile.

        Args:
            path: The file; None for the one that it was loaded from.
            overwrite: Replace a file other than the one that was loaded.

        Raises:
            OutputError: It cannot be written, or another file exists there.
            GalleryError: No path is known.
        """
        if path is None and self.path is None:
            raise GalleryError("this gallery has no file yet; save it with a path")
        target = Path(path if path is not None else self.path or "")
        with locked(target):
            stamp = file_stamp(target)
            if stamp is not None and not overwrite and (target != self.path or stamp != self._seen):
                raise OutputError(
                    f"{target} is another gallery than the one that was loaded, or was changed since; load it again, "
                    "or save with overwrite=True"
                )
            self.write(target)
        return target

    def reload_if_changed(self) -> bool:
        """Reload the file if another process replaced it; a file that cannot be loaded is reported once and ignored.

        Returns:
            True if it was reloaded.
        """
        stamp = file_stamp(self.path) if self.path else None
        if self.path is None or stamp is None or stamp in (self._seen, self._left_aside):
            return False
        try:
            header, entries = read_gallery(self.path)
            self.check(header.space, header.about)
            if header.dimension != self.dimension:
                raise GalleryError(f"{self.path} holds vectors of {header.dimension} numbers, not of {self.dimension}")
            with self._changing:
                if (self._entries, self._calibration) != self._saved:
                    raise GalleryError(
                        f"{self.path} was changed by others, and this gallery has unsaved changes, which are kept"
                    )
                self._adopt(header, entries, stamp)
        except GalleryError as error:
            _log.warning("%s; continuing with the gallery as it was", error)
            self._left_aside = stamp
            return False
        return True

    def check(self, space: str, about: str = "") -> None:
        """Reject vectors that were computed in another way than this gallery's.

        Args:
            space: The other's fingerprint.
            about: The same in words.

        Raises:
            GalleryError: They differ.
        """
        if space != self.space:
            raise GalleryError(
                f"{self.path or 'the gallery'} holds vectors of {self.about or 'another embedding'} "
                f"({self.space[:12]}…), not of {about or 'this one'} ({space[:12]}…): they are not "
                "comparable; use the bundle that the gallery was made with, or enrol the pictures again"
            )

    def add(
        self,
        vectors: ArrayLike,
        labels: str | Sequence[str],
        ids: Sequence[int] | NDArray[np.int64] | None = None,
        sources: str | Sequence[str] = "",
        policy: Duplicates = "keep",
        same: float | None = SAME,
    ) -> Added:
        """Add entries; the next search sees them.

        Args:
            vectors: Shape (m, d), or (d,) for one; of any nonzero length.
            labels: Their labels, or one for all.
            ids: Their ids; None continues counting.
            sources: Where they came from: a file's or a camera's name; or one for all.
            policy: What to do with duplicates: ``keep`` adds them, ``skip`` does not, ``refuse`` raises and adds
                nothing.
            same: The similarity from which a vector is a duplicate; None does not check, best for a million vectors at
                once.

        Raises:
            GalleryError: The vectors, labels or ids do not fit, or duplicates are refused.
        """
        unit = as_unit(vectors, self.dimension)
        names, origins = one_each(labels, len(unit), "labels"), one_each(sources, len(unit), "sources")
        if not all(names):
            raise GalleryError("a label needs at least one character")
        with self._changing:
            before = self._entries
            numbers = new_ids(before, ids, len(unit))
            skip = policy == "skip"
            found = () if same is None else duplicates(before, unit, numbers, names, same, skip)
            if found and policy == "refuse":
                raise GalleryError(
                    f"{len(found)} of {len(unit)} vectors are already in the gallery or occur twice: vector "
                    f"{found[0].row} is entry {found[0].of} ({found[0].label}), similarity "
                    f"{found[0].similarity:.3f}; nothing was added"
                )
            if found and skip:
                rows = np.setdiff1d(np.arange(len(unit)), [item.row for item in found])
                unit, numbers = unit[rows], numbers[rows]
                names, origins = [names[row] for row in rows], [origins[row] for row in rows]
            self._entries = before.with_more(unit, self.storage, numbers, names, origins)
            self._tidy()
        return Added(numbers, found)

    def remove(self, ids: Sequence[int] | NDArray[np.int64] | int | None = None, label: str | None = None) -> int:
        """Remove entries by id, or all of a label; the next search no longer sees them.

        Returns:
            The number of entries removed.

        Raises:
            GalleryError: No such id or label; nothing was removed.
        """
        if (ids is None) == (label is None):
            raise GalleryError("say which entries to remove: either their ids or a label")
        with self._changing:
            entries = self._entries
            if label is not None:
                label = as_utf8(label)
                if label not in entries.labels:
                    some = ", ".join(entries.labels[:10]) or "none"
                    hint = did_you_mean(label, entries.labels)
                    raise GalleryError(f"{self.path or 'the gallery'} has no label {label!r}; {hint}it has {some}")
                rows = np.flatnonzero(entries.label_index == entries.labels.index(label))
            else:
                assert ids is not None
                wanted = np.unique(as_ids(ids))
                unknown = np.setdiff1d(wanted, entries.ids)
                if len(unknown):
                    raise GalleryError(f"{self.path or 'the gallery'} has no entry {unknown[0]}; nothing was removed")
                rows = np.flatnonzero(np.isin(entries.ids, wanted))
            self._entries = entries.without(rows)
            self._tidy()
        return len(rows)

    def search(self, vector: ArrayLike, k: int = 5) -> Matches:
        """Return the entries most similar to a vector; its label is the nearest one's, at any distance.

        Args:
            vector: Shape (d,), of any nonzero length.
            k: The largest number of entries.

        Raises:
            GalleryError: The vector does not fit.
        """
        return self.search_all(np.asarray(vector)[None], k)[0]

    def search_all(self, vectors: ArrayLike, k: int = 5) -> list[Matches]:
        """Search for several vectors, shape (m, d)."""
        return self._nearest(vectors, k)[0]

    def identify(self, vector: ArrayLike, k: int = 5) -> Matches:
        """Identify a vector: its nearest entries vote, weighted by nearness; ``"unknown"`` if none is near enough.

        :meth:`calibrate` sets the threshold; before that, every entry is near enough.

        Args:
            vector: Shape (d,), of any nonzero length.
            k: The largest number of entries that vote.

        Raises:
            GalleryError: The vector does not fit.
        """
        return self.identify_all(np.asarray(vector)[None], k)[0]

    def identify_all(self, vectors: ArrayLike, k: int = 5) -> list[Matches]:
        """Identify several vectors, shape (m, d)."""
        found, calibration = self._nearest(vectors, k)
        return [voted(matches, -1.0 if calibration is None else calibration.threshold) for matches in found]

    def _nearest(self, vectors: ArrayLike, k: int) -> tuple[list[Matches], Calibration | None]:
        if k < 1:
            raise GalleryError(f"k must be 1 or more, not {k}")
        unit = as_unit(vectors, self.dimension)
        # Read once: one consistent snapshot, whatever others change meanwhile.
        entries, calibration = self._entries, self._calibration
        found = []
        for rows, similarity in zip(*entries.nearest(unit, k), strict=True):
            own = rows[rows >= 0]
            labels = tuple(entries.labels[index] for index in entries.label_index[own])
            # Rounding may exceed one slightly.
            near = np.clip(similarity[: len(own)], -1, 1)
            found.append(Matches(labels, near, entries.ids[own], labels[0] if labels else UNKNOWN))
        return found, calibration

    def calibrate(
        self, false_accept_rate: float = FALSE_ACCEPT_RATE, strangers: ArrayLike | None = None
    ) -> Calibration:
        """Find and store the similarity threshold for known pictures; repeat after adding or removing entries.

        Args:
            false_accept_rate: The share of unknown pictures that may be accepted as known, above 0 and below 1.
            strangers: Vectors of pictures that are not in the gallery, shape (m, d); None uses the entries, each as a
                stranger to all labels except its own; of many entries, a sample.

        Raises:
            GalleryError: The gallery is empty; it has neither strangers nor two labels; the rate is not a rate.
        """
        others = None if strangers is None else as_unit(strangers, self.dimension)
        self._calibration = calibrated(self._entries, false_accept_rate, others)
        return self._calibration

    @property
    def calibration(self) -> Calibration | None:
        """The result of :meth:`calibrate`; None before."""
        return self._calibration

    def labels(self) -> dict[str, int]:
        """The number of entries per label, in the order in which the labels were added."""
        entries = self._entries
        counts = np.bincount(entries.label_index, minlength=len(entries.labels))
        return dict(zip(entries.labels, counts.tolist(), strict=True))

    def entries(self) -> list[Entry]:
        """Return every entry, in the order in which they were added."""
        entries = self._entries
        rows = zip(entries.ids.tolist(), entries.label_index, entries.sources, strict=True)
        return [Entry(number, entries.labels[index], source) for number, index, source in rows]

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def _tidy(self) -> None:
        """Build or extend the index where it pays; searches continue on the previous one."""
        if self._entries.graph_is_stale:
            self._entries = replace(self._entries, graph=None, graph_blocks=0)
        if self._entries.unindexed * self.dimension <= EXACT_NUMBERS:
            return
        if has_usearch():
            self._entries = self._entries.indexed(self.storage)
        elif not self._told:
            self._told = True
            _log.warning(
                "the gallery holds %d entries, which are compared one by one; an index needs usearch: "
                'pip install "edgebone[gallery]"',
                len(self),
            )

    def _adopt(self, header: Header, entries: Entries, stamp: tuple[int, ...] | None) -> None:
        self._entries, self._calibration, self._seen = entries, header.calibration, stamp
        self._saved, self.storage = (entries, header.calibration), header.storage

    def write(self, target: Path) -> None:
        """Write the file, replacing any other; the caller holds its lock (see :func:`changing`)."""
        with self._changing:
            entries, calibration = self._entries, self._calibration
        header = Header(
            schema=SCHEMA,
            created_by=created_by(),
            created_at=created_at(),
            space=self.space,
            about=self.about,
            views=self.views,
            dimension=self.dimension,
            storage=self.storage,
            count=len(entries),
            labels=entries.labels,
            next_serial=entries.next_serial,
            indexed=len(entries) - entries.unindexed,
            graph_size=0 if entries.graph is None else len(entries.graph),
            calibration=calibration,
        )
        write_gallery(target, header, entries)
        self.path, self._seen, self._saved = target, file_stamp(target), (entries, calibration)
