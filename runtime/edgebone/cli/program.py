"""Finds the subcommand, and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import functools
import importlib
import importlib.metadata
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
from edgebone.cli.output import note, say
from edgebone.cli.usage import Command, Group
from edgebone.core.errors import EdgeboneError, NoEngineError, OutputError
from edgebone.core.terminal import PrintableFormatter, printable

_COMMANDS = (
    "run",
    "bench",
    "eval",
    "label",
    "compile",
    "tune",
    "inspect",
    "doctor",
    "export-triton",
    "gallery",
    "shelf",
)
_PIPE_CLOSED = 141

# Kept beside the table of docs/reference/cli.md, which is checked against it.
EPILOG = (
    "Exit codes: 0 done, 1 other failure, 2 wrong usage, 3 bundle, 4 source, 5 engine, 6 missing package, "
    "7 cannot write, 8 export, 9 weights, 10 unknown model, 130 interrupted, 143 terminated."
)


def run_program() -> None:
    """Run the subcommand that the program's arguments name."""
    # FFmpeg, inside OpenCV, writes its own remarks about damaged files past Python; ours are enough.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    # Pillow's remarks about odd pictures, likewise: one that cannot be read is an error of ours.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if isinstance(logging.lastResort, logging.Handler):
        # What nobody else shows goes to stderr, with the names of cameras and files in it.
        logging.lastResort.setFormatter(PrintableFormatter())
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name or a label that the terminal's encoding does not have is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    _program()()


def _program() -> typer.Typer:
    app = typer.Typer(
        name="edgebone",
        help="Pre-trained vision backbones on the edge: export, prove, and serve camera frames in real time.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        cls=Group,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    word = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    for name, home in _homes(word).items():
        found = _find(home)
        if isinstance(found, typer.Typer):
            app.add_typer(_all_guarded(found), name=name, cls=Group)
        else:
            app.command(name, cls=Command)(guarded(found))
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"edgebone {edgebone.__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of the program itself."""


def _homes(word: str) -> dict[str, str]:
    """The subcommands to load, as ``module:function``: the one asked for, or all of them for the help."""
    homes = {name: f"edgebone.cli.{(own := name.replace('-', '_'))}:{own}_command" for name in _COMMANDS}
    if word in homes:
        return {word: homes[word]}
    plugged = importlib.metadata.entry_points(group="edgebone.commands")
    homes.update({entry.name: entry.value for entry in sorted(plugged, key=lambda entry: entry.name)})
    return {word: homes[word]} if word in homes else homes


def _find(home: str) -> Callable[..., Any] | typer.Typer:
    module, _, name = home.partition(":")
    found: Callable[..., Any] | typer.Typer = getattr(importlib.import_module(module), name)
    return found


def _all_guarded(verbs: typer.Typer) -> typer.Typer:
    """A subcommand with verbs of its own, each of them guarded."""
    for verb in verbs.registered_commands:
        verb.cls = Command
        if verb.callback is not None:
            verb.callback = guarded(verb.callback)
    return verbs


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a subcommand so that what it raises becomes one line on stderr and an exit code."""

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
            # Whoever read our output has stopped: nothing more can be said there, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_PIPE_CLOSED) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Where the standard output is a file: what is still in its buffer cannot be written either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            note(f"edgebone: the output cannot be written: {os.strerror(error.errno).lower()}")
            raise typer.Exit(OutputError.exit_code) from error
        except ImportError as error:
            if signals.heard() or (error.name not in ("cv2", "numpy") and "libGL" not in str(error)):
                raise
            # The usual ones on slim systems: OpenCV without libGL, NumPy built for another machine.
            note(
                f"edgebone: {error}; on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0, "
                "or pip uninstall opencv-python && pip install opencv-python-headless"
            )
            raise typer.Exit(6) from error

    return wrapper
