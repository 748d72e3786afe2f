"""Ctrl-C and SIGTERM: raised where the program is, but neither lost there nor at the cost of a lock; then the end.

SIGHUP: the wish to load again what the program was started with, from its very beginning on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
TERMINATED = 143
_AGAIN_S = 0.005
# Windows has none: there a signal is raised wherever it comes.
_HAS_TIMER = hasattr(signal, "setitimer")
_HAS_HANGUP = hasattr(signal, "SIGHUP")

_heard: list[int] = []
_reload: list[int] = []
_owed: list[int] = []


class Stopped(BaseException):
    """SIGINT or SIGTERM came: unwinds, so that files are finished and temporary ones removed.

    No KeyboardInterrupt, which the command line's library would answer itself: this one passes it by.
    """


def listen(hold_reload: bool = False) -> None:
    """Raise Stopped on SIGINT and SIGTERM; one that the parent ignores stays ignored.

    It is raised a moment later, by SIGALRM, where Python would drop it or a lock would stay taken.

    Args:
        hold_reload: Keep a SIGHUP until it is known what it means: see :func:`listen_for_reload` and
            :func:`end_at_hangup`.
    """
    if hold_reload and _HAS_HANGUP and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        listen_for_reload()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _hear)
    if _HAS_TIMER:
        signal.signal(signal.SIGALRM, _hear_again)
        sys.unraisablehook = _raise_dropped_again
    if _HAS_HANGUP:
        # Held back by a supervisor until somebody hears it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])


def listen_for_reload() -> None:
    """Take SIGHUP as the wish to load again, in place of the end that it means otherwise.

    One that came before counts: what it was sent for may have been read already.
    """
    if _HAS_HANGUP:
        signal.signal(signal.SIGHUP, lambda number, _: _reload.append(number))


def end_at_hangup() -> None:
    """Take SIGHUP as the end again, as of a terminal that is closed; one that came already ends the program now."""
    if _HAS_HANGUP and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if reload_asked():
            os.kill(os.getpid(), signal.SIGHUP)


@contextlib.contextmanager
def hangups_held_back() -> Iterator[None]:
    """Within it, a process that is started gets a SIGHUP only once it calls :func:`listen`, and so do we at its end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])


def reload_asked() -> bool:
    """Whether SIGHUP has come since the last question."""
    asked = bool(_reload)
    _reload.clear()
    return asked


def raise_if_heard() -> None:
    """Raise for a signal that has come already: what a handler raises, a library's C code may swallow."""
    if _heard:
        _owed.clear()
        raise Stopped


def heard() -> bool:
    """Whether one has come: what then ends the program may be its exception in another's clothes."""
    return bool(_heard)


def end() -> NoReturn:
    """Say which signal ended the program, and leave.

    At once, since everything is closed: at Python's own shutdown a thread that is still within native code aborts the
    process, and an executor's thread that the signal cut off from its executor is waited for without end.
    """
    # A further one ends even a process whose reader does not read.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    _owed.clear()
    terminated = signal.SIGTERM in _heard[:1]
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        sys.stderr.write(f"edgebone: {'terminated' if terminated else 'interrupted'}\n")
        sys.stderr.flush()
    os._exit(TERMINATED if terminated else INTERRUPTED)


def _hear(number: int, frame: FrameType | None) -> None:
    _heard.append(number)
    _raise_or_owe(frame)


def _hear_again(_: int, frame: FrameType | None) -> None:
    # It may have been raised elsewhere since; what unwinds now is not to be disturbed.
    if _owed:
        _raise_or_owe(frame)


def _raise_or_owe(frame: FrameType | None) -> None:
    if _HAS_TIMER and frame is not None and _holds_a_lock(frame):
        _owe()
    else:
        raise_if_heard()


def _holds_a_lock(frame: FrameType) -> bool:
    """Whether an exception here may leave a lock taken for ever, and every thread that waits for it.

    The import system does so between its ``acquire_lock()`` and the ``try`` that follows, and a ``with`` while its
    ``__enter__`` returns or its ``__exit__`` begins (https://github.com/python/cpython/issues/74174).
    """
    code = frame.f_code
    return code.co_filename == "<frozen importlib._bootstrap>" or code.co_name in ("__enter__", "__exit__")


def _raise_dropped_again(unraisable: sys.UnraisableHookArgs) -> None:
    """What was raised in a finalizer or a weak reference's callback cannot leave it: it is raised outside."""
    if isinstance(unraisable.exc_value, Stopped):
        _owe()
    else:
        sys.__unraisablehook__(unraisable)


def _owe() -> None:
    _owed.append(_heard[0])
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
