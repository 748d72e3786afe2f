"""The program's help comes from a table of commands, and imports none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from edgebone.cli.commands import PANELS
from edgebone.cli.program import load_command
from support.program import PROGRAM, edgebone, write_package

IMPORTED = """
import sys
from edgebone.cli import main
try:
    main()
except SystemExit as done:
    print("IMPORTED", *sys.modules)
    raise
"""
HEAVY = ("pydantic", "numpy", "cv2", "msgspec", "PIL", "rich", "torch", "onnxruntime", "openvino", "edgebone_export")


def imported(*arguments: str, **environment: str) -> tuple[str, set[str]]:
    """What the program prints, and the modules that it has imported then."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    said, _, modules = done.stdout.partition("IMPORTED")
    return said, set(modules.split())


def test_the_help_is_in_panels_in_the_order_of_a_days_work() -> None:
    done = edgebone("--help", env={"COLUMNS": "200"})
    assert done.returncode == 0
    places = [done.stdout.index(f"\n{panel}:\n") for panel in ("Prepare", "Run", "Measure", "Teach", "Ship")]
    assert places == sorted(places)
    rows = [row for rows in PANELS.values() for row in rows]
    # Lines are broken behind hyphens, too.
    text = "".join(done.stdout.split())
    places = [text.index("".join(f"{row.name}{row.help}".split())) for row in rows]
    assert places == sorted(places)


@pytest.mark.parametrize("row", [row for rows in PANELS.values() for row in rows], ids=lambda row: row.name)
def test_a_row_says_what_the_command_says_itself(row: object) -> None:
    command = load_command(row.name)  # type: ignore[attr-defined]
    assert " ".join(command.help.split("\n\n")[0].split()) == row.help  # type: ignore[attr-defined]


def test_the_help_imports_no_command_and_nothing_heavy() -> None:
    said, modules = imported("--help")
    assert "Prepare:" in said
    assert sorted(modules & {*HEAVY, "edgebone.engines.table"}) == []
    assert not {name for name in modules if name.startswith("edgebone.cli.")} - {
        f"edgebone.cli.{name}" for name in ("main", "program", "commands", "meanings", "output", "signals", "usage")
    }


@pytest.mark.parametrize("command", ["run", "gallery", "fit"])
def test_the_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    said, modules = imported(command, "--help")
    assert "Usage:" in said
    # From 0.29 on typer imports pydantic for whatever has an argument or an option of its own.
    known = {"edgebone_export"} if typer.__version__ < "0.29" else {"edgebone_export", "pydantic"}
    assert sorted(modules & {*HEAVY} - known) == []
    # typer reads annotations, and nothing of what the command works with.
    assert not {"edgebone.model.model", "edgebone_export.heads.fit.fit"} & modules


def test_commands_of_other_packages_are_listed_and_run(tmp_path: Path) -> None:
    commands = {"greet": "greeter:greet", "broken": "greeter:none", "run": "greeter:greet"}
    module = 'def greet(name: str = "you"):\n    """Greet."""\n    print("hello", name)\n'
    environment = write_package(tmp_path, "greeter", {"commands": commands}, greeter=module)
    shown = edgebone("--help", env=environment).stdout
    assert "Other packages:\n  broken  From the package greeter.\n  greet   From the package greeter.\n" in shown
    assert edgebone("greet", "--name", "them", env=environment).stdout == "hello them\n"
    broken = edgebone("broken", env=environment)
    assert broken.returncode == 1
    assert broken.stderr.startswith("edgebone: command broken of the package greeter cannot be loaded: ")
    assert broken.stderr.count("\n") == 1
    # A name of edgebone's own stays its own.
    assert "Run a bundle on pictures" in edgebone("run", "--help", env=environment).stdout


if not PROGRAM.exists():
    pytestmark = pytest.mark.skip(reason="the program is not installed beside this Python")
