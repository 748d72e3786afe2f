"""Tracks boxes from frame to frame, and reports events of tracked objects in zones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import EdgeboneError
from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.near import did_you_mean
from edgebone.core.results import HeadResults, Result, Results
from edgebone.decode.heads import heads_of, need_heads
from edgebone.pipeline.step import Step
from edgebone.tasks.boxed import BOXED, boxes_of, with_tracks
from edgebone.vision import Tracking, Zones, draw_zones
from edgebone.vision.zone_file import Line, Zone, ZoneFile, read_zones

if TYPE_CHECKING:
    from edgebone.model.model import Model


class Tracks(Step):
    """Assigns tracks to detections, and reports events of the tracked objects in zones and at lines.

    Args:
        zones: A file of zones and lines; None for tracks only.

    Raises:
        ZonesError: The file is missing or invalid.
        MissingDependencyError: trackers or supervision is not installed.
    """

    def __init__(self, zones: str | os.PathLike[str] | None = None) -> None:
        self._path = None if zones is None else Path(zones)
        self._zones = None if self._path is None else Zones.load(self._path)
        self._trackings: dict[str, Tracking] = {}
        self.files = "" if self._path is None else "zones"

    def prepare(self, model: Model) -> None:
        """See :meth:`Step.prepare`.

        Raises:
            BundleError: The model has no boxes.
            EdgeboneError: It does not have them on every frame, or a zone counts a class that it lacks.
        """
        finders = need_heads(model.manifest.heads, BOXED, "tracking follows boxes", model.bundle.path)
        for name in finders:
            rate = model.head_every.get(name, 1)
            if rate != 1:
                often = f"on one frame in {rate}" if rate else "on demand"
                raise EdgeboneError(
                    f"tracking needs boxes on every frame, and head {name} runs {often}; let it run on all"
                )
        if self._zones is not None:
            self._check_labels(self._zones.file, model)

    def _check_labels(self, file: ZoneFile, model: Model) -> None:
        """Reject a zone or a line that would count nothing."""
        finders = heads_of(model.manifest.heads, *BOXED)
        labels = {label for name in finders for label in model.manifest.heads[name].labels}
        places: list[Zone | Line] = [*file.zones, *file.lines]
        for place in places:
            for label in place.labels:
                if label not in labels:
                    some = f"{', '.join(sorted(labels)[:10])}{', …' if len(labels) > 10 else ''}"
                    raise EdgeboneError(
                        f"{self._path}: {place.name} counts {label}, a class that the bundle does not have; "
                        f"{did_you_mean(label, labels)}it has {some}"
                    )

    def load_again(self, model: Model) -> None:
        """Reload the file of zones; unchanged zones keep their counts.

        Raises:
            EdgeboneError: It is invalid, or names an unknown class; the zones are unchanged.
        """
        if self._zones is None or self._path is None:
            return
        file = read_zones(self._path)
        self._check_labels(file, model)
        self._zones.replace(file)

    def look(self, frame: Frame, results: Results, model: Model) -> tuple[Results, Sequence[Event]]:
        """Return the results with tracks, and the events in the zones."""
        events: list[Event] = []
        if isinstance(results, dict):
            followed = {name: self._follow(name, frame, head, events) for name, head in results.items()}
            return HeadResults(followed), events
        return self._follow("", frame, results, events), events

    def _follow(self, name: str, frame: Frame, head: Result, events: list[Event]) -> Result:
        boxes = boxes_of(head)
        if boxes is None:
            return head
        if name not in self._trackings:
            self._trackings[name] = Tracking()
        tracked = self._trackings[name].update(frame, boxes)
        if self._zones is not None:
            events += self._zones.update(frame, tracked, name)
        assert tracked.tracker_id is not None
        return with_tracks(head, tracked.tracker_id)

    def draw(self, image: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
        """Draw the zones and their counts onto a frame."""
        if self._zones is None:
            return image
        return draw_zones(image, self._zones, frame.source, self._zones.counts(frame.source))

    def summary(self) -> list[str]:
        """Return a line of counts for each zone and line of each source."""
        if self._zones is None:
            return []
        return [
            f"{source}: {name}: {', '.join(f'{what} {number}' for what, number in counts.items())}"
            for source in self._zones.sources
            for name, counts in self._zones.counts(source).items()
        ]
