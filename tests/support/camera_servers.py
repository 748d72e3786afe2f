"""Cameras for the tests: real servers on loopback, which a test kills, pauses and starts again."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).with_name("rtsp_server.py")
# Debian's bindings are for the system's own Python.
_PYTHON = "/usr/bin/python3"
_CHECK = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


@functools.cache
def _has_rtsp_server() -> bool:
    try:
        return subprocess.run([_PYTHON, "-c", _CHECK], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspServer:
    """GStreamer's RTSP server with one camera, ``/cam``, in a process of its own."""

    def __init__(self, port: int | None = None) -> None:
        if not _has_rtsp_server():
            pytest.skip("needs GStreamer's RTSP server: see `.ci/run` for the Debian packages")
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def start(self, **options: object) -> RtspServer:
        words = [f"--{name}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(
            [_PYTHON, str(_SCRIPT), f"--port={self.port}", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "GST_REGISTRY_FORK": "no"},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def pause(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()
            assert process.stdin
            assert process.stdout
            process.stdin.close()
            process.stdout.close()


@contextlib.contextmanager
def rtsp_server(**options: object) -> Iterator[RtspServer]:
    server = RtspServer().start(**options)
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def mjpeg_server(parts: list[bytes], fps: float = 50.0, forever: bool = True) -> Iterator[str]:
    """An HTTP camera that sends these parts, over and over or once; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    for part in parts:
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}\r\n\r\n"
                        self.wfile.write(head.encode() + part + b"\r\n")
                        if stop.wait(1 / fps):
                            return
                    if not forever:
                        return

        def log_message(self, *_: object) -> None:
            pass

    stop = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/cam.mjpg"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


class RawServer:
    """A TCP server whose every connection a function answers, byte by byte, until it returns or the server ends.

    Attributes:
        requests: What each connection sent first.
    """

    def __init__(self, answer: Callable[[socket.socket, bytes], None], host: str = "127.0.0.1") -> None:
        self._answer = answer
        self._listener = socket.create_server((host, 0))
        self._connections: list[socket.socket] = []
        self.place = f"{host}:{self._listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            request = connection.recv(65536)
            self.requests.append(request)
            self._answer(connection, request)

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        for open_socket in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()
        for thread in self._threads:
            thread.join()


def wait_for(condition: object) -> None:
    """Wait until a function returns True, for 30 s at the most."""
    began = time.monotonic()
    while not condition():  # type: ignore[operator]
        assert time.monotonic() - began < 30, "it did not happen in time"
        time.sleep(0.01)
