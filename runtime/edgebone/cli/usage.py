"""Makes typer's commands print help in sections, and reject wrong usage with suggestions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from edgebone.cli.meanings import command_meant, option_meant
from edgebone.core.terminal import printable


class Command(TyperCommand):
    """A subcommand that suggests options on wrong usage."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, one section per panel; called by typer."""
        _write_options(self, ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and add suggestions to errors; called by typer."""
        return _parsed(self, ctx, args, super().parse_args)


class Group(TyperGroup):
    """The program, or a subcommand with verbs, which suggests commands on wrong usage."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options and the commands, one section per panel; called by typer."""
        _write_options(self, ctx, formatter)
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            first = " ".join((command.help or "").split("\n\n")[0].split())
            sections.setdefault(command.rich_help_panel or "Commands", []).append((name, first))
        _write(sections, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and add suggestions to errors; called by typer."""
        return _parsed(self, ctx, args, super().parse_args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command; called by typer."""
        # typer's own suggestions only consider spelling.
        self.suggest_commands = False
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            meant = command_meant(args[0], self.list_commands(ctx)) if hasattr(error, "format_message") else ""
            _add(error, meant)
            raise


def _write_options(command: Any, ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {}
    for item in command.get_params(ctx):
        if record := item.get_help_record(ctx):
            title = "Arguments" if item.param_type_name == "argument" else "Options"
            sections.setdefault(getattr(item, "rich_help_panel", None) or title, []).append(record)
    # Options shared by all commands come last.
    _write(dict(sorted(sections.items(), key=lambda section: section[0] == "Options")), formatter)


def _write(sections: dict[str, list[tuple[str, str]]], formatter: Any) -> None:
    for title, rows in sections.items():
        with formatter.section(typer.style(title, bold=True)):
            formatter.write_dl(rows)


def _parsed(command: Any, ctx: Any, args: list[str], parse: Any) -> list[str]:
    given = list(args)
    try:
        found: list[str] = parse(ctx, args)
    except Exception as error:
        # typer has no public name for the two kinds that these attributes distinguish.
        if hasattr(error, "possibilities"):
            error.possibilities = []
            arguments = [item.name for item in command.params if item.param_type_name == "argument"]
            options = {name for item in command.params for name in (*item.opts, *item.secondary_opts)} - {*arguments}
            said = str(getattr(error, "option_name", ""))
            _add(error, option_meant(said, options | set(ctx.help_option_names), arguments))
        elif choice := re.fullmatch(r"(?:Value error, )?'(.*)' is not one of ('.*')\.?", getattr(error, "message", "")):
            word, known = choice[1], re.findall(r"'([^']*)'", choice[2])
            from edgebone.core.near import did_you_mean

            error.message = f"{word!r} is not one of {', '.join(known)}"  # type: ignore[attr-defined]
            _add(error, did_you_mean(word, known).rstrip())
        elif (
            hasattr(error, "param_type")
            and getattr(getattr(error, "param", None), "name", "") == "output"
            and "--output" in given
        ):
            _add(error, "--output is the kind of a classifier's output; the bundle's name goes to -o or --out")
        _add(error, "")
        raise
    _refuse_addresses(command, ctx, given)
    return found


def _refuse_addresses(command: Any, ctx: Any, given: list[str]) -> None:
    """Reject an address where a file is expected: it would be a file in a folder named like the protocol."""
    words = [word.split("=", 1)[1] if word.startswith("--") and "=" in word else word for word in given]
    addresses = {Path(word): word for word in words if re.match(r"[A-Za-z][\w+.-]*://", word)}
    for item in command.params if addresses else ():
        value = ctx.params.get(item.name)
        # Some versions of typer make the path of the word only when they call the command.
        if isinstance(value, str) and item.type.name in ("path", "file", "directory"):
            value = Path(value)
        if isinstance(value, Path) and value in addresses:
            scheme = addresses[value].partition("://")[0]
            # Without the address itself, which may contain a password.
            raise typer.BadParameter(f"this takes a file's path, not a {scheme}:// address", ctx=ctx, param=item)


def _add(error: Any, meant: str) -> None:
    if hasattr(error, "message"):
        joined = f"{error.message.rstrip('.')}{'; ' if error.message else ''}{meant}" if meant else error.message
        error.message = printable(joined)
