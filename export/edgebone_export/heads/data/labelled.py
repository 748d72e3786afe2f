"""Reads what heads are fitted on: pictures with classes, several labels, or numbers."""

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
    """Pictures and what they should lead to.

    Attributes:
        pictures: Files.
        names: Class names, labels or names of values; none where there are no targets.
        y: int64 class ids (n,), bool (n, labels), or float64 (n, values).
        task: What was read.
    """

    pictures: tuple[Path, ...]
    names: tuple[str, ...]
    y: NDArray[Any]
    task: Task


def read_labelled(data: Path, task: Task, names: Sequence[str] = (), columns: Sequence[str] = ()) -> Labelled:
    """Read a labelled set.

    Args:
        data: A folder with a folder a class in it; or a CSV with the column ``file`` and the column ``label`` for
            classes, ``labels`` for several a picture (``a|b``, or empty), or columns of numbers. For ``none``, whatever
            has pictures.
        task: What is read.
        names: The names that are known already, of the set that was read before; none to take those that are found.
        columns: The columns of numbers; none for all but ``file``.

    Raises:
        SourceError: It is not there, or does not hold what the task needs.
        ExportError: Labels differ only in case, or are not among the known ones.
    """
    if task == "none":
        found = find_pictures(data) or []
        if not found:
            raise SourceError(f"{data}: a folder of pictures is needed, not a video")
        return Labelled(tuple(found), (), np.full(len(found), -1, np.int64), task)
    if task == "classes":
        return _classes(data, names)
    if data.suffix.lower() != ".csv":
        wanted = "file and labels" if task == "labels" else "file and numbers"
        raise SourceError(f"{data}: needs to be a CSV with the columns {wanted}")
    rows = _rows(data)
    files = tuple(data.parent / row["file"].strip() for row in rows)
    return _several(data, rows, files, names) if task == "labels" else _values(data, rows, files, names or columns)


def _rows(data: Path) -> list[dict[str, str]]:
    rows = read_rows(data)
    if not rows or "file" not in rows[0]:
        found = ", ".join(map(str, rows[0])) if rows else "nothing"
        raise SourceError(f"{data}: needs a column file and rows, has {found}")
    return [{key: value or "" for key, value in row.items() if key is not None} for row in rows]


def _classes(data: Path, names: Sequence[str]) -> Labelled:
    if data.is_dir():
        folders = class_folders(data)
        if not folders:
            raise SourceError(f"{data}: needs a folder a class with pictures in it, or a CSV with file and label")
        loose = in_order(path for path in data.iterdir() if not path.name.startswith(".") and is_listed(path))
        if loose:
            raise SourceError(
                f"{data}: {len(loose)} pictures lie beside the folders of the classes, such as {loose[0].name}; put "
                "each into its class's folder, or take them away"
            )
        pairs = [(path, folder.name) for folder, paths in folders.items() for path in paths]
    else:
        rows = _rows(data)
        if "label" not in rows[0]:
            raise SourceError(f"{data}: needs the columns file and label, has {', '.join(rows[0])}")
        pairs = [(data.parent / row["file"].strip(), row["label"].strip()) for row in rows]
        unnamed = sum(1 for _, label in pairs if not label)
        if unnamed:
            raise SourceError(f"{data}: {unnamed} rows have no label")
    labels = _known(data, [label for _, label in pairs], names)
    place = {label: index for index, label in enumerate(labels)}
    y = np.asarray([place[label] for _, label in pairs], np.int64)
    return Labelled(tuple(path for path, _ in pairs), labels, y, "classes")


def has_classes(data: Path) -> bool:
    """Whether there are classes to learn from, or just pictures."""
    if data.suffix.lower() == ".csv":
        try:
            first = read_text(data, limits.TABLE_BYTES).partition("\n")[0]
        except (OSError, UnicodeDecodeError):
            return False
        return "label" in [name.strip() for name in first.split(",")]
    return data.is_dir() and len(class_folders(data)) > 1


def class_folders(data: Path) -> dict[Path, list[Path]]:
    """A folder's folders that have pictures in them, with these; hidden ones are none."""
    folders = in_order(child for child in data.iterdir() if child.is_dir() and not child.name.startswith("."))
    found = {folder: pictures_in(folder, deep=True) for folder in folders}
    return {folder: paths for folder, paths in found.items() if paths}


def _several(data: Path, rows: Sequence[dict[str, str]], files: tuple[Path, ...], names: Sequence[str]) -> Labelled:
    if "labels" not in rows[0]:
        raise SourceError(f"{data}: needs the columns file and labels (a{SEPARATOR}b), has {', '.join(rows[0])}")
    sets = [{word.strip() for word in row["labels"].split(SEPARATOR) if word.strip()} for row in rows]
    labels = _known(data, [label for own in sets for label in own], names)
    return Labelled(files, labels, np.asarray([[label in own for label in labels] for own in sets], np.bool_), "labels")


def _values(data: Path, rows: Sequence[dict[str, str]], files: tuple[Path, ...], columns: Sequence[str]) -> Labelled:
    wanted = tuple(columns) or tuple(key for key in rows[0] if key != "file")
    absent = [name for name in wanted if name not in rows[0]]
    if absent or not wanted:
        raise SourceError(f"{data}: has no column {', '.join(absent) or 'of numbers'}, only {', '.join(rows[0])}")
    y = np.zeros((len(rows), len(wanted)))
    for number, row in enumerate(rows):
        for place, name in enumerate(wanted):
            try:
                y[number, place] = float(row[name])
            except ValueError as error:
                raise SourceError(f"{data}: row {number + 2} has {row[name]!r} in {name}, not a number") from error
    return Labelled(files, wanted, y, "values")


def _known(data: Path, found: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    distinct = sorted(set(found))
    check_spelling(data, {*distinct, *names})
    if not names:
        return tuple(distinct)
    unknown = [label for label in distinct if label not in names]
    if unknown:
        raise ExportError(f"{data}: has the label {unknown[0]}, which the pictures to fit on do not have")
    return tuple(names)


def check_spelling(data: Path, labels: Iterable[str]) -> None:
    """Refuse labels that differ only in case: they are hardly meant to be two.

    Raises:
        ExportError: Names the first that do.
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in set(labels):
        spellings[label.casefold()].append(label)
    twice = sorted(sorted(own) for own in spellings.values() if len(own) > 1)
    if twice:
        raise ExportError(f"{data}: labels differ only in case: {' and '.join(twice[0])}; give them one spelling")


def parted(
    picture: NDArray[np.int64], strata: NDArray[np.int64], group: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part rows into those to fit on and those that are held out, as :func:`hold_out` says.

    Args:
        picture: int64, (rows,): each row's picture, which comes before its augmented views.
        strata: int64, (n,), a picture each, in ascending order of their numbers.
        group: The same.
        share: Of the pictures, 0 to 1.
        seed: Which.

    Returns:
        The rows to fit on, with all views, and those held out: of these the pictures themselves.
    """
    first = np.unique(picture, return_index=True)[1]
    held = first[hold_out(strata, group, share, seed)]
    return np.flatnonzero(~np.isin(picture, picture[held])), held


def hold_out(strata: NDArray[np.int64], group: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Set a share of the pictures aside, of each stratum about alike, and never a part of a group.

    Args:
        strata: int64, (n,): each picture's class; a group with several counts to its rarest.
        group: int64, (n,): the same number for pictures that must be on one side.
        share: Of the pictures, 0 to 1.
        seed: Which.

    Returns:
        (n,): which are held out. Of a stratum with one group none is; of no stratum all are.
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
