"""Read data for heads on vectors: pictures with classes, several labels, or numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.reading import read_text
from edgebone.evaluate.pictures import find_pictures, read_rows
from edgebone.sources.folders import in_order, pictures_in
from edgebone.sources.images import is_listed
from edgebone_export.errors import ExportError

Task = Literal["classes", "labels", "values", "none"]
SEPARATOR = "|"


@dataclass(frozen=True)
class Labelled:
    """Pictures and their targets.

    Attributes:
        pictures: Picture files.
        names: Class names, labels or names of values; empty without targets.
        y: int64 class ids (n,), bool (n, labels), or float64 (n, values).
        task: The task that was read.
    """

    pictures: tuple[Path, ...]
    names: tuple[str, ...]
    y: NDArray[Any]
    task: Task


def read_labelled(data: Path, task: Task, names: Sequence[str] = (), columns: Sequence[str] = ()) -> Labelled:
    """Read a labelled set.

    Args:
        data: A folder with one subfolder per class; or a CSV with the column ``file`` and the column ``label`` for
            classes, ``labels`` for several per picture (``a|b``, or empty), or columns of numbers. For ``none``, any
            source of pictures.
        task: The task to read.
        names: Known names, from the set that was read before; empty takes the names found.
        columns: Columns of numbers; empty for all but ``file``.

    Raises:
        SourceError: The data is missing, or lacks what the task needs.
        ExportError: Labels differ only in case, or are not among the known ones.
    """
    if task == "none":
        found = find_pictures(data) or []
        if not found:
            raise SourceError(f"{data}: expected a folder of pictures, found a video")
        return Labelled(tuple(found), (), np.full(len(found), -1, np.int64), task)
    if task == "classes":
        return _classes(data, names)
    if data.suffix.lower() != ".csv":
        wanted = "file and labels" if task == "labels" else "file and numbers"
        raise SourceError(f"{data}: expected a CSV with the columns {wanted}")
    rows = _rows(data)
    files = tuple(data.parent / row["file"].strip() for row in rows)
    return _several(data, rows, files, names) if task == "labels" else _values(data, rows, files, names or columns)


def _rows(data: Path) -> list[dict[str, str]]:
    rows = read_rows(data)
    if not rows or "file" not in rows[0]:
        found = ", ".join(map(str, rows[0])) if rows else "nothing"
        raise SourceError(f"{data}: expected a column file and rows, found {found}")
    return [{key: value or "" for key, value in row.items() if key is not None} for row in rows]


def _classes(data: Path, names: Sequence[str]) -> Labelled:
    if data.is_dir():
        folders = class_folders(data)
        if not folders:
            raise SourceError(f"{data}: expected a folder of pictures per class, or a CSV with file and label")
        loose = in_order(path for path in data.iterdir() if not path.name.startswith(".") and is_listed(path))
        if loose:
            raise SourceError(
                f"{data}: {len(loose)} pictures lie beside the class folders, such as {loose[0].name}; move each into "
                "its class's folder, or remove them"
            )
        pairs = [(path, folder.name) for folder, paths in folders.items() for path in paths]
    else:
        rows = _rows(data)
        if "label" not in rows[0]:
            raise SourceError(f"{data}: expected the columns file and label, found {', '.join(rows[0])}")
        pairs = [(data.parent / row["file"].strip(), row["label"].strip()) for row in rows]
        unnamed = sum(1 for _, label in pairs if not label)
        if unnamed:
            raise SourceError(f"{data}: {unnamed} rows have no label")
    labels = _known(data, [label for _, label in pairs], names)
    place = {label: index for index, label in enumerate(labels)}
    y = np.asarray([place[label] for _, label in pairs], np.int64)
    return Labelled(tuple(path for path, _ in pairs), labels, y, "classes")


def has_classes(data: Path) -> bool:
    """Return whether the data has classes, or only pictures."""
    if data.suffix.lower() == ".csv":
        try:
            first = read_text(data, limits.TABLE_BYTES).partition("\n")[0]
        except (OSError, UnicodeDecodeError):
            return False
        return "label" in [name.strip() for name in first.split(",")]
    return data.is_dir() and len(class_folders(data)) > 1


def class_folders(data: Path) -> dict[Path, list[Path]]:
    """Return a folder's subfolders that contain pictures, with the pictures; hidden ones are skipped."""
    folders = in_order(child for child in data.iterdir() if child.is_dir() and not child.name.startswith("."))
    found = {folder: pictures_in(folder, deep=True) for folder in folders}
    return {folder: paths for folder, paths in found.items() if paths}


