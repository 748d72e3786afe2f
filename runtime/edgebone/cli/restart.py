"""``edgebone run --restart``: a run that is started again when it fails."""

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
# Done, wrong usage, interrupted, terminated: what another start would not change, or what somebody asked for.
_FINAL = (0, 2, INTERRUPTED, TERMINATED)


def supervise(arguments: list[str]) -> int:
    """Run edgebone in a process of its own, again and again while it fails.

    Signals are passed on, and when this process ends, even by SIGKILL, the run ends. A run that lasted 10 s or more is
    started again after 1 s; one that fails sooner after 2, 4, … 30 s, and after five such failures in a row it is
    given up.

    Args:
        arguments: The program's, without ``--restart``.

    Returns:
        The exit code of the last run; a run that a signal ended counts as 128 and the signal's number.
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
            note(f"edgebone: failed {quick} times in a row within {_LASTED_S:g} s each; given up")
            return code
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**quick)
        note(f"edgebone: the run ended with code {code}; starting again in {wait_s:g} s")
        # What the runs before wrote stays.
        more = ["--append"]
        time.sleep(wait_s)


def _run_once(arguments: list[str]) -> int:
    # A session of its own: Ctrl-C in a terminal goes to both, and the run would get it twice.
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
