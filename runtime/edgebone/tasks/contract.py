"""The contract of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from edgebone.core.detections import Detections
from edgebone.core.errors import BundleError
from edgebone.core.results import Result, Results

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Task(Generic[R]):
    """A kind of output. Places are ``module:name``, so that a task imports none of them.

    Attributes:
        name: Its name, such as ``detection``.
        result: The class of its results; ``to_dict`` returns their JSON form.
        returns: Its heads' results, for messages: ``boxes``, ``an embedding``.
        headlines: Returns a result's summary words, once each: the classes found.
        agreement: Returns how much two results of one picture agree, 0 to 1; the third argument is the head's params.
        metric: Its main metric, 0 to 100; None if it is only compared with FP32.
        figures: All its figures, for people: ``top-1 and top-5``.
        evaluation: Place of its :class:`edgebone.evaluate.contract.Evaluation`; empty without a metric.
        drawing: Place of its :class:`edgebone.sinks.annotate.Drawing`; empty for a line of text.
        writer: Place of the class that writes its results as labels, see :class:`edgebone.labelling.Answers`; empty if
            nothing learns from them.
        one_score_a_label: Whether an output holds a score for each label, so that Triton can return the labels itself.
        has_labels: Whether its heads have named classes.
        own: Tells its results from those of other tasks with the same class; None if no other task has the class.
        boxes: Returns the boxes of a result, row for row; None if its results have none. Results with boxes are frozen
            dataclasses that are indexed by rows as :class:`edgebone.core.detections.Detections` are, and have its
            fields ``data`` and ``tracker_id``; see :mod:`edgebone.tasks.boxed`.
    """

    name: str
    result: type[R]
    returns: str
    headlines: Callable[[R], set[str]]
    agreement: Callable[[R, R, Mapping[str, Any]], float]
    metric: str | None = None
    figures: str = ""
    evaluation: str = ""
    drawing: str = ""
    writer: str = ""
    one_score_a_label: bool = False
    has_labels: bool = False
    own: Callable[[R], bool] | None = None
    boxes: Callable[[R], Detections] | None = None

    def of(self, result: object) -> R | None:
        """Return the result if it is of this task, else None."""
        return result if isinstance(result, self.result) and (self.own is None or self.own(result)) else None

    def pick(self, results: Results, head: str) -> R:
        """Return a head's result from a frame's results.

        Args:
            results: A frame's results, of one head or several.
            head: The head's name.

        Raises:
            BundleError: It is of another task: the head was replaced by another.
        """
        found = self.of(results[head] if isinstance(results, dict) else results)
        if found is None:
            raise BundleError(
                f"head {head} no longer returns {self.returns}: it was replaced by a head of another kind"
            )
        return found
