"""What every task says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from edgebone.core.errors import BundleError
from edgebone.core.results import Result, Results

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Task(Generic[R]):
    """A kind of output. Places are ``module:name``, so that a task imports nothing of what it names.

    Attributes:
        name: Its name, such as ``detection``.
        result: The class of its results, whose ``to_dict`` is their JSON form.
        returns: What its heads return, for messages: ``boxes``, ``an embedding``.
        headlines: What a result says in a word or two, once each: the classes that were found.
        agreement: How much two results of one picture are the same, 0 to 1; the third argument is the head's params.
        metric: The one figure that it is measured by, 0 to 100; None where it is compared with FP32 alone.
        figures: All that is counted, for a person: ``top-1 and top-5``.
        evaluation: Place of its :class:`edgebone.evaluate.contract.Evaluation`; empty where there is no metric.
        drawing: Place of its :class:`edgebone.sinks.annotate.Drawing`; empty for a line of text.
        writer: Place of what labels pictures with its results, see :class:`edgebone.labelling.Answers`; empty where
            nothing learns from them.
        one_score_a_label: Whether an output holds a score for each label, so that Triton can say the labels itself.
        has_labels: Whether its heads have classes with names.
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

    def of(self, result: object) -> R | None:
        """The result where it is one of this task, else None."""
        return result if isinstance(result, self.result) else None

    def pick(self, results: Results, head: str) -> R:
        """A head's result out of a frame's.

        Args:
            results: A frame's, of one head or of several.
            head: The head's name.

        Raises:
            BundleError: It is of another task: another head has taken the place of the one that is meant.
        """
        found = self.of(results[head] if isinstance(results, dict) else results)
        if found is None:
            raise BundleError(f"head {head} no longer gives {self.returns}: a head of another kind is in its place")
        return found
