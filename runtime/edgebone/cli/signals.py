"""Ctrl-C and SIGTERM: raised where the program is, and not lost where Python would drop them."""

from __future__ import annotations

import signal
from types import FrameType

_heard: list[int] = []
_reload: list[int] = []


class Terminated(BaseException):
    """SIGTERM came: unwinds as Ctrl-C does, so that files are finished and temporary ones removed."""


def listen() -> None:
    """Raise KeyboardInterrupt on SIGINT and Terminated on SIGTERM; one that the parent ignores stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _hear)


def listen_for_reload() -> None:
    """Take SIGHUP as the wish to load again, in place of the end that it means otherwise."""
    signal.signal(signal.SIGHUP, lambda number, _: _reload.append(number))


def reload_asked() -> bool:
    """Whether SIGHUP has come since the last question."""
    asked = bool(_reload)
    _reload.clear()
    return asked


def raise_if_heard() -> None:
    """Raise for a signal that has come already: Python drops what a handler raises within a finalizer."""
    if _heard:
        raise KeyboardInterrupt if _heard[0] == signal.SIGINT else Terminated


def _hear(number: int, _: FrameType | None) -> None:
    _heard.append(number)
    raise_if_heard()
