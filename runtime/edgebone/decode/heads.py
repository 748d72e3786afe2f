"""Finds the heads of a kind among a bundle's."""

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
    """The task of each head that has one of these, by the head's name.

    Raises:
        BundleError: A head needs a decoder that is not there.
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
    """Find the head that is meant, and its task.

    Args:
        heads: The bundle's, or those of them that are considered.
        tasks: What it may be.
        name: The one that the user wants; None takes the only one of these tasks.
        who: Who needs it, for messages: ``a gallery``.
        advice: What to do where there is none, for messages.
        how: How the user names one of several, for messages.

    Raises:
        BundleError: There is no such head, it is of another task, or there are none or several where none is named.
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


def need_heads(heads: Mapping[str, Head], task: Task[Any], who: str, bundle: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of all heads of a task, of which there must be one.

    Args:
        heads: The bundle's.
        task: What they are.
        who: Who needs them, and what for, for the message: ``tracking follows``.
        bundle: Where the bundle lies, for the message.

    Raises:
        BundleError: There is none.
    """
    found = tuple(heads_of(heads, task))
    if not found:
        raise BundleError(
            f"{who} {task.returns}, and {os.fspath(bundle)} has no head that gives any; it has {listed(heads)}"
        )
    return found
