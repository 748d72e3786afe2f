"""COCO's average precision of boxes or masks, counted by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edgebone.core import limits
from edgebone.core.detections import Detections
from edgebone.core.errors import SourceError, missing
from edgebone.core.foreign import foreign
from edgebone.core.manifest import Head
from edgebone.core.reading import is_regular, read_regular
from edgebone.core.results import Results
from edgebone.evaluate.annotated_sizes import check_sizes, stated_wh
from edgebone.evaluate.answers import LeftOut, answers, refuse
from edgebone.evaluate.contract import Evaluation, Figures, Truth
from edgebone.evaluate.predictor import Predictor
from edgebone.tasks.contract import Task
from edgebone.tasks.detection import DETECTION, LEAST_SCORE

_NAMES = {
    "AP": "AP_all", "AP50": "AP_50", "AP75": "AP_75", "APs": "AP_small", "APm": "AP_medium", "APl": "AP_large",
    "AR1": "AR_all", "AR10": "AR_second", "AR100": "AR_third",
}  # fmt: skip


class _Picture(msgspec.Struct, frozen=True):
    id: int
    file_name: str
    width: Any = None
    height: Any = None


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Annotation(msgspec.Struct, frozen=True):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    segmentation: Any = None


class _Instances(msgspec.Struct, frozen=True):
    images: list[_Picture]
    categories: list[_Category]
    annotations: list[_Annotation]


@dataclass(frozen=True)
class CocoData:
    """Annotated pictures.

    Attributes:
        where: The annotation file, for messages.
        json: Its bytes.
        paths: The pictures' files by their id in it.
        sizes_wh: The pictures' stated widths and heights by their id; None if the file states none.
        category_ids: The file's category id by the bundle's class id; classes missing in the file are omitted.
    """

    where: str
    json: bytes
    paths: Mapping[int, Path]
    category_ids: Mapping[int, int]
    sizes_wh: Mapping[int, tuple[int, int] | None] = field(default_factory=dict)

    def check_sizes(self) -> None:
        """Compare the stated sizes with the pictures, before they are evaluated.

        Raises:
            SourceError: They differ, with both sizes.
        """
        check_sizes(self.where, ((path, self.sizes_wh.get(number)) for number, path in self.paths.items()))


def read_instances(data: Path, images: Path | None, head: Head, masks: bool = False) -> CocoData:
    """Read COCO annotations and find their pictures and classes.

    Args:
        data: COCO's ``instances.json``.
        images: The folder of the pictures; None takes ``images`` beside the file.
        head: The detector's head, for its labels.
        masks: Whether every annotation must have a ``segmentation``: polygons or run lengths.

    Raises:
        SourceError: The file or a picture is missing, it is not an annotation file, it lacks masks, or it has a class
            that the bundle lacks.
    """
    with foreign(lambda reason: SourceError(f"{data}: not COCO's annotations ({reason}); give an instances.json")):
        raw = read_regular(data, limits.ANNOTATIONS_BYTES)
        found = msgspec.json.decode(raw, type=_Instances)
    folder = images or data.parent / "images"
    paths = {picture.id: folder / picture.file_name for picture in found.images}
    lost = [path for path in paths.values() if not is_regular(path)]
    if lost or not paths:
        what = f"{len(lost)} of its pictures are missing, such as {lost[0]}" if lost else "it lists no pictures"
        raise SourceError(f"{data}: {what}; say where they are with --images DIR")
    names = {category.id: category.name for category in found.categories}
    by_label = {label: index for index, label in enumerate(head.labels)}
    unknown = {item.category_id for item in found.annotations if names.get(item.category_id) not in by_label}
    if unknown:
        listed = ", ".join(sorted(str(names.get(number, number)) for number in unknown)[:5])
        raise SourceError(f"{data}: it annotates classes that are not labels of the bundle: {listed}")
    without = sum(not item.segmentation for item in found.annotations)
    if masks and without:
        raise SourceError(
            f"{data}: {without} of {len(found.annotations)} annotations have no segmentation, which masks are compared "
            "with: polygons or run lengths"
        )
    return CocoData(
        str(data),
        raw,
        paths,
        {by_label[name]: number for number, name in names.items() if name in by_label},
        {picture.id: stated_wh(picture.width, picture.height) for picture in found.images},
    )


def evaluate_detector(
    model: Predictor,
    name: str,
    data: CocoData,
    progress: Callable[[int], None] = lambda _: None,
    left_out: LeftOut = refuse,
    task: Task[Detections] = DETECTION,
) -> dict[str, float]:
    """Run a model over annotated pictures and count.

    Args:
        model: A model, loaded with a score of at most ``LEAST_SCORE``.
        name: The detector's head.
        data: From :func:`read_instances`.
        progress: Called with the number of pictures done.
        left_out: Called with the reason for each picture that is not counted; raises by default.
        task: ``detection`` compares boxes, ``instances`` masks.

    Returns:
        COCO's figures, 0 to 1 (-1 if there is nothing to count): AP (IoU 0.50 to 0.95), AP50, AP75, APs, APm, APl, AR1,
        AR10, AR100.

    Raises:
        MissingDependencyError: faster-coco-eval is not installed.
        SourceError: A picture cannot be read, none can, or the annotations lack what COCO's metrics need.
    """

    def rows_of(results: Results, number: int) -> list[dict[str, Any]]:
        return _rows(task.pick(results, name), number, data.category_ids)

    kind = "bbox" if task is DETECTION else "segm"
    return count_coco(model, data, rows_of, kind, _NAMES, progress, left_out)[0]


def count_coco(
    model: Predictor,
    data: CocoData,
    rows_of: Callable[[Results, int], list[dict[str, Any]]],
    kind: str,
    names: Mapping[str, str],
    progress: Callable[[int], None] = lambda _: None,
    left_out: LeftOut = refuse,
    **options: Any,
) -> tuple[dict[str, float], int]:
    """Run a model over annotated pictures and count as COCO does.

    Args:
        model: A model, loaded with a low score.
        data: The annotations.
        rows_of: Returns a picture's results as COCO has them, from the model's and the picture's number.
        kind: ``bbox``, ``segm`` or ``keypoints``.
        names: faster-coco-eval's name of each figure to return.
        progress: Called with the number of pictures done.
        left_out: Called with the reason for each picture that is not counted; raises by default.
        **options: Further settings of faster-coco-eval.

    Returns:
        The figures, 0 to 1 (-1 if there is nothing to count), and the number of pictures counted.

    Raises:
        MissingDependencyError: faster-coco-eval is not installed.
        SourceError: A picture cannot be read, none can, or the annotations lack what COCO's metrics need.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ModuleNotFoundError as error:
        raise missing("faster_coco_eval", "eval", "COCO's average precision") from error

    def unusable(reason: str) -> SourceError:
        return SourceError(f"{data.where}: COCO's metrics cannot be counted on its annotations ({reason})")

    # Checked before the pictures are evaluated.
    with foreign(unusable), contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(msgspec.json.decode(data.json))
    rows: list[dict[str, Any]] = []
    numbers = list(data.paths)
    seen: list[int] = []
    for place, results in answers(model, list(data.paths.values()), left_out, progress):
        seen.append(numbers[place])
        rows += rows_of(results, numbers[place])
    with foreign(unusable), contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval_faster(truth, truth.loadRes(rows), kind, print_function=lambda *_: None, **options)
        evaluation.params.imgIds = sorted(seen)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = evaluation.stats_as_dict
    return {name: round(float(figures[theirs]), 6) for name, theirs in names.items()}, len(seen)


