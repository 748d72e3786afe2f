"""Which head of a bundle is evaluated, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone.core.manifest import Head
from edgebone.core.place import load_place
from edgebone.decode.heads import find_head, heads_of
from edgebone.decode.registry import setting_names
from edgebone.evaluate.contract import Evaluation
from edgebone.tasks.contract import Task
from edgebone.tasks.table import TASKS

EVALUABLE = tuple(task for task in TASKS if task.evaluation)


def choose_head(heads: Mapping[str, Head], name: str | None = None) -> tuple[str, Evaluation]:
    """The head to evaluate, and how.

    Args:
        heads: The bundle's heads.
        name: The one that the user wants; None takes the only one that can be evaluated.

    Raises:
        BundleError: There is no such head, none that can be evaluated, or several.
    """
    metrics = ", ".join(f"{task.name} by {task.figures}" for task in EVALUABLE)
    chosen, task = find_head(heads, EVALUABLE, name, "evaluation", advice=f"what can be evaluated: {metrics}")
    return chosen, evaluation_of(task)


def evaluation_of(task: Task[Any]) -> Evaluation:
    """How a task is evaluated that can be."""
    found: Evaluation = load_place(task.evaluation)
    return found


def settings_of(heads: Mapping[str, Head]) -> dict[str, Any]:
    """What decoders are set to while their heads are evaluated; of the settings, those that a head has."""
    found: dict[str, Any] = {}
    for name, task in heads_of(heads, *EVALUABLE).items():
        known = setting_names(name, heads[name])
        found |= {key: value for key, value in evaluation_of(task).settings.items() if key in known}
    return found
