"""`edgebone run` under a service manager that wants to be told that it lives."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.camera_servers import free_port
from support.program import finish, start


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def hears(self, timeout_s: float = 30.0) -> str:
        self.socket.settimeout(timeout_s)
        return self.socket.recv(4096).decode()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(f"@edgebone-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify"))
    yield made
    made.socket.close()


def environment(manager: Manager, **more: str) -> dict[str, str]:
    return {**os.environ, "NOTIFY_SOCKET": manager.address, **more}


def test_started_alive_without_a_frame_and_stopping(manager: Manager, colors_bundle: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/cam"
    run = start("run", colors_bundle, nobody, env=environment(manager, WATCHDOG_USEC="3000000"))
    assert manager.hears() == "READY=1"
    # Nothing comes from the camera, and the run says that it waits for it.
    assert [manager.hears() for _ in range(3)] == ["WATCHDOG=1"] * 3
    run.send_signal(signal.SIGTERM)
    while (said := manager.hears()) == "WATCHDOG=1":
        pass
    assert said == "STOPPING=1"
    assert finish(run)[0] == 143


def test_a_run_whose_output_is_stuck_is_not_alive(manager: Manager, colors_bundle: Path) -> None:
    run = start(
        "run", colors_bundle, "synthetic://64x48@200", "--json", env=environment(manager, WATCHDOG_USEC="1000000")
    )
    assert manager.hears() == "READY=1"
    # Nobody reads its lines: once the pipe is full it stands still.
    deadline_s = time.monotonic() + 60
    with pytest.raises(TimeoutError):
        while time.monotonic() < deadline_s:
            assert manager.hears(3.0) == "WATCHDOG=1"
    run.kill()
    run.communicate()


def test_a_run_that_the_watchdog_is_not_for_says_only_that_it_started(manager: Manager, colors_bundle: Path) -> None:
    run = start(
        "run", colors_bundle, "synthetic://64x48@50?frames=100",
        env=environment(manager, WATCHDOG_USEC="200000", WATCHDOG_PID="1"),
    )  # fmt: skip
    assert [manager.hears(), manager.hears()] == ["READY=1", "STOPPING=1"]
    assert finish(run)[0] == 0


def test_without_a_service_manager_nothing_is_said(colors_bundle: Path, tmp_path: Path) -> None:
    gone = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "1000"}
    assert finish(start("run", colors_bundle, "synthetic://64x48@50?frames=5", env=gone))[0] == 0
