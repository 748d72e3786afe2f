"""Runs one of our modules in a process of its own: its memory and thread pools meet nobody else's."""

from __future__ import annotations

import subprocess
import sys


def run_apart(module: str, *arguments: str) -> tuple[bytes, str]:
    """Run a module and wait.

    Args:
        module: Its name, as after ``python -m``.
        arguments: Its arguments.

    Returns:
        What it printed, and why it failed: the last line on its stderr, empty where it did not fail.
    """
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, check=False)
    if not done.returncode:
        return done.stdout, ""
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
    return done.stdout, lines[-1]
