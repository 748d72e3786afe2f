"""Signals reach a program wherever they find it, and leave no lock behind."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time

import pytest

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
    except signals.Stopped:
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
except signals.Stopped:
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


_COMMAND = """
import importlib, os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor, thread
import cv2, numpy as np, typer

def wait_in_native_code():
    picture = np.zeros((200, 200, 3), np.uint8)
    def blur():
        while True:
            cv2.GaussianBlur(picture, (31, 31), 5)
    for _ in range(4):
        threading.Thread(target=blur, daemon=True).start()
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

def cut_off_from_an_executor():
    kept.append(ThreadPoolExecutor(1))
    kept[0].submit(print)
    thread._threads_queues.clear()
    os.kill(os.getpid(), signal.SIGTERM)

def stop_in_a_class_body():
    class Stops:
        def __set_name__(self, owner, name):
            os.kill(os.getpid(), signal.SIGTERM)
    class Owner:
        stops = Stops()

def leave_a_generator():
    def numbers():
        try:
            yield 1
        finally:
            sys.stderr.write("closed\\n")
    for number in numbers():
        os.kill(os.getpid(), signal.SIGTERM)

kept = []
command = globals()[sys.argv.pop()]
program = typer.Typer(pretty_exceptions_enable=False)
home = importlib.import_module("edgebone.cli.program")
program.command()(home.guarded(command))
home._program = lambda: program
importlib.import_module("edgebone.cli.main").main()
"""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("wait_in_native_code", b""),
        ("cut_off_from_an_executor", b""),
        ("stop_in_a_class_body", b""),
        ("leave_a_generator", b"closed\n"),
    ],
)
def test_a_signal_ends_a_command_whatever_its_threads_and_classes_do(command: str, said: bytes) -> None:
    done = subprocess.run([sys.executable, "-c", _COMMAND, command], capture_output=True, timeout=30, check=False)
    assert done.stderr == said + b"edgebone: terminated\n"
    assert done.returncode == 143
