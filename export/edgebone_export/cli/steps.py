"""The step under way, for commands that take a while."""

from __future__ import annotations

import time
from types import TracebackType

from edgebone.cli.output import as_shown, note


class Steps:
    """Shows the step under way: a spinner on a terminal, a line a step elsewhere, both on stderr."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("")
        self._started_s = time.monotonic()
        self._step = ""

    def begin(self, step: str) -> None:
        """Name the step that begins."""
        self._step = step
        elapsed_s = time.monotonic() - self._started_s
        if self._console.is_terminal:
            self._status.update(as_shown(f"{step} ({elapsed_s:.0f} s)"))
        else:
            note(f"{elapsed_s:5.1f} s  {step}")

    def count(self, done: int, of: int) -> None:
        """How far the step is; a terminal only, as lines would be too many."""
        if self._console.is_terminal:
            elapsed_s = time.monotonic() - self._started_s
            self._status.update(as_shown(f"{self._step}: {done} of {of} ({elapsed_s:.0f} s)"))

    def __enter__(self) -> Steps:
        """Start the spinner."""
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the spinner."""
        if self._console.is_terminal:
            self._status.stop()
