"""Runs Python modules in a process of their own: its memory and thread pools meet nobody else's."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import sys

# The working directory is what Python puts first, as ""; what PYTHONPATH and a user's own packages add stays.
_START = "import sys; sys.path[:] = filter(None, sys.path); from edgebone.core.own_process import begin; begin()"
_PR_SET_PDEATHSIG = 1


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module, as ``python -m`` does, with two differences.

    Nothing is imported from the working directory, which is often the folder of the bundles: who may write there may
    not run code (CWE-427). That is Python's own ``-P``, which 3.10 does not have. And on Linux the process gets SIGTERM
    when the thread that started it ends, even by SIGKILL.

    Args:
        module: Its name.
        arguments: Its arguments.
    """
    return [sys.executable, "-c", _START, str(os.getpid()), module, *arguments]


def begin() -> None:
    """What a process started by :func:`python_command` does first."""
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
        # It ended before it was watched.
        os.kill(os.getpid(), signal.SIGTERM)


def find_program(name: str) -> str | None:
    """Where a program is on the PATH; None where it is not.

    Folders that are named by where one stands, as an empty entry of the PATH is, are passed by (CWE-427).
    """
    return shutil.which(name, path=os.pathsep.join(filter(os.path.isabs, os.get_exec_path())))


def run_in_own_process(module: str, *arguments: str) -> tuple[bytes, str]:
    """Run a module and wait.

    Args:
        module: Its name, as after ``python -m``.
        arguments: Its arguments.

    Returns:
        What it printed, and why it failed: the last line on its stderr, empty where it did not fail.
    """
    done = subprocess.run(python_command(module, *arguments), capture_output=True, check=False)
    if not done.returncode:
        return done.stdout, ""
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
    return done.stdout, lines[-1]
