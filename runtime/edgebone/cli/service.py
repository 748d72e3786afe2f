"""Notifies the service manager of a run by systemd's protocol: started, alive, stopping (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edgebone.cli.signals import raise_if_heard, reload_asked

if TYPE_CHECKING:
    from edgebone.pipeline import Pipeline


@contextlib.contextmanager
def serving(pipeline: Pipeline) -> Iterator[Callable[[], None]]:
    """Notify the service manager of a run's start, life and end.

    Yields a function to call frequently: it notifies that the run is alive, ends it on a signal, and passes reload
    requests to the pipeline.
    """
    alive = _service_pulse()

    def pulse() -> None:
        raise_if_heard()
        alive()
        if reload_asked():
            pipeline.reload()

    try:
        yield pulse
    finally:
        if address := os.environ.get("NOTIFY_SOCKET", ""):
            # The run is finishing its files.
            _tell(address, b"STOPPING=1")


def _service_pulse() -> Callable[[], None]:
    """Notify the service manager that the run has started; return a function that notifies that it is alive.

    Call it frequently: with ``WatchdogSec=`` in the unit it notifies at most twice in that time; a process silent for
    that long is restarted. Without a service manager nothing is sent.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return lambda: None
    _tell(address, b"READY=1")
    # For this process only, not for a child of a supervisor between it and the service manager.
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return lambda: None
    every_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
    told_s = 0.0

    def pulse() -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if every_s and now_s - told_s >= every_s:
            told_s = now_s
            _tell(address, b"WATCHDOG=1")

    return pulse


def _tell(address: str, message: bytes) -> None:
    # An address that begins with @ is in the abstract namespace. A manager that does not listen is not an error.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.sendto(message, f"\0{address[1:]}" if address.startswith("@") else address)
