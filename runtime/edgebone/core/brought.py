"""Loads objects of other packages by entry points, which are searched only for names that edgebone lacks."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable
from contextlib import AbstractContextManager
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
    """Return the names that packages provide in a group, such as ``edgebone.engines``, sorted; imports none of them."""
    return sorted(_entries(group))


def who_brings(group: str, name: str) -> str:
    """Return ``the package mine`` that provides a name, for messages; all packages if several do."""
    found = [_package(entry) for entry in _entries(group)[name]]
    return f"the package{'' if len(found) == 1 else 's'} {' and '.join(found)}"


def advice(group: str, name: str) -> str:
    """Return advice about an unusable name, for messages."""
    removals = [f"pip uninstall {entry.dist.name}" for entry in _entries(group)[name] if entry.dist]
    first = "update the package, or" if len(removals) < 2 else "keep one of them"
    return f"{first}: {' or '.join(removals)}"


def load_brought(group: str, name: str, kind: type | None = None) -> Any:
    """Import the object that a package provides; None if no package provides the name.

    Args:
        group: The group of entry points.
        name: The name in it.
        kind: Its required type, with the name in its ``name``; None for a function.

    Raises:
        Exception: Any exception of the import; ``TypeError`` if it is something else, or several packages provide it.
    """
    entries = _entries(group).get(name, [])
    if not entries:
        return None
    if len(entries) > 1:
        raise TypeError("each of them provides it")
    found = entries[0].load()
    if kind is None and not callable(found):
        raise TypeError(f"{entries[0].value} is {found!r:.80}, not a function")
    article = "an" if kind is not None and kind.__name__[0] in "AEIOU" else "a"
    if kind is not None and not (isinstance(found, kind) and getattr(found, "name", None) == name):
        raise TypeError(f"{entries[0].value} is {found!r:.80}, not {article} {kind.__name__} named {name}")
    return found


def loading(group: str, name: str, about: str, error: type[EdgeboneError]) -> AbstractContextManager[None]:
    """Return a guard for the import of what a package provides: exceptions become one line that says how to go on.

    Args:
        group: The group of entry points.
        name: The name in it.
        about: What it is, and whose, for messages: ``source mine:// of the package mine``.
        error: The type of error to raise.
    """
    return foreign(lambda reason: error(f"{about} cannot be loaded: {reason}; {advice(group, name)}"))


def guarded(function: Callable[..., Any], refusal: Refusal) -> Callable[..., Any]:
    """Wrap a package's function: its exceptions become the error that ``refusal`` makes."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        with foreign(refusal):
            return function(*arguments, **options)

    return call


class Brought:
    """An object of another package: exceptions of its methods become one line that names the package.

    Args:
        inner: The object.
        refusal: Makes the error from that line.
    """

    def __init__(self, inner: Any, refusal: Refusal) -> None:
        self._inner = inner
        self._refusal = refusal

    def __getattr__(self, name: str) -> Any:
        """Return the object's attribute; methods are guarded."""
        found = getattr(self._inner, name)
        return guarded(found, self._refusal) if callable(found) else found


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
    """Call a package's function, and guard the object that it makes.

    Args:
        group: The group of entry points.
        name: The name in it, which a package provides.
        about: What it is, for messages: ``source mine://``.
        error: The type of error to raise.
        members: The object's required attributes.
        *arguments: For the function.
        own: Classes of edgebone; their objects are returned unguarded.
        **options: The same.

    Raises:
        EdgeboneError: Of type ``error``: it cannot be imported, fails, or makes something else.
    """
    what = f"{about} of {who_brings(group, name)}"
    with loading(group, name, what, error):
        make = load_brought(group, name)

    def refusal(reason: str) -> EdgeboneError:
        return error(f"{what} fails: {reason}")

    with foreign(refusal):
        made = make(*arguments, **options)
        lacks = [member for member in members if not hasattr(made, member)]
        if lacks:
            raise TypeError(f"it made {made!r:.80}, which has no {', '.join(lacks)}")
    return made if isinstance(made, own) else Brought(made, refusal)
