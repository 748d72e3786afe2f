"""Where ``edgebone shelf`` writes to."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebone.cli.output import note, say, say_json

if TYPE_CHECKING:
    from edgebone.core.frame import Frame
    from edgebone.sources import Source
    from edgebone.sources.limits import Limits
    from edgebone.vision.shelf import Shelf
    from edgebone.vision.shelf_file import ShelfFile
    from edgebone.vision.shelf_stock import Stock, Told

# More than a panel has room for.
_EVENTS_SHOWN = 20


class ShelfOutputs:
    """The files of a run, its events on the standard output, and what is said at its end.

    Args:
        file: The shelf.
        source: Where the frames come from.
        limits: What is taken of them.
        counts: Each frame's counts go there; None for nowhere.
        events: The events likewise.
        append: Keep what these two hold already.
        video: The annotated video.
        json: Print the events, and at the end the stock, as JSON lines.

    Raises:
        OutputError: The video is of no known kind.
    """

    def __init__(
        self,
        file: ShelfFile,
        source: Source,
        limits: Limits,
        counts: Path | None,
        events: Path | None,
        append: bool,
        video: Path | None,
        json: bool = False,
    ) -> None:
        from edgebone.sinks.jsonl import JsonLines
        from edgebone.sinks.video import VideoFileSink

        self._file = file
        self._source = source.name
        self._json = json
        self._counts = JsonLines(counts, append) if counts else None
        self._events = JsonLines(events, append) if events else None
        self._video = VideoFileSink(video, _rate(source, limits), self._draw) if video else None
        self._shown: list[Told] = []
        self._stock: Stock | None = None
        self._frames = 0
        self._told = 0
        self._began_s = time.monotonic()

    def take(self, frame: Frame, stock: Stock, events: list[Told]) -> None:
        """Write a frame's stock, and say what has changed.

        Raises:
            OutputError: It cannot be written.
        """
        import msgspec

        self._stock = stock
        self._frames += 1
        self._told += len(events)
        self._shown = [*self._shown, *events][-_EVENTS_SHOWN:]
        for event in events:
            line = msgspec.json.encode(event.to_dict()) + b"\n"
            if self._json:
                say_json(line)
            else:
                say(f"{event}")
            sys.stdout.flush()
            if self._events:
                self._events.write_line(line)
        if self._counts:
            self._counts.write(frame, stock)
        if self._video:
            # Nothing but the shelf is drawn.
            self._video.write(frame, {})

    def follow(self, file: ShelfFile) -> None:
        """Draw another file's zones from the next frame on."""
        self._file = file

    def _draw(self, image: Any, frame: Frame) -> Any:
        from edgebone.vision.shelf_drawing import draw_shelf

        assert self._stock is not None
        return draw_shelf(image, self._file, self._stock, self._shown, frame.position_s)

    def discard(self) -> None:
        """Leave nothing half-written behind."""
        for sink in (self._counts, self._events, self._video):
            if sink:
                sink.discard()

    def finish(self, shelf: Shelf) -> None:
        """Finish what was written; say what stands there at the end, and what it took.

        Raises:
            OutputError: It cannot be finished.
        """
        import msgspec

        from edgebone.core.writing import as_utf8

        for sink in (self._counts, self._events, self._video):
            if sink:
                sink.close()
        if self._stock and self._json:
            last = {"event": "stock", "source": as_utf8(self._source), "frames": self._frames}
            say_json(msgspec.json.encode({**last, **self._stock.to_dict()}) + b"\n")
        elif self._stock:
            for line in self._stock.lines():
                say(line)
        if self._stock and self._stock.reasons and self._frames < self._file.agree:
            note(
                f"edgebone: {self._frames} frame{'' if self._frames == 1 else 's'} of {self._file.agree} that are "
                "needed; --one-look takes a single look at each facing as enough"
            )
        seconds = time.monotonic() - self._began_s
        skipped = 100 * (1 - shelf.embedded / shelf.looks) if shelf.looks else 0.0
        note(
            f"{self._frames} frame{'' if self._frames == 1 else 's'} in {seconds:.2f} s: "
            f"{self._frames / max(seconds, 1e-9):.1f} fps; {self._told} event{'' if self._told == 1 else 's'}; of "
            f"{shelf.looks} looks at facings {shelf.embedded} went through the network, "
            f"{skipped:.1f} % had not changed"
        )


def _rate(source: Source, limits: Limits) -> float:
    """The annotated video's frames a second."""
    from edgebone.sources.video_rate import rate_of

    own = rate_of(source)
    return min(own / limits.every, limits.max_fps or own)
