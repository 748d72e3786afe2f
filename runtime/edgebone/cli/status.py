"""The live status line and the final line of a run."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from edgebone.core.terminal import printable

if TYPE_CHECKING:
    from edgebone.core.results import Results
    from edgebone.model.model import Model
    from edgebone.stream.stats import StreamStats
    from edgebone.stream.stream import Stream

_EVERY_S = 0.25


def summary(stats: StreamStats) -> str:
    """Return the figures of a stream in one line."""
    dropped = f", {stats.dropped} dropped" if stats.dropped else ""
    plural = "" if stats.frames == 1 else "s"
    damaged = sum(source.damaged for source in stats.sources)
    dropped += f", {damaged} damaged" if damaged else ""
    return (
        f"{stats.frames} frame{plural} in {stats.seconds:.2f} s: {stats.fps:.1f} fps{dropped}; p50/p99 ms: "
        f"pre {stats.pre.p50_ms:.2f}/{stats.pre.p99_ms:.2f}, "
        f"infer {stats.infer.p50_ms:.2f}/{stats.infer.p99_ms:.2f}, "
        f"decode {stats.decode.p50_ms:.2f}/{stats.decode.p99_ms:.2f}, "
        f"age {stats.age.p50_ms:.1f}/{stats.age.p99_ms:.1f}"
    )


class StatusLine:
    """One line on a terminal that is rewritten a few times a second; nothing in a pipe.

    Args:
        total: The expected number of frames; 0 if unknown.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._shows = sys.stderr.isatty()
        self._next_s = 0.0

    def show(self, stream: Stream[Model], result: Results) -> None:
        """Rewrite the line, if it is time to."""
        now_s = time.monotonic()
        if not self._shows or now_s < self._next_s:
            return
        from rich.console import Console

        from edgebone.core.results import results_to_text

        self._next_s = now_s + _EVERY_S
        stats = stream.stats
        of = f"/{self._total}" if self._total else ""
        away = [source for source in stats.sources if source.state in ("CONNECTING", "STALLED", "RECONNECTING")]
        states = f"{len(stats.sources) - len(away)} of {len(stats.sources)} sources live  " if away else ""
        text = (
            f"{states}{stats.frames}{of}  {stats.fps:.1f} fps  age p50 {stats.age.p50_ms:.1f} p99 "
            f"{stats.age.p99_ms:.1f} ms  dropped {stats.dropped}  {printable(results_to_text(result))}"
        )
        width = Console(stderr=True).width
        sys.stderr.write(f"\r\x1b[2K{text[: width - 1]}")
        sys.stderr.flush()

    def __enter__(self) -> StatusLine:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the line."""
        self.clear()

    def clear(self) -> None:
        """Clear the line before other output."""
        if self._shows:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
