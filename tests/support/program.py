"""The program itself, as a user starts it, and packages beside it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

PROGRAM = Path(sys.executable).with_name("edgebone")


def edgebone(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run the real program and collect what it says."""
    environment = {**os.environ, "PYTHONWARNINGS": "default", **settings.pop("env", {})}
    return subprocess.run(
        [str(PROGRAM), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env=environment, **settings,
    )  # fmt: skip


def run_on_a_terminal(*arguments: object) -> str:
    """What a person would see."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([str(PROGRAM), *map(str, arguments)], stdout=follower, stderr=follower, close_fds=True)
    os.close(follower)
    seen = b""
    with contextlib.suppress(OSError):
        while piece := os.read(leader, 4096):
            seen += piece
    os.close(leader)
    process.wait()
    return seen.decode()


def install(target: Path, *packages: Path) -> dict[str, str]:
    """Install packages from their folders into a folder of its own; the environment that finds them there."""
    # A build leaves files beside the sources.
    sources = target.with_name(f"{target.name}-sources")
    for package in packages:
        shutil.copytree(package, sources / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    folders = [str(sources / package.name) for package in packages]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), *folders]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return {"PYTHONPATH": str(target)}


def write_package(target: Path, name: str, entries: Mapping[str, Mapping[str, str]], **modules: str) -> dict[str, str]:
    """A package as pip leaves it, with entry points by group, and modules; the environment that finds it."""
    folder = target / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        line
        for group, own in entries.items()
        for line in (f"[edgebone.{group}]", *(f"{entry} = {place}" for entry, place in own.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))
    for module, text in modules.items():
        (target / f"{module}.py").write_text(text)
    return {"PYTHONPATH": str(target)}


def page_commands(page: Path, places: Mapping[str, object] = MappingProxyType({})) -> list[list[str]]:
    """The commands that a page of docs/extending shows behind the one that installs its package.

    ``places`` says what stands for a word of the page.
    """
    (block,) = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    install_line, *commands = (shlex.split(line, comments=True) for line in block.splitlines())
    assert install_line == ["pip", "install", f"./docs/extending/{page.stem}"]
    assert all(program == "edgebone" for program, *_ in commands)
    return [[str(places.get(word, word)) for word in words] for _, *words in commands]


def start(*arguments: object, **settings: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgebone", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
        **settings,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out, err


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def hear_ctrl_c() -> None:
    # What a shell starts in the background, such as a test run, passes on to its children that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