def _rows(result: Detections, number: int, category_ids: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return one picture's boxes, or masks, as COCO results; classes missing in the data are omitted.

    A box beside a mask would decide its size class.
    """
    return [
        {
            "image_id": number,
            "category_id": category_ids[row["category_id"]],
            "score": row["score"],
            key: row[key],
        }
        for row in result.to_dict()["detections"]
        for key in ["segmentation" if "segmentation" in row else "bbox"]
        if row["category_id"] in category_ids
    ]


def find_instances(data: Path, _: Path | None) -> Path | None:
    """Return COCO's annotations at a path: the file itself, or ``instances.json`` in a folder."""
    if data.suffix.lower() == ".json":
        return data
    return data / "instances.json" if (data / "instances.json").is_file() else None


def truth_of(task: Task[Detections], name: str, head: Head, labels: Path, images: Path | None) -> Truth:
    """Read annotations for a head; arguments as for :attr:`edgebone.evaluate.contract.Evaluation.read`."""
    instances = read_instances(labels, images, head, masks=task is not DETECTION)

    def count(model: Predictor, progress: Callable[[int], None], left_out: LeftOut) -> Figures:
        n = len(instances.paths)

        def lost(error: SourceError) -> None:
            nonlocal n
            n -= 1
            left_out(error)

        found = evaluate_detector(model, name, instances, progress, lost, task)
        text = ", ".join(f"{key} {found[key]:.3f}" for key in ("AP", "AP50", "AP75"))
        return Figures(100 * found["AP"], {**found, "n": n}, f"{text} on {n} pictures")

    return Truth(tuple(instances.paths.values()), count, instances.check_sizes)


EVALUATION = Evaluation(find_instances, partial(truth_of, DETECTION), settings={"score": LEAST_SCORE})
