"""Signals reach a program wherever they find it, and leave no lock behind."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time

# A byte a round on stdout asks for the next signal; what stays locked is counted after each.
_IMPORTING = """
import _imp, importlib._bootstrap as bootstrap, os, sys, threading
from edgebone.cli import signals

signals.listen()
locked = 0
for _ in range(int(sys.argv[1])):
    try:
        os.write(1, b".")
        while True:
            try:
                import no_such_module
            except ImportError:
                pass
    except signals.Terminated:
        pass
    signals._heard.clear()
    while _imp.lock_held():
        _imp.release_lock()
        locked += 1
    for lock in [found for found in (seen() for seen in bootstrap._module_locks.values()) if found]:
        locked += lock.owner == threading.get_ident()
sys.stderr.write(str(locked))
"""

_FINALIZING = """
import os, time
from edgebone.cli import signals

class Closed:
    def __del__(self):
        os.write(1, b".")
        while not signals._heard:
            time.sleep(0.001)
        time.sleep(0.001)

signals.listen()
try:
    closed = Closed()
    del closed
    time.sleep(60)
except signals.Terminated:
    os._exit(143)
"""


def _asked(child: subprocess.Popen[bytes]) -> bool:
    """Whether the child asks for the next signal; one that the last did not reach never does."""
    assert child.stdout is not None
    readable, _, _ = select.select([child.stdout], [], [], 30)
    if not readable:
        child.kill()
    return os.read(child.stdout.fileno(), 1) == b"."


def test_a_signal_amid_imports_is_raised_and_leaves_no_import_locked() -> None:
    rounds = 2000
    child = subprocess.Popen(
        [sys.executable, "-c", _IMPORTING, str(rounds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    where = random.Random(0)
    for _ in range(rounds):
        assert _asked(child)
        moment = time.perf_counter() + where.random() * 2e-4
        while time.perf_counter() < moment:
            pass
        child.send_signal(signal.SIGTERM)
    _, stderr = child.communicate(timeout=60)
    assert stderr == b"0"
    assert child.returncode == 0


def test_a_signal_within_a_finalizer_is_raised_after_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", _FINALIZING], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert _asked(child)
    child.send_signal(signal.SIGTERM)
    _, stderr = child.communicate(timeout=30)
    assert child.returncode == 143
    assert stderr == b""
