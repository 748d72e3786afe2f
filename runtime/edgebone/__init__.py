"""edgebone's runtime: loads a bundle and serves camera frames in real time, without torch.

Everything is imported at first use, so that ``import edgebone`` is fast.

Example:
    >>> import edgebone
    >>> with edgebone.load("mobilenet_v2.bundle") as model:
    ...     print(model("photo.jpg").label)
    tabby
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from edgebone.core.version import __version__ as __version__

# No telemetry leaves a device. Since 1.32 onnxruntime's wheels report their use to Microsoft unless this variable is
# set when they are imported (their Privacy.md); OpenVINO and NNCF report theirs to Google through this module, which is
# installed with them: without it they report nothing.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


if TYPE_CHECKING:
    from edgebone.core.anomaly import Anomaly
    from edgebone.core.depth import DepthMap
    from edgebone.core.detections import Detections
    from edgebone.core.errors import EdgeboneError
    from edgebone.core.frame import Frame
    from edgebone.core.keypoints import KeyPoints
    from edgebone.core.machine import Machine
    from edgebone.core.matches import Matches
    from edgebone.core.results import Classification, Embedding, FeatureMaps, MultiLabel, RawTensors, Regression
    from edgebone.core.segmentation import SegmentationMap
    from edgebone.gallery.gallery import Gallery
    from edgebone.model.model import Model, load
    from edgebone.sources.limits import Limited, Limits
    from edgebone.stream.stream import Stream

_HOMES = {
    "Anomaly": "edgebone.core.anomaly",
    "Classification": "edgebone.core.results",
    "DepthMap": "edgebone.core.depth",
    "Detections": "edgebone.core.detections",
    "EdgeboneError": "edgebone.core.errors",
    "Embedding": "edgebone.core.results",
    "FeatureMaps": "edgebone.core.results",
    "Frame": "edgebone.core.frame",
    "Gallery": "edgebone.gallery.gallery",
    "KeyPoints": "edgebone.core.keypoints",
    "Limited": "edgebone.sources.limits",
    "Limits": "edgebone.sources.limits",
    "Machine": "edgebone.core.machine",
    "Matches": "edgebone.core.matches",
    "Model": "edgebone.model.model",
    "MultiLabel": "edgebone.core.results",
    "RawTensors": "edgebone.core.results",
    "Regression": "edgebone.core.results",
    "SegmentationMap": "edgebone.core.segmentation",
    "Stream": "edgebone.stream.stream",
    "load": "edgebone.model.model",
}

__all__ = [
    "Anomaly",
    "Classification",
    "DepthMap",
    "Detections",
    "EdgeboneError",
    "Embedding",
    "FeatureMaps",
    "Frame",
    "Gallery",
    "KeyPoints",
    "Limited",
    "Limits",
    "Machine",
    "Matches",
    "Model",
    "MultiLabel",
    "RawTensors",
    "Regression",
    "SegmentationMap",
    "Stream",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module at first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgebone' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*__all__, "__version__"])
