"""Complete the settings of a head with keypoints from what the file and the user say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone.core.limits import NAMES
from edgebone_export.errors import ExportError
from edgebone_export.importers.publishers import FileMetadata

_COCO = (
    "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow",
    "right elbow", "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle",
    "right ankle",
)  # fmt: skip
# COCO's person_keypoints_val2017.json, counted from 0.
_COCO_EDGES = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10), (1, 2),
    (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
_FORM = "--set keypoints=nose,tail or their number, --set skeleton=0-1,1-2, --set dims=2 or 3"


def keypoint_settings(
    name: str, given: Mapping[str, Any], labels: tuple[str, ...], said: FileMetadata
) -> dict[str, Any]:
    """Return the decoder's settings, with the names of the keypoints, the skeleton and the values of a keypoint.

    Args:
        name: The head's name, for messages.
        given: Settings; ``keypoints`` may be names, or their number; ``skeleton`` pairs, or text such as ``0-1,1-2``.
        labels: The classes' names.
        said: The file's metadata.

    Raises:
        ExportError: The keypoints are not known, or they contradict the metadata.
    """
    stated = dict(given)
    keypoints = stated.get("keypoints", said.keypoint_names or (said.kpt_shape or [None])[0])
    if keypoints is None:
        raise ExportError(f"head {name}: say which keypoints it has: {_FORM}")
    if isinstance(keypoints, int) and 0 < keypoints <= NAMES and not isinstance(keypoints, bool):
        person = keypoints == len(_COCO) and labels == ("person",)
        keypoints = _COCO if person else tuple(str(index) for index in range(keypoints))
    names = keypoints.split(",") if isinstance(keypoints, str) else keypoints
    if not isinstance(names, (list, tuple)):
        raise ExportError(f"head {name}: keypoints cannot be {keypoints!r}: {_FORM}")
    names = [str(item).strip() for item in names]
    dims = stated.get("dims", (said.kpt_shape or (0, 3))[1])
    if said.kpt_shape is not None and said.kpt_shape != (len(names), dims):
        raise ExportError(
            f"head {name}: {len(names)} keypoints of {dims} values given, but the file's own metadata "
            f"({said.publisher}) has kpt_shape {list(said.kpt_shape)}"
        )
    # ultralytics writes left_eye.
    coco = tuple(item.replace("_", " ") for item in names) == _COCO
    edges = stated.get("skeleton", _COCO_EDGES if coco else ())
    return {**stated, "keypoints": names, "skeleton": _edges(name, edges), "dims": dims}


def _edges(name: str, stated: Any) -> list[list[int]]:
    """Return the pairs of places, from pairs or from text such as ``0-1,1-2``."""
    try:
        pairs = [pair.split("-") for pair in stated.split(",")] if isinstance(stated, str) else stated
        return [[int(a), int(b)] for a, b in pairs]
    except (TypeError, ValueError) as error:
        raise ExportError(f"head {name}: a skeleton cannot be {stated!r}: {_FORM}") from error
