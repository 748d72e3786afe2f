"""A zone, a line, and people who walk through them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgebone.core.detections import Detections
from edgebone.core.frame import Frame
from edgebone.vision import Zones

SIZE_HW = (200, 400)


BLACK = np.zeros((*SIZE_HW, 3), np.uint8)


ZONE = {"name": "door", "polygon": [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]}


# From the top to the bottom: its left is the picture's right.
LINE = {"name": "gate", "start": [0.5, 0.0], "end": [0.5, 1.0]}


def zones_of(tmp_path: Path, **content: Any) -> Zones:
    (tmp_path / "zones.json").write_text(json.dumps({"schema": 1, **content}))
    return Zones.load(tmp_path / "zones.json")


def boxes(*centers: tuple[float, float], label: str = "person") -> Detections:
    points = np.array(centers, np.float32).reshape(-1, 2)
    xyxy = np.concatenate([points - 20, points + 20], axis=1)
    n = len(points)
    names = np.array([label] * n, object)
    return Detections(xyxy, np.full(n, 0.9, np.float32), np.zeros(n, np.int64), {"class_name": names})


def frame(index: int, source: str = "video", fps: float = 25.0) -> Frame:
    return Frame(BLACK, index, 0, source, index / fps)
