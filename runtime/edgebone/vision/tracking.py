"""Which box is which object: one ByteTrack a source."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgebone.core.detections import Detections, import_supervision
from edgebone.core.errors import missing
from edgebone.core.frame import Frame
from edgebone.vision.clock import NOMINAL_FPS, time_s

LOST_AFTER_S = 1.0
"""How long an object may be out of sight and still be the same one: ByteTrack's 30 frames at 30 a second."""

_FIRST_ID = 1
# A box that comes up once is as often a mistake of the detector as an object.
_CONFIRMING_FRAMES = 2


@dataclass
class _Followed:
    """One source and its tracker."""

    tracker: Any
    size_hw: tuple[int, int]
    index: int
    time_s: float
    first_id: int
    next_id: int
    clock_s: float = 0.0


class Tracking:
    """Gives every box the id of the object that it shows.

    ByteTrack (Zhang et al., ECCV 2022) as in roboflow's ``trackers``; supervision has none any more. Every source
    has a tracker of its own, so that ids of one camera are not used up by another: an id is one within its source.
    Ids count from 1 and none is given twice, not even after a reset.

    A track gets its id with its second frame. Until then, and where its score is too low to begin a track, a box
    has id -1: it stays in the result, since it was found, but is no object yet.

    Tracks age by the frames' own times, so that dropped frames, uneven rates and a camera that was away are seen as
    what they are. A change of resolution, or a source that begins again (its index goes back), resets the source's
    tracker. Several heads that find boxes need a ``Tracking`` each.

    Args:
        fps: Frames a second, for frames whose own times are not to be relied on: time is then the frame's index
            over this rate. None takes the frames' times.
        lost_after_s: How long an object may be out of sight and still be the same one, in seconds.
        new_track_score: The score from which a box begins a track, 0 to 1. Boxes below it can only continue one,
            which helps where the model lets them through (``--score``).

    Raises:
        MissingDependencyError: trackers is not installed.
        ValueError: A rate, time or score that cannot be meant.

    Example:
        >>> import edgebone
        >>> tracking = Tracking()
        >>> with edgebone.load("yolox.bundle") as model:
        ...     for frame, found in model.stream("street.mp4"):
        ...         found = tracking.update(frame, found)
        >>> print(found.labels, found.tracker_id)
        ('person',) [1]
    """

    def __init__(
        self, fps: float | None = None, *, lost_after_s: float = LOST_AFTER_S, new_track_score: float = 0.25
    ) -> None:
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"fps must be more than 0, got {fps}")
        if not 0 <= lost_after_s < math.inf:
            raise ValueError(f"lost_after_s must be 0 or more, got {lost_after_s}")
        if not 0 <= new_track_score <= 1:
            raise ValueError(f"new_track_score must be 0 to 1, got {new_track_score}")
        self._fps = fps
        self._lost_after_s = lost_after_s
        self._new_track_score = new_track_score
        self._byte_track = _import_byte_track()
        self._detections = import_supervision().Detections
        self._sources: dict[str, _Followed] = {}

    def update(self, frame: Frame, detections: Detections) -> Detections:
        """Take in a frame's boxes; to be called for every frame, those without boxes too.

        Args:
            frame: The frame; each source's come in their order.
            detections: What was found in it.

        Returns:
            The same boxes in the same order, with ``tracker_id``.
        """
        followed = self._sources.get(frame.source)
        if followed is None or frame.index <= followed.index or frame.size_hw != followed.size_hw:
            first_id = _FIRST_ID if followed is None else followed.next_id
            followed = _Followed(
                self._new_tracker(), frame.size_hw, frame.index, time_s(frame), first_id, next_id=first_id
            )
            self._sources[frame.source] = followed
        else:
            followed.clock_s += self._elapsed_s(followed, frame)
            followed.index = frame.index
            followed.time_s = time_s(frame)
        tracked = followed.tracker.update(
            self._detections(
                xyxy=detections.xyxy, confidence=detections.confidence, data={"row": np.arange(len(detections))}
            ),
            timestamp=followed.clock_s,
        )
        tracker_id = np.full(len(detections), -1, np.int64)
        if len(tracked):
            ids = np.asarray(tracked.tracker_id, np.int64)
            # ByteTrack sorts by score and stage, and counts from 0.
            tracker_id[tracked.data["row"]] = np.where(ids >= 0, ids + followed.first_id, -1)
            followed.next_id = max(followed.next_id, int(tracker_id.max()) + 1)
        return dataclasses.replace(detections, tracker_id=tracker_id)

    def _new_tracker(self) -> Any:
        return self._byte_track(
            # Counted in frames at 30 a second, whatever the source's rate.
            lost_track_buffer=round(30 * self._lost_after_s),
            frame_rate=self._fps or NOMINAL_FPS,
            track_activation_threshold=self._new_track_score,
            high_conf_det_threshold=self._new_track_score,
            minimum_consecutive_frames=_CONFIRMING_FRAMES,
        )

    def _elapsed_s(self, followed: _Followed, frame: Frame) -> float:
        frames = frame.index - followed.index
        if self._fps is not None:
            return frames / self._fps
        elapsed = time_s(frame) - followed.time_s
        # Broken recordings have frames whose time stands still.
        return elapsed if elapsed > 0 else frames / NOMINAL_FPS


def _import_byte_track() -> Any:
    try:
        from trackers import ByteTrackTracker
    except ModuleNotFoundError as error:
        raise missing("trackers", "vision", "tracking") from error
    return ByteTrackTracker