def _several(data: Path, rows: Sequence[dict[str, str]], files: tuple[Path, ...], names: Sequence[str]) -> Labelled:
    if "labels" not in rows[0]:
        raise SourceError(f"{data}: expected the columns file and labels (a{SEPARATOR}b), found {', '.join(rows[0])}")
    sets = [{word.strip() for word in row["labels"].split(SEPARATOR) if word.strip()} for row in rows]
    labels = _known(data, [label for own in sets for label in own], names)
    return Labelled(files, labels, np.asarray([[label in own for label in labels] for own in sets], np.bool_), "labels")


def _values(data: Path, rows: Sequence[dict[str, str]], files: tuple[Path, ...], columns: Sequence[str]) -> Labelled:
    wanted = tuple(columns) or tuple(key for key in rows[0] if key != "file")
    absent = [name for name in wanted if name not in rows[0]]
    if absent or not wanted:
        raise SourceError(f"{data}: no column {', '.join(absent) or 'of numbers'}; it has {', '.join(rows[0])}")
    y = np.zeros((len(rows), len(wanted)))
    for number, row in enumerate(rows):
        for place, name in enumerate(wanted):
            try:
                y[number, place] = float(row[name])
            except ValueError as error:
                value = row[name]
                raise SourceError(f"{data}: row {number + 2}: expected a number in {name}, found {value!r}") from error
    return Labelled(files, wanted, y, "values")


def _known(data: Path, found: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    distinct = sorted(set(found))
    check_spelling(data, {*distinct, *names})
    if not names:
        return tuple(distinct)
    unknown = [label for label in distinct if label not in names]
    if unknown:
        raise ExportError(f"{data}: the label {unknown[0]} does not occur in the training pictures")
    return tuple(names)


def check_spelling(data: Path, labels: Iterable[str]) -> None:
    """Reject labels that differ only in case, which are hardly meant as two.

    Raises:
        ExportError: Two do; the message names the first pair.
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in set(labels):
        spellings[label.casefold()].append(label)
    twice = sorted(sorted(own) for own in spellings.values() if len(own) > 1)
    if twice:
        raise ExportError(f"{data}: labels differ only in case: {' and '.join(twice[0])}; use one spelling")


def split_rows(
    picture: NDArray[np.int64], strata: NDArray[np.int64], group: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows into training and held-out ones with :func:`hold_out`.

    Args:
        picture: int64 (rows,): each row's picture; the picture itself precedes its augmented views.
        strata: int64 (n,): stratum of each picture, in ascending order of picture numbers.
        group: int64 (n,): group of each picture, in the same order.
        share: Share of the pictures to hold out, 0 to 1.
        seed: Random seed.

    Returns:
        The training rows with all views, and the held-out rows without augmented views.
    """
    first = np.unique(picture, return_index=True)[1]
    held = first[hold_out(strata, group, share, seed)]
    return np.flatnonzero(~np.isin(picture, picture[held])), held


def hold_out(strata: NDArray[np.int64], group: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Hold out a share of the pictures, about the same of each stratum, without splitting groups.

    Args:
        strata: int64 (n,): class of each picture; a group with several counts to its rarest.
        group: int64 (n,): equal for pictures that must be on one side.
        share: Share of the pictures to hold out, 0 to 1.
        seed: Random seed.

    Returns:
        (n,): whether each picture is held out. A stratum with one group loses none, and no stratum loses all.
    """
    rng = np.random.default_rng(seed)
    aside = np.zeros(len(strata), np.bool_)
    names, counts = np.unique(strata, return_counts=True)
    undecided = set(group.tolist())
    for stratum in names[np.argsort(counts, kind="stable")]:
        own = [number for number in np.unique(group[strata == stratum]).tolist() if number in undecided]
        undecided -= set(own)
        sizes = {number: int((group == number).sum()) for number in own}
        wanted = round(share * sum(sizes.values()))
        taken: list[int] = []
        for number in rng.permutation(own).tolist():
            if len(taken) < len(own) - 1 and sum(sizes[key] for key in taken) + sizes[number] <= wanted:
                taken.append(number)
        if wanted and not taken and len(own) > 1:
            taken = [min(own, key=lambda number: sizes[number])]
        aside |= np.isin(group, taken)
    return aside
