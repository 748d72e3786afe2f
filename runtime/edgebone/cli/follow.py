"""``--track`` and ``--zones``: what is followed from frame to frame, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgebone.core.errors import EdgeboneError

if TYPE_CHECKING:
    from edgebone.core.detections import Detections
    from edgebone.core.frame import Frame
    from edgebone.core.results import Result, Results
    from edgebone.model.model import Model
    from edgebone.sinks.guarded import Policy
    from edgebone.vision.zone_file import Line, Zone, ZoneFile


class Follow:
    """Gives detections their tracks, and the zones' events to a file or the standard output.

    Args:
        zones_file: The zones; None for tracks only.
        write: Takes an event's line.
        close: Closes what ``write`` writes to.
    """

    def __init__(self, zones_file: Path | None, write: Callable[[bytes], object], close: Callable[[], None]) -> None:
        from edgebone.vision import Tracking, Zones

        self._trackings: dict[str, Any] = {}
        self._new_tracking = Tracking
        self._zones_file = zones_file
        self._zones = Zones.load(zones_file) if zones_file else None
        self._labels: set[str] = set()
        self._write = write
        self.close = close

    @classmethod
    def of(
        cls,
        track: bool,
        zones: Path | None,
        events: Path | None,
        append: bool,
        policy: Policy,
        show: Callable[[bytes], object],
    ) -> Follow | None:
        """From the command line's options; None where nothing is to be followed.

        Events go to ``show`` where they have no file of their own.
        """
        if events and not zones:
            raise typer.BadParameter("--events are those of --zones: give both")
        if zones and not track:
            raise typer.BadParameter("--zones count what is followed from frame to frame: give --track too")
        if not track:
            return None
        from edgebone.sinks.guarded import GuardedSink
        from edgebone.sinks.jsonl import JsonLines
        from edgebone.sinks.line_file import descriptor_of

        if events is None or descriptor_of(events) == 1:
            return cls(zones, show, lambda: None)
        file = JsonLines(events, append)
        guarded = GuardedSink(file, policy)
        return cls(zones, lambda line: guarded.attempt(lambda: file.write_line(line)), guarded.close)

    def check(self, model: Model) -> None:
        """Whether a model gives what is followed.

        Raises:
            EdgeboneError: It has no boxes, or not on every frame; or a zone counts a class that it does not have.
        """
        from edgebone.decode.heads import need_heads
        from edgebone.tasks.detection import DETECTION

        finders = need_heads(model.manifest.heads, DETECTION, "--track follows", model.bundle.path)
        for name in finders:
            if model.head_every.get(name, 1) != 1:
                raise EdgeboneError(f"--track and --zones need boxes on every frame; leave --head-every {name} out")
        labels = {label for name in finders for label in model.manifest.heads[name].labels}
        if self._zones is not None:
            self._check_labels(self._zones.file, labels)
        self._labels = labels

    def _check_labels(self, file: ZoneFile, labels: set[str]) -> None:
        """Refuse a zone or a line that would count nothing."""
        from edgebone.core.near import did_you_mean

        places: list[Zone | Line] = [*file.zones, *file.lines]
        for place in places:
            for label in place.labels:
                if label not in labels:
                    some = f"{', '.join(sorted(labels)[:10])}{', …' if len(labels) > 10 else ''}"
                    raise EdgeboneError(
                        f"{self._zones_file}: {place.name} counts {label}, a class that the bundle does not have; "
                        f"{did_you_mean(label, labels)}it has {some}"
                    )

    @property
    def has_zones(self) -> bool:
        """Whether there are zones."""
        return self._zones is not None

    def load_zones_again(self) -> None:
        """Take over the file of zones as it is now; those that are as they were keep their counts.

        Raises:
            EdgeboneError: It is none any more, or names a class that there is not; the zones are as they were.
        """
        from edgebone.vision.zone_file import read_zones

        assert self._zones is not None
        assert self._zones_file is not None
        file = read_zones(self._zones_file)
        self._check_labels(file, self._labels)
        self._zones.replace(file)

    def look(self, frame: Frame, result: Results) -> Results:
        """The result with tracks in it."""
        if isinstance(result, dict):
            return {name: self._follow(name, frame, head) for name, head in result.items()}
        return self._follow("", frame, result)

    def _follow(self, name: str, frame: Frame, head: Result) -> Result:
        import msgspec

        from edgebone.tasks.detection import DETECTION

        boxes = DETECTION.of(head)
        if boxes is None:
            return head
        if name not in self._trackings:
            self._trackings[name] = self._new_tracking()
        tracked: Detections = self._trackings[name].update(frame, boxes)
        if self._zones is not None:
            for event in self._zones.update(frame, tracked, name):
                self._write(msgspec.json.encode(event.to_dict()) + b"\n")
        return tracked

    def draw(self, image: Any, frame: Frame) -> Any:
        """Draw the zones and their counts onto a frame."""
        if self._zones is None:
            return image
        from edgebone.vision import draw_zones

        return draw_zones(image, self._zones, frame.source, self._zones.counts(frame.source))

    def summary(self) -> list[str]:
        """A line for each zone and line of each source."""
        if self._zones is None:
            return []
        return [
            f"{source}: {name}: {', '.join(f'{what} {number}' for what, number in counts.items())}"
            for source in self._zones.sources
            for name, counts in self._zones.counts(source).items()
        ]
