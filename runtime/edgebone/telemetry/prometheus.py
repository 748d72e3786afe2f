"""A stream's figures and the machine's sensors, for Prometheus to fetch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgebone.core.errors import EdgeboneError, missing
from edgebone.core.timing import Percentiles
from edgebone.stream_stats import STAGES, StreamStats
from edgebone.telemetry.sensors import Sensor, probe_sensors

_COUNTS = {
    "frames": "Frames delivered.",
    "dropped": "Frames of live sources that were lost because newer ones had come.",
    "skipped": "Frames left out on purpose.",
    "damaged": "Frames that could not be decoded.",
    "reconnects": "How often a source came back after it was lost.",
}
_QUANTILES = {"0.5": "p50_ms", "0.9": "p90_ms", "0.99": "p99_ms", "1": "max_ms"}


class MetricsServer:
    """Serves ``http://HOST:PORT/metrics``; make one with :func:`serve_metrics`.

    Attributes:
        port: The port it listens on.
    """

    def __init__(self, server: Any, thread: threading.Thread) -> None:
        self.port = int(server.server_port)
        self._server = server
        self._thread = thread

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(
    stats: Callable[[], StreamStats],
    port: int,
    sensors: Sequence[Sensor] | None = None,
    host: str = "0.0.0.0",
) -> MetricsServer:
    """Serve a stream's figures to Prometheus; nothing is computed before somebody asks.

    Args:
        stats: Gives the figures, such as ``lambda: stream.stats``.
        port: Where; 0 takes a free one.
        sensors: The machine's; None looks for what there is.
        host: The address to listen on; all of this machine's by default, as Prometheus' exporters do.

    Raises:
        MissingDependencyError: prometheus-client is not installed.
        EdgeboneError: The port is taken, or not allowed.
    """
    try:
        import prometheus_client
    except ModuleNotFoundError as error:
        raise missing("prometheus_client", "metrics", "--metrics") from error
    registry = prometheus_client.CollectorRegistry()
    registry.register(_Collector(stats, probe_sensors() if sensors is None else sensors))
    try:
        server, thread = prometheus_client.start_http_server(port, host, registry)
    except OSError as error:
        raise EdgeboneError(f"metrics cannot be served on port {port}: {error.strerror}; choose another") from error
    return MetricsServer(server, thread)


class _Collector:
    """Asks the stream and the sensors when Prometheus asks."""

    def __init__(self, stats: Callable[[], StreamStats], sensors: Sequence[Sensor]) -> None:
        self._stats = stats
        self._sensors = sensors

    def describe(self) -> list[Any]:
        """Nothing ahead of time: that would read the sensors."""
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
        fps = GaugeMetricFamily("edgebone_source_fps", "Frames delivered a second.", labels=["source"])
        age = GaugeMetricFamily(
            "edgebone_age_seconds", "From capture to delivery, of the latest frames.", labels=["source", "quantile"]
        )
        for source in stats.sources:
            state.add_metric([source.name, source.state], 1)
            fps.add_metric([source.name], source.fps)
            _add_quantiles(age, source.name, source.age)
        stages = GaugeMetricFamily(
            "edgebone_stage_seconds", "Time a frame spends in a stage, of the latest frames.",
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
