"""Finds a bundle's heads by task."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from edgebone.core.errors import BundleError
from edgebone.core.manifest import Head, listed
from edgebone.core.near import did_you_mean
from edgebone.decode.registry import spec_of
from edgebone.tasks.contract import Task


def heads_of(heads: Mapping[str, Head], *tasks: Task[Any]) -> dict[str, Task[Any]]:
    """Return the task of each head with one of these tasks, by the head's name.

    Raises:
        BundleError: A head needs a decoder that is not installed.
    """
    found = {name: spec_of(name, head).task for name, head in heads.items()}
    return {name: task for name, task in found.items() if task in tasks}


def find_head(
    heads: Mapping[str, Head],
    tasks: Task[Any] | Sequence[Task[Any]],
    name: str | None,
    who: str,
    *,
    advice: str = "",
    how: str = " with --head",
) -> tuple[str, Task[Any]]:
    """Find the requested head and its task.

    Args:
        heads: The bundle's heads, or a selection of them.
        tasks: The accepted tasks.
        name: The requested head; None for the only one of these tasks.
        who: Who needs it, for messages: ``a gallery``.
        advice: What to do if there is none, for messages.
        how: How the user selects one of several, for messages.

    Raises:
        BundleError: No such head, it is of another task, or none is named and the bundle has none or several.
    """
    tasks = (tasks,) if isinstance(tasks, Task) else tuple(tasks)
    found = heads_of(heads, *tasks)
    if name is not None and name not in heads:
        raise BundleError(f"there is no head {name}; {did_you_mean(name, heads)}the bundle has {listed(heads)}")
    wanted = found if name is None else {key: task for key, task in found.items() if key == name}
    if len(wanted) == 1:
        return next(iter(wanted.items()))
    kinds = _either([task.returns for task in tasks])
    if not found:
        more = f"; {advice}" if advice else ""
        raise BundleError(f"{who} needs a head with {kinds}, the bundle has {listed(heads)}{more}")
    if name is None:
        raise BundleError(
            f"{who} needs one head with {kinds}, the bundle has {len(found)} ({listed(heads)}); name one{how}"
        )
    raise BundleError(f"{who} needs a head with {kinds}, which {name} is not (the bundle has {listed(heads)})")


def _either(words: Sequence[str]) -> str:
    """``classes, areas or boxes``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def need_heads(
    heads: Mapping[str, Head], tasks: Sequence[Task[Any]], who: str, bundle: str | os.PathLike[str]
) -> tuple[str, ...]:
    """Return the names of all heads of these tasks; at least one must exist.

    Args:
        heads: The bundle's heads.
        tasks: The tasks.
        who: Who needs them, and what for, for the message: ``tracking follows boxes``.
        bundle: The bundle's path, for the message.

    Raises:
        BundleError: No head has one of the tasks.
    """
    found = tuple(heads_of(heads, *tasks))
    if not found:
        raise BundleError(f"{who}, and {os.fspath(bundle)} has no head that returns any; it has {listed(heads)}")
    return found
