"""The program itself, as a user starts it, and packages beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("edgebone")


def edgebone(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run the real program and collect what it says."""
    environment = {**os.environ, "PYTHONWARNINGS": "default", **settings.pop("env", {})}
    return subprocess.run(
        [str(PROGRAM), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env=environment, **settings,
    )  # fmt: skip


def install(package: Path, target: Path) -> dict[str, str]:
    """Install a package from its folder into a folder of its own; the environment that finds it there."""
    # A build leaves files beside the sources.
    sources = target.with_name(f"{target.name}-sources")
    shutil.copytree(package, sources, ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(sources)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return {"PYTHONPATH": str(target)}


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
