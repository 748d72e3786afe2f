"""A stream's figures and the machine's sensors, for Prometheus to fetch."""

from __future__ import annotations

import io
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from edgebone.core import limits
from edgebone.core.bounded_socket import Allowance, BoundedSocket
from edgebone.core.errors import EdgeboneError, missing
from edgebone.core.timing import Percentiles
from edgebone.stream.stats import STAGES, StreamStats
from edgebone.telemetry.health import what_is_wrong
from edgebone.telemetry.sensors import Sensor, probe_sensors

_COUNTS = {
    "frames": "Frames delivered.",
    "dropped": "Frames of live sources that were dropped for newer ones.",
    "skipped": "Frames left out on purpose.",
    "damaged": "Frames that could not be decoded.",
    "reconnects": "Reconnections of a source after it was lost.",
}
_PAUSE_S = 0.1
_QUANTILES = {"0.5": "p50_ms", "0.9": "p90_ms", "0.99": "p99_ms", "1": "max_ms"}


class MetricsServer:
    """Serves ``http://HOST:PORT/metrics`` and ``/healthz``; create it with :func:`serve_metrics`.

    Attributes:
        port: The port it listens on.
    """

    def __init__(self, server: _Server) -> None:
        self.port = int(server.server_port)
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, name="edgebone-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(
    stats: Callable[[], StreamStats],
    port: int,
    sensors: Sequence[Sensor] | None = None,
    host: str = "127.0.0.1",
) -> MetricsServer:
    """Serve a stream's figures to Prometheus; they are computed on request.

    ``/metrics`` has the figures. ``/healthz`` returns 200 while the stream is healthy, else 503 with the reasons, see
    :func:`edgebone.telemetry.health.what_is_wrong`. Every other path is 404.

    Anyone who can reach the port can read them, including the names of cameras.

    Args:
        stats: Returns the figures, such as ``lambda: stream.stats``.
        port: The port; 0 for any free one.
        sensors: The machine's sensors; None detects them.
        host: The address to listen on, IPv4 or IPv6; by default reachable only from this machine.

    Raises:
        MissingDependencyError: prometheus-client is not installed.
        EdgeboneError: The port is in use or not allowed, or the address is not this machine's.
    """
    try:
        import prometheus_client
    except ModuleNotFoundError as error:
        raise missing("prometheus_client", "metrics", "--metrics") from error
    registry = prometheus_client.CollectorRegistry()
    registry.register(_Collector(stats, probe_sensors() if sensors is None else sensors))
    try:
        server = _Server(host, port)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such address"
        raise EdgeboneError(f"metrics cannot be served on port {port} of {host}: {reason}; choose another") from error
    server.set_app(_app(prometheus_client.make_wsgi_app(registry), stats))
    return MetricsServer(server)


def _app(figures: Any, stats: Callable[[], StreamStats]) -> Any:
    def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            found: Iterable[bytes] = figures(environ, start)
            return found
        if path == "/healthz":
            wrong = what_is_wrong(stats())
            status, text = ("503 Service Unavailable", "\n".join(wrong)) if wrong else ("200 OK", "ok")
        else:
            status, text = "404 Not Found", "there are /metrics and /healthz"
        body = f"{text}\n".encode(errors="backslashreplace")
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        start(status, [*headers, ("Cache-Control", "no-store")])
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]

    return answer


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """Answers a few connections at a time, each in a thread; more are closed at once."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._free = threading.BoundedSemaphore(limits.METRICS_CONNECTIONS)
        super().__init__((host, port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; called by socketserver."""
        try:
            return super().get_request()
        except OSError:
            # For example no descriptor is left: the connection stays queued, and would be retried without a pause.
            time.sleep(_PAUSE_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer, or hang up; called by socketserver."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            # No thread could be started.
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer; called by socketserver."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that are slow or gone."""


class _Handler(WSGIRequestHandler):
    """Reads a request within limits of time and size, and logs nothing."""

    def setup(self) -> None:
        """Called by socketserver."""
        super().setup()
        self.rfile.close()
        allowance = Allowance(limits.METRICS_TIMEOUT_S, limits.METRICS_REQUEST_BYTES)
        self.rfile = io.BufferedReader(BoundedSocket(self.connection, allowance))

    def log_message(self, format: str, *args: Any) -> None:
        """Called by http.server."""


class _Collector:
    """Reads the stream and the sensors on each request."""

    def __init__(self, stats: Callable[[], StreamStats], sensors: Sequence[Sensor]) -> None:
        self._stats = stats
        self._sensors = sensors

    def describe(self) -> list[Any]:
        """Return nothing in advance: that would read the sensors."""
        return []

    def collect(self) -> Iterator[Any]:
        """Everything, now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        stats = self._stats()
        for count, text in _COUNTS.items():
            family = CounterMetricFamily(f"edgebone_{count}", text, labels=["source"])
            for source in stats.sources:
                family.add_metric([source.name], getattr(source, count))
            yield family
        state = GaugeMetricFamily(
            "edgebone_source_state", "1 for the state a source is in.", labels=["source", "state"]
        )
        fps = GaugeMetricFamily("edgebone_source_fps", "Frames delivered per second.", labels=["source"])
        age = GaugeMetricFamily(
            "edgebone_age_seconds", "From capture to delivery, of the latest frames.", labels=["source", "quantile"]
        )
        for source in stats.sources:
            state.add_metric([source.name, source.state], 1)
            fps.add_metric([source.name], source.fps)
            _add_quantiles(age, source.name, source.age)
        stages = GaugeMetricFamily(
            "edgebone_stage_seconds", "Time per stage, of the latest frames.",
            labels=["stage", "quantile"],
        )  # fmt: skip
        for stage in STAGES:
            _add_quantiles(stages, stage, getattr(stats, stage))
        yield from (state, fps, age, stages)
        yield from self._readings(GaugeMetricFamily)

    def _readings(self, gauge: Any) -> Iterator[Any]:
        families: dict[str, Any] = {}
        for sensor in self._sensors:
            for reading in sensor():
                name = f"edgebone_machine_{reading.quantity}"
                if name not in families:
                    families[name] = gauge(name, "A sensor of the machine.", labels=["device"])
                families[name].add_metric([reading.device], reading.value)
        yield from families.values()


def _add_quantiles(family: Any, label: str, spread: Percentiles) -> None:
    for quantile, field in _QUANTILES.items():
        family.add_metric([label, quantile], getattr(spread, field) / 1000)
