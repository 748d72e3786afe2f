"""Cuts a model's boxes out of the frame and asks a second model about them."""

from __future__ import annotations

import logging
import math
import os
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.detections import CROPS, PARENT, Detections
from edgebone.core.errors import EdgeboneError
from edgebone.core.event import Event, event_values
from edgebone.core.frame import Frame
from edgebone.core.matches import UNKNOWN
from edgebone.core.model_files import bundle_name
from edgebone.core.oriented import CORNERS
from edgebone.core.results import ABSTAIN, HeadResults, Result, Results
from edgebone.decode.heads import find_head, heads_of
from edgebone.pipeline.asked import Asked, Known, first_ones
from edgebone.pipeline.second import Second
from edgebone.pipeline.step import Step
from edgebone.pipeline.within import MOVABLE, in_frame
from edgebone.tasks.boxed import BOXED, boxes_of, with_data
from edgebone.tasks.choosing import check_classes
from edgebone.tasks.instances import INSTANCES
from edgebone.tasks.merging import merged
from edgebone.tasks.naming import said
from edgebone.tasks.regression import REGRESSION
from edgebone.vision.clock import time_s
from edgebone.vision.cutting import Cut, cut_out, masked_out, rectangles, straightened

if TYPE_CHECKING:
    from edgebone.model.model import Model

DETECTIONS = "detections"
"""The only head with boxes, whatever its name."""
# Different answers that are counted for the summary.
_MOST_COUNTED = 1000
_SILENT = ("", UNKNOWN, ABSTAIN)
_log = logging.getLogger("edgebone.pipeline")


@dataclass(frozen=True)
class NamedEvent:
    """The answer about a tracked object became known, or changed.

    Attributes:
        source: The frame's source.
        frame: The frame's index.
        position_s: The frame's time within a recording; None for a live source.
        tracker_id: The object's number within this source.
        label: The object's class, by the first model.
        crops: The step's name.
        answer: What the second model said.
        event: ``named``.
    """

    source: str
    frame: int
    position_s: float | None
    tracker_id: int
    label: str
    crops: str
    answer: str
    event: str = "named"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return event_values(self)


