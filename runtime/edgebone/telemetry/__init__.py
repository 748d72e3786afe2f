"""A machine's power and temperature and a stream's health, for monitoring."""

from edgebone.telemetry.prometheus import MetricsServer, serve_metrics
from edgebone.telemetry.sensors import Reading, Sensor, probe_sensors

__all__ = ["MetricsServer", "Reading", "Sensor", "probe_sensors", "serve_metrics"]
