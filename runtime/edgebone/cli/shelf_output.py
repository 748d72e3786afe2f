"""Prints the output of ``edgebone shelf``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from edgebone.cli.output import note, say, say_json

if TYPE_CHECKING:
    from edgebone.core.event import Event
    from edgebone.pipeline import Stocktaking, Summary


class EventPrinter:
    """Prints events as they occur, and counts them.

    Args:
        json: Print JSON lines instead of text.
    """

    def __init__(self, json: bool) -> None:
        from edgebone.sinks.callback import CallbackSink

        self.json = json
        self.printed = 0
        self.began_s = time.monotonic()
        self.sink = CallbackSink(event=self._print)

    def _print(self, event: Event) -> None:
        self.printed += 1
        if self.json:
            from edgebone.sinks.jsonl import event_line

            say_json(event_line(event))
        else:
            say(f"{event}")
        sys.stdout.flush()


def print_end(done: Summary, step: Stocktaking, printer: EventPrinter) -> None:
    """Print the final stock and the run's figures."""
    frames, stock, shelf = done.stats.frames, step.stock, step.shelf
    if stock and printer.json:
        import msgspec

        from edgebone.core.writing import as_utf8

        last = {"event": "stock", "source": as_utf8(done.stats.sources[0].name), "frames": frames}
        say_json(msgspec.json.encode({**last, **stock.to_dict()}) + b"\n")
    else:
        for line in done.lines:
            say(line)
    if stock and stock.reasons and frames < shelf.file.agree:
        note(
            f"edgebone: {_counted(frames, 'frame')} of {shelf.file.agree} required; --one-look needs only a single "
            "look at each facing"
        )
    seconds = time.monotonic() - printer.began_s
    skipped = 100 * (1 - shelf.embedded / shelf.looks) if shelf.looks else 0.0
    note(
        f"{_counted(frames, 'frame')} in {seconds:.2f} s: {frames / max(seconds, 1e-9):.1f} fps; "
        f"{_counted(printer.printed, 'event')}; of {shelf.looks} looks at facings {shelf.embedded} went through the "
        f"network, {skipped:.1f} % had not changed"
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
