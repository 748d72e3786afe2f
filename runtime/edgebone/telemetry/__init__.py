"""What a machine draws, how warm it is and how a stream does, for whoever watches over it."""

from edgebone.telemetry.prometheus import MetricsServer, serve_metrics
from edgebone.telemetry.sensors import Reading, Sensor, probe_sensors

__all__ = ["MetricsServer", "Reading", "Sensor", "probe_sensors", "serve_metrics"]
