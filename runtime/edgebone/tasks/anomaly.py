"""How unusual a picture is, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone.core.anomaly import Anomaly
from edgebone.tasks.contract import Task


def _headlines(_: Anomaly) -> set[str]:
    return {"anomaly"}


def _agreement(a: Anomaly, b: Anomaly, _: Mapping[str, Any]) -> float:
    return float(a.is_anomalous == b.is_anomalous)


ANOMALY = Task("anomaly", Anomaly, "an anomaly score", _headlines, _agreement, drawing="edgebone.sinks.annotate:HEAT")
