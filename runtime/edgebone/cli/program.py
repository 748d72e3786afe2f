"""The program: finds the subcommand, and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import functools
import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import typer

import edgebone
from edgebone.cli import signals
from edgebone.cli.commands import GROUP, PANELS
from edgebone.cli.output import note, say
from edgebone.cli.usage import Command, Group
from edgebone.core.errors import EdgeboneError, NoEngineError, OutputError, raise_interrupt
from edgebone.core.terminal import PrintableFormatter, printable

_ROWS = {row.name: (panel, row) for panel, rows in PANELS.items() for row in rows}
# Without rich, whose import takes as long as the rest of the help.
_TYPER: dict[str, Any] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"max_content_width": 120},
}
_PIPE_CLOSED = 141

# Must match the table of docs/reference/cli.md, which is tested against it.
EPILOG = (
    "Exit codes: 0 done, 1 other failure, 2 wrong usage, 3 bundle, 4 source, 5 engine, 6 missing package, "
    "7 cannot write, 8 export, 9 weights, 10 unknown model, 130 interrupted, 143 terminated."
)


def run_program() -> None:
    """Run the subcommand named by the program's arguments."""
    # FFmpeg within OpenCV writes its own remarks about damaged files directly to stderr; ours suffice.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    # Pillow's warnings about odd pictures likewise: an unreadable one is our own error.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if isinstance(logging.lastResort, logging.Handler):
        # Log records go to stderr, with the names of cameras and files.
        logging.lastResort.setFormatter(PrintableFormatter())
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name or label outside the terminal's encoding must not stop the program.
        sys.stdout.reconfigure(errors="backslashreplace")
    _program()()


def _program() -> typer.Typer:
    app = typer.Typer(
        name="edgebone",
        help="Pre-trained vision backbones on the edge: export, prove, and serve camera frames in real time.",
        epilog=EPILOG,
        no_args_is_help=True,
        cls=Program,
        **_TYPER,
    )
    app.callback()(_root)
    return app


class Program(Group):
    """The group of all commands, each imported when it or its help is requested."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return every command in workflow order, then those of other packages; called by typer."""
        from edgebone.core.brought import names_brought

        return [*_ROWS, *(name for name in names_brought(GROUP) if name not in _ROWS)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command with its name and first line of help; called by typer."""
        if cmd_name in _ROWS:
            panel, row = _ROWS[cmd_name]
            return Command(cmd_name, help=row.help, rich_help_panel=panel)
        from edgebone.core.brought import names_brought, who_brings

        if cmd_name not in names_brought(GROUP):
            return None
        return Command(cmd_name, help=f"From {who_brings(GROUP, cmd_name)}.", rich_help_panel="Other packages")

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find and import the command; called by typer."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, found and load_command(found.name), rest


def load_command(name: str) -> Any:
    """Import a command.

    Args:
        name: A name from the table or from another package.

    Returns:
        A ``Command``, or a ``Group`` of verbs.
    """
    if name in _ROWS:
        module, _, attribute = _ROWS[name][1].home.partition(":")
        found = getattr(importlib.import_module(module), attribute)
    else:
        found = _load_brought(name)
    app = typer.Typer(add_completion=False, **_TYPER)
    if isinstance(found, typer.Typer):
        app.add_typer(_all_guarded(found), name=name, cls=Group)
        # A single group is not unwrapped like a command.
        return typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    app.command(name, cls=Command)(guarded(found))
    return typer.main.get_command(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"edgebone {edgebone.__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of the program itself."""


def _load_brought(name: str) -> Any:
    from edgebone.core.brought import advice, load_brought, who_brings

    try:
        return load_brought(GROUP, name)
    except Exception as error:
        raise_interrupt(error)
        reason = f"{type(error).__name__}: {error}"
        note(f"edgebone: command {name} of {who_brings(GROUP, name)} cannot be loaded: {reason}; {advice(GROUP, name)}")
        raise typer.Exit(1) from error


def _all_guarded(verbs: typer.Typer) -> typer.Typer:
    """Return a subcommand with verbs, each of them guarded."""
    for verb in verbs.registered_commands:
        verb.cls = Command
        if verb.callback is not None:
            verb.callback = guarded(verb.callback)
    return verbs


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a subcommand so that its exceptions become one line on stderr and an exit code."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except NoEngineError as error:
            note(f"edgebone: {error.problem}")
            for reason in error.reasons:
                note(f"  {reason}")
            raise typer.Exit(error.exit_code) from error
        except EdgeboneError as error:
            note(f"edgebone: {error}")
            raise typer.Exit(error.exit_code) from error
        except typer.BadParameter as error:
            error.message = printable(error.message)
            raise
        except BrokenPipeError as error:
            # The reader of our output has stopped: nothing more can be written, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_PIPE_CLOSED) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # If stdout is a file, its remaining buffer cannot be written either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            note(f"edgebone: the output cannot be written: {os.strerror(error.errno).lower()}")
            raise typer.Exit(OutputError.exit_code) from error
        except ImportError as error:
            if signals.heard() or (error.name not in ("cv2", "numpy") and "libGL" not in str(error)):
                raise
            # Common on minimal systems: OpenCV without libGL, NumPy built for another machine.
            note(
                f"edgebone: {error}; on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0, "
                "or pip uninstall opencv-python && pip install opencv-python-headless"
            )
            raise typer.Exit(6) from error

    return wrapper
