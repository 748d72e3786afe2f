"""What other packages bring, by entry points; none is looked for before a name is asked for that edgebone lacks."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable
from typing import Any

from edgebone.core.errors import EdgeboneError
from edgebone.core.foreign import foreign

Refusal = Callable[[str], EdgeboneError]


@functools.cache
def _entries(group: str) -> dict[str, list[importlib.metadata.EntryPoint]]:
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for entry in sorted(importlib.metadata.entry_points(group=group), key=_package):
        found.setdefault(entry.name, []).append(entry)
    return found


def _package(entry: importlib.metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value


def names_brought(group: str) -> list[str]:
    """The names that packages bring in a group, such as ``edgebone.engines``, in order; imports none of them."""
    return sorted(_entries(group))


def who_brings(group: str, name: str) -> str:
    """``the package mine`` that brings a name, for messages; all of them where there are several."""
    found = [_package(entry) for entry in _entries(group)[name]]
    return f"the package{'' if len(found) == 1 else 's'} {' and '.join(found)}"


def advice(group: str, name: str) -> str:
    """What to do about a name that cannot be used, for messages."""
    removals = [f"pip uninstall {entry.dist.name}" for entry in _entries(group)[name] if entry.dist]
    first = "update the package, or" if len(removals) < 2 else "keep one of them"
    return f"{first}: {' or '.join(removals)}"


def load_brought(group: str, name: str, kind: type | None = None) -> Any:
    """Import what a package brings; None where none brings the name.

    Args:
        group: The group of entry points.
        name: The name in it.
        kind: What it has to be an instance of, with the name in its ``name``; None for a function.

    Raises:
        Exception: Whatever its import raises; or ``TypeError``: it is something else, or several packages bring it.
    """
    entries = _entries(group).get(name, [])
    if not entries:
        return None
    if len(entries) > 1:
        raise TypeError("each of them brings it")
    found = entries[0].load()
    if kind is None and not callable(found):
        raise TypeError(f"{entries[0].value} is {found!r:.80}, not a function")
    article = "an" if kind is not None and kind.__name__[0] in "AEIOU" else "a"
    if kind is not None and not (isinstance(found, kind) and getattr(found, "name", None) == name):
        raise TypeError(f"{entries[0].value} is {found!r:.80}, not {article} {kind.__name__} named {name}")
    return found


class Brought:
    """An object of another package: whatever its methods raise becomes one line that names the package.

    Args:
        inner: The object.
        refusal: Makes the error of that line.
    """

    def __init__(self, inner: Any, refusal: Refusal) -> None:
        self._inner = inner
        self._refusal = refusal

    def __getattr__(self, name: str) -> Any:
        """The object's own; methods are guarded."""
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        def call(*arguments: Any, **options: Any) -> Any:
            with foreign(self._refusal):
                return found(*arguments, **options)

        return call


def make_brought(
    group: str,
    name: str,
    about: str,
    error: type[EdgeboneError],
    members: tuple[str, ...],
    *arguments: Any,
    own: type | tuple[type, ...] = (),
    **options: Any,
) -> Any:
    """Call the function that a package brings, and guard what it makes.

    Args:
        group: The group of entry points.
        name: The name in it, which a package brings.
        about: What it is, for messages: ``source mine://``.
        error: What is raised in the package's place.
        members: What the object has to have.
        *arguments: For the function.
        own: Classes of edgebone's; an object of one of them passes as it is.
        **options: The same.

    Raises:
        EdgeboneError: Of the type ``error``: it cannot be imported, it fails, or it makes something else.
    """
    what = f"{about} of {who_brings(group, name)}"
    with foreign(lambda reason: error(f"{what} cannot be loaded: {reason}; {advice(group, name)}")):
        make = load_brought(group, name)

    def refusal(reason: str) -> EdgeboneError:
        return error(f"{what} fails: {reason}")

    with foreign(refusal):
        made = make(*arguments, **options)
        lacks = [member for member in members if not hasattr(made, member)]
        if lacks:
            raise TypeError(f"it made {made!r:.80}, which has no {', '.join(lacks)}")
    return made if isinstance(made, own) else Brought(made, refusal)
