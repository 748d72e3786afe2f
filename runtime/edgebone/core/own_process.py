"""Runs Python modules in separate processes, with their own memory and thread pools."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import sys

# Removes the working directory, which Python puts first as ""; PYTHONPATH and the user's packages stay.
_START = "import sys; sys.path[:] = filter(None, sys.path); from edgebone.core.own_process import begin; begin()"
_PR_SET_PDEATHSIG = 1


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module, as ``python -m`` does, with two differences.

    Nothing is imported from the working directory, which often holds bundles: write access there must not allow running
    code (CWE-427). This is Python's ``-P``, which 3.10 lacks. On Linux the process also gets SIGTERM when the thread
    that started it ends, even by SIGKILL.

    Args:
        module: Its name.
        arguments: Its arguments.
    """
    return [sys.executable, "-c", _START, str(os.getpid()), module, *arguments]


def begin() -> None:
    """Entry point of a process started by :func:`python_command`."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    del sys.argv[1:3]
    _end_with(parent)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with(parent: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        # The parent ended before this process could watch it.
        os.kill(os.getpid(), signal.SIGTERM)


def find_program(name: str) -> str | None:
    """Return a program's path from PATH; None if it is not found.

    Relative entries of PATH, an empty one included, are skipped (CWE-427).
    """
    return shutil.which(name, path=os.pathsep.join(filter(os.path.isabs, os.get_exec_path())))


def run_in_own_process(module: str, *arguments: str) -> tuple[bytes, str]:
    """Run a module in its own process and wait.

    Args:
        module: Its name, as after ``python -m``.
        arguments: Its arguments.

    Returns:
        Its stdout, and the reason of a failure: the last line of its stderr, empty on success.
    """
    done = subprocess.run(python_command(module, *arguments), capture_output=True, check=False)
    if not done.returncode:
        return done.stdout, ""
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
    return done.stdout, lines[-1]
