"""``--track`` and ``--zones``: what is followed from frame to frame, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgebone.core.errors import EdgeboneError

if TYPE_CHECKING:
    from edgebone.core.frame import Frame
    from edgebone.core.results import Results


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
        self._zones = Zones.load(zones_file) if zones_file else None
        self._write = write
        self.close = close

    @classmethod
    def of(
        cls, track: bool, zones: Path | None, events: Path | None, append: bool, show: Callable[[bytes], object]
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
        if events is None:
            return cls(zones, show, lambda: None)
        from edgebone.sinks.jsonl import JsonLines

        file = JsonLines(events, append)
        return cls(zones, file.write_line, file.close)

    def look(self, frame: Frame, result: Results) -> Results:
        """The result with tracks in it.

        Raises:
            EdgeboneError: Nothing in it can be followed.
        """
        from edgebone.core.detections import Detections

        heads = result if isinstance(result, dict) else {"": result}
        followed = {name: self._follow(name, frame, head) for name, head in heads.items()}
        if not any(isinstance(head, Detections) for head in followed.values()):
            raise EdgeboneError("--track follows boxes, and this bundle has no head that gives any")
        return followed if isinstance(result, dict) else followed[""]

    def _follow(self, name: str, frame: Frame, head: Any) -> Any:
        import msgspec

        from edgebone.core.detections import Detections

        if not isinstance(head, Detections):
            return head
        if name not in self._trackings:
            self._trackings[name] = self._new_tracking()
        tracked = self._trackings[name].update(frame, head)
        if self._zones is not None:
            for event in self._zones.update(frame, tracked):
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