class Crops(Step):
    """Asks a second model about the boxes of the first, each cut out of the full frame.

    A crop goes through the second model's own preprocessing, resized once; a turned box (``data["xyxyxyxy"]``) is made
    upright before that. The first model's results stay as they are. The answers are beside the boxes:
    ``detections["crops"]`` has for each box a dict of the second model's results by this step's name (empty if it was
    not asked), ``detections[name]`` their labels as text (empty if there is none), and ``detections[f"{name}_score"]``
    their confidences (NaN if there is none). A second model that finds boxes is a detector within boxes: what it found
    is a further head of the frame's results, named as this step, in the frame's pixels, with each box's row among the
    first ones as ``found["parent"]``. Such boxes can be cut out by another ``Crops``.

    With ``once_a_track`` each tracked object is asked about once, and again after that many seconds on its source's
    clock. Its latest eight answers are merged: of classes the probabilities' mean, of decisions the most frequent, of
    embeddings the mean of the unit vectors, of other results the latest one. The answer stays with the track, and is
    forgotten with it. Boxes found within boxes are not kept: they are in the results of the frames that asked.

    If the second model fails, the boxes have no answer; this is counted, and reported once.

    Args:
        model: The second model, which stays open; or its bundle's path, which :meth:`close` closes.
        of: The head whose boxes are cut out; ``detections`` also stands for the only head with boxes. Or an earlier
            ``Crops`` whose model finds boxes.
        name: The name of the answers; None for the second bundle's file name without its ending.
        classes: Only boxes of these classes; None for all.
        least_size: The shorter side that a box must have, in pixels of the frame.
        margin: What is added on each side, as a share of the box's width and height.
        square: Extend the shorter side instead of cutting the box as it is.
        masked: Black out what is not the object's own area, for a head of instances.
        budget: The largest number of crops a frame: those not asked about for the longest time first, then the largest;
            None for all.
        once_a_track: Seconds after which a track is asked about again; None to ask about each box on each frame.
        gallery: The file that names the second model's embedding; None without one. Reloaded if it changes.
        notice: Called with a line at the second model's first failure, and when the gallery has changed; None logs it.
        **options: Those of :func:`edgebone.load`, for a path.

    Attributes:
        name: The name of the answers.

    Raises:
        EdgeboneError: The bundle or the gallery cannot be used, or the earlier step finds no boxes.
        ValueError: An implausible size, margin, budget or time.

    Example:
        >>> import edgebone
        >>> from edgebone.pipeline import Crops, Pipeline, Tracks
        >>> with edgebone.load("yolox.bundle") as model, Crops("mobilenet_v2.bundle", once_a_track=5) as crops:
        ...     summary = Pipeline(model, [Tracks(), crops]).run("street.mp4")
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str],
        of: str | Crops = DETECTIONS,
        *,
        name: str | None = None,
        classes: Collection[str] | None = None,
        least_size: float = 0,
        margin: float = 0.0,
        square: bool = False,
        masked: bool = False,
        budget: int | None = None,
        once_a_track: float | None = None,
        gallery: str | os.PathLike[str] | None = None,
        notice: Callable[[str], object] | None = None,
        **options: Any,
    ) -> None:
        if not 0 <= margin <= 10 or not 0 <= least_size < math.inf:
            raise ValueError(f"margin must be 0 to 10 and least_size 0 or more, got {margin} and {least_size}")
        if budget is not None and budget < 1:
            raise ValueError(f"budget must be 1 or more, got {budget}")
        if once_a_track is not None and not 0 <= once_a_track < math.inf:
            raise ValueError(f"once_a_track must be 0 or more seconds, got {once_a_track}")
        self._of = of
        self._classes = None if classes is None else {classes} if isinstance(classes, str) else {*classes}
        self._least_size, self._margin, self._square, self._budget = least_size, margin, square, budget
        self._masked = masked
        self._asked = None if once_a_track is None else Asked(once_a_track)
        self._heads: weakref.WeakKeyDictionary[Model, str] = weakref.WeakKeyDictionary()
        self._frames = self._left_out = self._small = self._nowhere = 0
        self._answers: Counter[str] = Counter()
        self.files = "second bundle" if isinstance(model, (str, os.PathLike)) else ""
        self._second = Second(model, gallery, notice or _log.warning, options)
        try:
            _check_heads(self._second.model)
            self.name = name or bundle_name(self._second.model.bundle.path)
            if isinstance(of, Crops):
                of.check_finds_boxes(self._classes)
        except BaseException:
            self.close()
            raise

    @property
    def asked(self) -> int:
        """The number of crops that the second model was asked about so far."""
        return self._second.asked

    @property
    def finds_boxes(self) -> bool:
        """Whether the second model finds boxes, which another ``Crops`` can cut out."""
        return _finds_boxes(self._second.model)

    def check_finds_boxes(self, classes: Collection[str] | None) -> None:
        """Reject a cascade whose next step has nothing to cut out.

        Raises:
            EdgeboneError: The second model finds no boxes, or not of these classes.
        """
        model = self._second.model
        find_head(model.manifest.heads, MOVABLE, None, f"cutting out what {self.name} finds")
        if classes is not None:
            check_classes(model.manifest, classes)

    def prepare(self, model: Model) -> None:
        """See :meth:`Step.prepare`.

        Raises:
            BundleError: The model has no such head with boxes (with areas if masked), several if none is named, or a
            class is unknown.
        """
        if isinstance(self._of, Crops):
            return
        heads = model.manifest.heads
        named = self._of if self._of in heads or self._of != DETECTIONS else None
        tasks, what = ((INSTANCES,), "cutting out areas") if self._masked else (BOXED, "cutting out boxes")
        self._heads[model] = find_head(heads, tasks, named, what, how=" with of")[0]
        if self._classes is not None:
            check_classes(model.manifest, self._classes)

    def refresh(self, model: Model) -> None:
        """Reload a gallery whose file has changed."""
        if self._second.follow_gallery() and self._asked is not None:
            self._asked.name_again()

    def load_again(self, model: Model) -> None:
        """Reload the second bundle and its gallery; tracks are asked about anew.

        Raises:
            EdgeboneError: They cannot be used; the step keeps the previous ones.
        """
        if self._second.load_again(self._check_again) and self._asked is not None:
            self._asked.forget_answers()

    def _check_again(self, model: Model) -> None:
        _check_heads(model)
        if _finds_boxes(model) != self.finds_boxes:
            change = "no longer finds" if self.finds_boxes else "now finds"
            raise EdgeboneError(f"{model.bundle.path} {change} boxes, which other steps build on; restart to use it")

    def look(self, frame: Frame, results: Results, model: Model) -> tuple[Results, Sequence[Event]]:
        """Return the results with the answers about the boxes, and an event for each track whose answer is new.

        Raises:
            EdgeboneError: ``once_a_track`` is set and the boxes have no tracks; or two steps have the same name.
            SourceError: The frame is damaged and cannot be decoded.
        """
        if isinstance(self._of, Crops) and not isinstance(results, dict):
            # The earlier step finds no boxes any more.
            return results, ()
        name = self._of.name if isinstance(self._of, Crops) else self._heads[model]
        result = results.get(name) if isinstance(results, dict) else results
        boxes = None if result is None else boxes_of(result)
        if result is None or boxes is None:
            # The head skipped this frame.
            return results, ()
        heads = results if isinstance(results, dict) else {name: results}
        if {self.name, f"{self.name}_score"} & {CROPS, PARENT, *heads, *boxes.data}:
            raise EdgeboneError(f"the results have {self.name} already; give each second model a name of its own")
        self._frames += 1
        known = self._known(frame, boxes)
        rows, crops = self._rows(frame, boxes, known)
        cuts = self._cuts(frame, result, boxes, rows, crops)
        fresh = dict(zip(rows, self._second.ask([cut.pixels for cut in cuts]), strict=True))
        if self.finds_boxes:
            found = in_frame([*fresh.values()], cuts, rows)
            for row, track in enumerate(known):
                if track is not None and row in fresh:
                    track.asked_s = time_s(frame)
            return HeadResults({**heads, self.name: found}), ()
        answers = self._answered(frame, known, fresh, len(boxes))
        events = self._events(frame, boxes, known, answers)
        changed = with_data(result, self._columns(boxes, answers))
        return (HeadResults({**heads, name: changed}) if isinstance(results, dict) else changed), events

    def _known(self, frame: Frame, boxes: Detections) -> list[Known | None]:
        if self._asked is None:
            return [None] * len(boxes)
        if boxes.tracker_id is None:
            raise EdgeboneError("once_a_track needs tracked detections: track them first (--track)")
        return self._asked.see(frame.source, boxes.tracker_id, time_s(frame))

    def _rows(
        self, frame: Frame, boxes: Detections, known: Sequence[Known | None]
    ) -> tuple[list[int], NDArray[np.int64]]:
        """Return the rows to ask about, and what to cut out for each of them."""
        wanted = [row for row, label in enumerate(boxes.labels) if self._classes is None or label in self._classes]
        if not wanted:
            return [], np.zeros((0, 4), np.int64)
        crops = rectangles(boxes.xyxy, frame.size_hw, self._margin, self._square)
        sides = _sides(boxes).min(axis=1)
        seen = [row for row in wanted if crops[row, 2] > crops[row, 0]]
        large = [row for row in seen if sides[row] >= self._least_size]
        self._nowhere += len(wanted) - len(seen)
        self._small += len(seen) - len(large)
        if self._asked is not None:
            now_s = time_s(frame)
            large = [row for row in large if self._asked.is_due(known[row], now_s)]
        rows = large
        if self._budget is not None and len(large) > self._budget:
            asked_s = [-math.inf if track is None or track.asked_s is None else track.asked_s for track in known]
            rows = first_ones(large, asked_s, _sides(boxes).prod(axis=1), self._budget)
            self._left_out += len(large) - len(rows)
        return rows, crops[rows]

    def _cuts(
        self, frame: Frame, result: Result, boxes: Detections, rows: Sequence[int], crops: NDArray[np.int64]
    ) -> list[Cut]:
        turned = boxes.data.get(CORNERS)
        objects = INSTANCES.of(result) if self._masked else None
        if objects is not None and objects.mask is not None:
            areas = (objects.mask.bitmap(row) for row in rows)
            return [masked_out(frame.image, crop, *area) for crop, area in zip(crops, areas, strict=True)]
        if turned is None:
            return [cut_out(frame.image, crop) for crop in crops]
        return [straightened(frame.image, turned[row], self._margin, self._square) for row in rows]

    def _answered(
        self, frame: Frame, known: Sequence[Known | None], fresh: dict[int, Results | None], boxes: int
    ) -> list[Results | None]:
        """Return the answer about each box: this frame's own, or the one about its track."""
        answers: list[Results | None] = [None] * boxes
        for row, answer in fresh.items():
            track = known[row]
            if track is None:
                answers[row] = answer
                continue
            # Also after a failure: a broken model is not asked on each frame.
            track.asked_s = time_s(frame)
            if answer is not None:
                track.answers.append(answer)
                track.answer = None
        for row, track in enumerate(known):
            if track is None:
                answer = answers[row]
                answers[row] = None if answer is None else self._second.named(answer)
                continue
            if track.answer is None and track.answers:
                track.answer = self._second.named(merged(track.answers))
            answers[row] = track.answer
        return answers

    def _columns(self, boxes: Detections, answers: Sequence[Results | None]) -> dict[str, NDArray[Any]]:
        n = len(boxes)
        beside = np.empty(n, object)
        before: Sequence[dict[str, Results]] = boxes.data.get(CROPS, [{}] * n)  # type: ignore[assignment]
        beside[:] = [{**asked} for asked in before]
        labels, scores = [""] * n, np.full(n, np.nan, np.float32)
        for row, answer in enumerate(answers):
            if answer is not None:
                beside[row][self.name] = answer
                labels[row], scores[row] = said(answer)
                if labels[row] in self._answers or len(self._answers) < _MOST_COUNTED:
                    self._answers[labels[row]] += 1
        return {CROPS: beside, self.name: np.array(labels, np.str_), f"{self.name}_score": scores}

    def _events(
        self, frame: Frame, boxes: Detections, known: Sequence[Known | None], answers: Sequence[Results | None]
    ) -> list[Event]:
        events: list[Event] = []
        for row, (track, answer) in enumerate(zip(known, answers, strict=True)):
            if track is None or answer is None or boxes.tracker_id is None:
                continue
            label, _ = said(answer)
            if label not in _SILENT and label != track.told and _in_words(answer):
                track.told = label
                number = int(boxes.tracker_id[row])
                where = (frame.source, frame.index, frame.position_s)
                events.append(NamedEvent(*where, number, boxes.labels[row], self.name, label))
        return events

    def summary(self) -> list[str]:
        """Return a line with the crops asked about, those left out and why, and the most frequent answers."""
        second = self._second
        parts = [f"asked about {second.asked} crops in {self._frames} frames"]
        for number, why in (
            (self._left_out, f"left out by the budget of {self._budget} a frame"),
            (self._small, f"smaller than {self._least_size:g} pixels"),
            (self._nowhere, "without pixels in the frame"),
            (second.failed, f"failed ({second.failure})"),
        ):
            if number:
                parts.append(f"{number} {why}")
        most = [(label, number) for label, number in self._answers.most_common() if label][:3]
        if most:
            parts.append("most often " + ", ".join(label for label, _ in most))
        return [f"{self.name} ({Path(second.model.bundle.path).name}): {'; '.join(parts)}"]

    def close(self) -> None:
        """Free the second model if this step opened it."""
        self._second.close()

    def __enter__(self) -> Crops:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _in_words(answer: Results) -> bool:
    """Return whether an answer has words, which change less often than numbers do."""
    results = answer.values() if isinstance(answer, dict) else [answer]
    return all(REGRESSION.of(result) is None for result in results)


def _finds_boxes(model: Model) -> bool:
    return bool(heads_of(model.manifest.heads, *MOVABLE))


def _check_heads(model: Model) -> None:
    """Reject a second model whose answers would be in the pixels of a crop.

    Raises:
        EdgeboneError: It returns masks.
    """
    if masks := [*heads_of(model.manifest.heads, INSTANCES)]:
        raise EdgeboneError(
            f"{model.bundle.path}: head {masks[0]} returns {INSTANCES.returns}, which only whole frames have; a second "
            "model classifies, embeds, or finds boxes or keypoints"
        )


def _sides(boxes: Detections) -> NDArray[np.floating]:
    """Return the width and height of each box, as it is turned: (n, 2)."""
    corners = boxes.data.get(CORNERS)
    if corners is None:
        return np.asarray(boxes.xyxy[:, 2:] - boxes.xyxy[:, :2])
    return np.asarray(np.linalg.norm(corners[:, 1:3] - corners[:, 0:2], axis=2))
