"""The options of ``edgebone fit`` that a kind of heads has of its own, from the table of kinds."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from edgebone.cli import options
from edgebone.core.near import did_you_mean
from edgebone_export.heads.kinds import find_kind, kinds, names_of, own_options


def own_parameters() -> list[inspect.Parameter]:
    """The options as typer reads them, with a panel in the help for those that the same kinds have."""
    made: dict[str, inspect.Parameter] = {}
    for kind in kinds():
        for name, (own_type, option) in own_options(kind).items():
            # What has several parts is typed as one word.
            typed: Any = own_type if own_type in (str, int, float, Path) else str
            annotation: Any = Annotated[
                typed | None,
                typer.Option(
                    _typed(name),
                    help=option.help,
                    min=option.least,
                    callback=options.share if option.is_share else None,
                    rich_help_panel=f"Options of --kind {', '.join(_who_has(name))}",
                ),
            ]
            made.setdefault(
                name, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            )
    return list(made.values())


def own_settings(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was said to this kind of heads, by the names of its settings.

    Args:
        kind: The kind's name.
        given: Every option of :func:`own_parameters`, by name; None where it was not said.

    Raises:
        typer.BadParameter: There is no such kind, or an option is not among those that it has.
    """
    check_kind(kind, names_of())
    own = own_options(find_kind(kind))
    said = {name: value for name, value in given.items() if value is not None}
    for name in said:
        if name not in own:
            raise typer.BadParameter(
                f"{_typed(name)} is for --kind {', '.join(_who_has(name))}; it says nothing to {kind}, which has "
                f"{', '.join(map(_typed, own)) or 'no options of its own'}"
            )
    return {name: _parsed(name, value, own[name][0]) for name, value in said.items()}


def check_kind(kind: str, known: Sequence[str]) -> None:
    """Refuse what is no kind of heads.

    Raises:
        typer.BadParameter: Names those near it, and all.
    """
    if kind not in known:
        raise typer.BadParameter(
            f"there is no kind {kind!r}; {did_you_mean(kind, known)}choose {', '.join(known)}", param_hint="--kind"
        )


def _who_has(name: str) -> list[str]:
    return [kind.name for kind in kinds() if name in own_options(kind)]


def _typed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _parsed(name: str, value: Any, own_type: Any) -> Any:
    """What was typed as one word, in its parts."""
    if own_type == tuple[str, ...]:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if own_type == tuple[float, float]:
        try:
            low, high = map(float, value.split(","))
        except ValueError:
            raise typer.BadParameter(f"{_typed(name)} is LOW,HIGH, such as 0.3,0.6, not {value!r}") from None
        return low, high
    return value
