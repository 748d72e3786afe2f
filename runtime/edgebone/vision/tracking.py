"""Tracks boxes with one ByteTrack per source."""

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
"""How long an object may be out of sight and stay the same: ByteTrack's 30 frames at 30 per second."""

_FIRST_ID = 1
# A box that appears once is as often a detector's mistake as an object.
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
    """Assigns every box the id of its object.

    ByteTrack (Zhang et al., ECCV 2022) as in roboflow's ``trackers``; supervision no longer has one. Every source has
    its own tracker, so that cameras do not share ids: an id is unique within its source. Ids count from 1 and are never
    reused, not even after a reset.

    A track gets its id at its second frame. Until then, and if its score is too low to start a track, a box has id -1:
    it stays in the result, but is not an object yet.

    Tracks age by the frames' own times, which accounts for dropped frames, uneven rates and camera outages. A change of
    resolution or a restart of the source (its index goes back) resets the source's tracker. Several heads that find
    boxes need one ``Tracking`` each.

    Args:
        fps: Frames per second, for frames with unreliable times: the time is then the frame's index divided by this
            rate. None uses the frames' times.
        lost_after_s: How long an object may be out of sight and stay the same, in seconds.
        new_track_score: The score from which a box starts a track, 0 to 1. Boxes below it can only continue one, if the
            model returns them (``--score``).

    Raises:
        MissingDependencyError: trackers is not installed.
        ValueError: An implausible rate, time or score.

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
        """Process a frame's boxes; call it for every frame, including those without boxes.

        Args:
            frame: The frame; each source's frames in order.
            detections: The frame's detections.

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
            # In frames at 30 per second, whatever the source's rate.
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
        # Broken recordings have frames with equal times.
        return elapsed if elapsed > 0 else frames / NOMINAL_FPS


def _import_byte_track() -> Any:
    try:
        from trackers import ByteTrackTracker
    except ModuleNotFoundError as error:
        raise missing("trackers", "vision", "tracking") from error
    return ByteTrackTracker
