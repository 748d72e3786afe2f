"""Open a new bundle on the engines, and compare its answers with the user's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

import edgebone
from edgebone.core.boxes import iou_matrix
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import write_bundle
from edgebone.core.golden import read_golden
from edgebone.core.limits import ANNOTATIONS_BYTES
from edgebone.core.manifest import Head, Manifest, listed
from edgebone.core.reading import read_regular
from edgebone.core.results import Results
from edgebone.decode.heads import heads_of
from edgebone.engines.select import check
from edgebone.engines.spec import Candidate, Fit
from edgebone.engines.table import rows, this_machine
from edgebone.evaluate.annotated_sizes import check_inside
from edgebone.selftest import replay
from edgebone.tasks.boxed import BOXED, boxes_of
from edgebone.tasks.classification import CLASSIFICATION
from edgebone_export.errors import ExportError, ParityError

# Two implementations of one network differ by less; a wrong description reproduces next to nothing.
_IOU = 0.7
_SOUND, _LEAST = 0.9, 0.5


class _Box(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    label: str
    bbox: tuple[float, float, float, float]


Expected = Mapping[str, str | list[_Box]]


@contextmanager
def trial_bundle(manifest: Manifest, files: Mapping[str, bytes]) -> Iterator[Path]:
    """Write the bundle to a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="edgebone-import-") as folder:
        yield write_bundle(Path(folder) / "trial.bundle", manifest, files)


def try_engines(bundle: Path) -> dict[str, str]:
    """Open the bundle on every engine here that needs no compilation, and replay its golden sample.

    Returns:
        The error by engine; empty for success.

    Raises:
        ExportError: No engine can run it.
    """
    machine = this_machine()
    with open_bundle(bundle) as opened:
        sample = read_golden(opened)
        (name,) = opened.manifest.variants
        said = {}
        # Engines that compile for minutes are checked when `edgebone compile` runs.
        for engine in (row.name for row in rows() if not row.compiles_for_minutes):
            candidate = Candidate(engine, "fp32", name)
            fits = isinstance(check(candidate, machine, opened.manifest.variants[name]), Fit)
            if fits:
                said[engine] = replay(opened, sample, candidate).detail
    if all(said.values()):
        failures = "; ".join(f"{key}: {why}" for key, why in said.items())
        raise ExportError(f"no engine on this machine can run it: {failures}")
    return said


def read_expected(path: Path) -> Expected:
    """Read the user's own answers.

    Args:
        path: A JSON file that maps a picture's path, relative to the file, to its class name, or to a list of boxes
            ``{"label": "dog", "bbox": [left, top, width, height]}`` in the picture's pixels.

    Raises:
        ExportError: It cannot be read, or lists no picture.
    """
    try:
        found = msgspec.json.decode(read_regular(path, ANNOTATIONS_BYTES), type=dict[str, str | list[_Box]])
    except (OSError, UnicodeDecodeError, RecursionError, msgspec.MsgspecError) as error:
        raise ExportError(
            f"{path}: not a file of expected answers ({error}); expected "
            '{"dog.jpg": [{"label": "dog", "bbox": [left, top, width, height]}]} or, for a classifier, '
            '{"dog.jpg": "dog"}'
        ) from error
    if not any(found.values()):
        raise ExportError(f"{path}: it lists no answers; list pictures with boxes or a class name")
    return found


@dataclass(frozen=True)
class Agreement:
    """How many of the user's own answers the bundle reproduces.

    Attributes:
        found: Number of answers reproduced.
        of: Number of answers.
        pictures: Number of pictures.
    """

    found: int
    of: int
    pictures: int

    def __str__(self) -> str:
        """Return a text such as ``19 of 20 expected answers in 8 pictures``."""
        return f"{self.found} of {self.of} expected answers in {self.pictures} pictures"

    @property
    def doubt(self) -> str:
        """The doubt as a sentence; empty if there is none."""
        return "" if self.found >= _SOUND * self.of else f"the bundle reproduces only {self}"


def check_expected(bundle: Path, expected: Expected, folder: Path) -> Agreement:
    """Run the bundle on the user's pictures.

    Args:
        bundle: The bundle.
        expected: Result of :func:`read_expected`.
        folder: Folder of the pictures.

    Raises:
        ExportError: No head, or more than one, returns such answers, or an answer has a class that it lacks.
        ParityError: The bundle reproduces less than half of them.
        SourceError: A picture cannot be read, or an expected box reaches beyond it.
    """
    tasks = (CLASSIFICATION,) if any(isinstance(item, str) for item in expected.values()) else BOXED
    found = of = 0
    with edgebone.load(bundle) as model:
        heads = model.manifest.heads
        able = list(heads_of(heads, *tasks))
        if len(able) != 1:
            raise ExportError(f"one head must return such answers, found {len(able)}; the bundle has {listed(heads)}")
        name, head = able[0], heads[able[0]]
        for file, answers in expected.items():
            _check_names(file, answers, head)
            if not isinstance(answers, str):
                check_inside(f"the expected answers of {file}", folder / file, (box.bbox for box in answers))
            hits = _hits(model(folder / file), name, answers)
            found, of = found + int(hits.sum()), of + len(hits)
    agreement = Agreement(found, of, len(expected))
    if found < _LEAST * of:
        raise ParityError(
            f"the bundle reproduces {agreement}: its preprocessing or output format differs from the one behind the "
            "answers; check --preprocess, --decoder and the order of --labels"
        )
    return agreement


def _check_names(file: str, answers: str | list[_Box], head: Head) -> None:
    names = {answers} if isinstance(answers, str) else {box.label for box in answers}
    unknown = names - set(head.labels)
    if unknown:
        raise ExportError(f"{file}: the expected class {sorted(unknown)[0]!r} is not a label of the bundle")


def _hits(results: Results, name: str, answers: str | list[_Box]) -> NDArray[np.bool_]:
    """Return which of the answers a head reproduces."""
    if isinstance(answers, str):
        return np.array([CLASSIFICATION.pick(results, name).labels[0] == answers])
    if not answers:
        return np.zeros(0, np.bool_)
    result = boxes_of(results[name] if isinstance(results, dict) else results)
    assert result is not None
    wanted = np.array([box.bbox for box in answers], np.float64)
    wanted[:, 2:] += wanted[:, :2]
    same = np.array([[box.label == label for label in result.labels] for box in answers]).reshape(len(answers), -1)
    hits: NDArray[np.bool_] = ((iou_matrix(wanted, result.xyxy) >= _IOU) & same).any(axis=1)
    return hits
