"""Results to the caller's own function."""

from __future__ import annotations

from collections.abc import Callable

from edgebone.core.frame import Frame
from edgebone.core.results import Results


class CallbackSink:
    """Calls a function with every frame and its result; what it raises ends the run."""

    def __init__(self, function: Callable[[Frame, Results], object]) -> None:
        self._function = function

    def write(self, frame: Frame, result: Results) -> None:
        """Call the function."""
        self._function(frame, result)

    def close(self) -> None:
        """Nothing is held."""

    def discard(self) -> None:
        """Nothing was written."""
