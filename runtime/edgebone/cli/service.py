"""What the service manager is told of a run, by systemd's protocol: started, alive, stopping (sd_notify(3))."""

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
    """Tell the service manager of a run, from its start to its end.

    Gives what is called as often as convenient: it tells that the run is alive, ends it at a signal, and passes the
    wish to load again on to the pipeline.
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
            # Its files are being finished.
            _tell(address, b"STOPPING=1")


def _service_pulse() -> Callable[[], None]:
    """Tell the service manager that the run has started; the function returned tells it that the run is alive.

    Call that one as often as convenient: with ``WatchdogSec=`` in the unit it is told at most twice in that time, and
    a process that is not heard of for so long is started again. Without a service manager nothing is sent.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return lambda: None
    _tell(address, b"READY=1")
    # Meant for this process only, not for one that a supervisor between it and the service manager started.
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
    # An address that begins with @ is in the abstract namespace. A manager that does not listen is not our fault.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.sendto(message, f"\0{address[1:]}" if address.startswith("@") else address)
