"""Chooses the head to evaluate."""

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
    """Return the head to evaluate and its evaluation.

    Args:
        heads: The bundle's heads.
        name: The requested head; None for the only one that can be evaluated.

    Raises:
        BundleError: No such head, none that can be evaluated, or several.
    """
    metrics = ", ".join(f"{task.name} by {task.figures}" for task in EVALUABLE)
    chosen, task = find_head(heads, EVALUABLE, name, "evaluation", advice=f"what can be evaluated: {metrics}")
    return chosen, evaluation_of(task)


def evaluation_of(task: Task[Any]) -> Evaluation:
    """Return the evaluation of a task that has one."""
    found: Evaluation = load_place(task.evaluation)
    return found


def settings_of(heads: Mapping[str, Head]) -> dict[str, Any]:
    """Return the decoders' settings for evaluation, where a head has them."""
    found: dict[str, Any] = {}
    for name, task in heads_of(heads, *EVALUABLE).items():
        known = setting_names(name, heads[name])
        found |= {key: value for key, value in evaluation_of(task).settings.items() if key in known}
    return found
