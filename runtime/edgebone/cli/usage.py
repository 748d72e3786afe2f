"""Wrong usage is answered with what was most likely meant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from edgebone.cli.meanings import command_meant, option_meant


class Command(TyperCommand):
    """A subcommand whose refusals name the option that was meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and add to what is refused; called by typer."""
        return _parsed(self, ctx, args, super().parse_args)


class Group(TyperGroup):
    """The program, or a subcommand with verbs, whose refusals name the command that was meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and add to what is refused; called by typer."""
        return _parsed(self, ctx, args, super().parse_args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command; called by typer."""
        # typer's own suggestions are by spelling alone.
        self.suggest_commands = False
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            meant = command_meant(args[0], self.commands) if hasattr(error, "format_message") else ""
            _add(error, meant)
            raise


def _parsed(command: Any, ctx: Any, args: list[str], parse: Any) -> list[str]:
    given = list(args)
    try:
        found: list[str] = parse(ctx, args)
    except Exception as error:
        # typer has no public name for the two that these attributes tell.
        if hasattr(error, "possibilities"):
            error.possibilities = []
            arguments = [item.name for item in command.params if item.param_type_name == "argument"]
            options = {name for item in command.params for name in (*item.opts, *item.secondary_opts)} - {*arguments}
            said = str(getattr(error, "option_name", ""))
            _add(error, option_meant(said, options | set(ctx.help_option_names), arguments))
        elif (
            hasattr(error, "param_type")
            and getattr(getattr(error, "param", None), "name", "") == "output"
            and "--output" in given
        ):
            _add(error, "--output says what a classifier gives; the bundle's name goes to -o or --out")
        raise
    _refuse_addresses(command, ctx, given)
    return found


def _refuse_addresses(command: Any, ctx: Any, given: list[str]) -> None:
    """Refuse an address where a file is taken: it would be one in a folder of the protocol's name."""
    words = [word.split("=", 1)[1] if word.startswith("--") and "=" in word else word for word in given]
    addresses = {Path(word): word for word in words if re.match(r"[A-Za-z][\w+.-]*://", word)}
    for item in command.params if addresses else ():
        value = ctx.params.get(item.name)
        if isinstance(value, Path) and value in addresses:
            scheme = addresses[value].partition("://")[0]
            # Not the address itself: it may have a password in it.
            raise typer.BadParameter(f"this takes a file's path, not a {scheme}:// address", ctx=ctx, param=item)


def _add(error: Any, meant: str) -> None:
    if meant:
        error.message = f"{error.message.rstrip('.')}{'; ' if error.message else ''}{meant}"
