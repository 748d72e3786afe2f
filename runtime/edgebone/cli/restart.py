"""``edgebone run --restart``: restarts a run when it fails."""

from __future__ import annotations

import signal
import subprocess
import time
from types import FrameType

from edgebone.cli.output import note
from edgebone.cli.signals import INTERRUPTED, TERMINATED, hangups_held_back
from edgebone.core.own_process import python_command

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
_LASTED_S = 10.0
_QUICK_FAILURES = 5
# Done, wrong usage, interrupted, terminated: a restart would not help, or the end was requested.
_FINAL = (0, 2, INTERRUPTED, TERMINATED)


def supervise(arguments: list[str]) -> int:
    """Run edgebone in a child process, and restart it whenever it fails.

    Signals are passed on, and when this process ends, even by SIGKILL, the run ends. A run that lasted at least 10 s is
    restarted after 1 s; one that fails sooner after 2, 4, … 30 s, and after five such failures in a row the supervisor
    gives up.

    Args:
        arguments: The program's arguments, without ``--restart``.

    Returns:
        The exit code of the last run; a run ended by a signal counts as 128 plus the signal's number.
    """
    quick = 0
    more: list[str] = []
    while True:
        began_s = time.monotonic()
        code = _run_once([*arguments, *more])
        if code in _FINAL:
            return code
        quick = 0 if time.monotonic() - began_s >= _LASTED_S else quick + 1
        if quick == _QUICK_FAILURES:
            note(f"edgebone: failed {quick} times in a row within {_LASTED_S:g} s each; giving up")
            return code
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**quick)
        note(f"edgebone: the run ended with code {code}; restarting in {wait_s:g} s")
        # The output of earlier runs is kept.
        more = ["--append"]
        time.sleep(wait_s)


def _run_once(arguments: list[str]) -> int:
    # Its own session: otherwise Ctrl-C in a terminal would reach the run twice.
    with hangups_held_back():
        child = subprocess.Popen(python_command("edgebone", *arguments), start_new_session=True)
    before = {}

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before[number] = signal.signal(number, pass_on)
        code = child.wait()
    except BaseException:
        # A signal between the child's start and the first handler.
        child.terminate()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
