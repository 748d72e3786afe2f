"""A step that processes each frame's results before the sinks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.results import Results

if TYPE_CHECKING:
    from edgebone.model.model import Model


class Step:
    """One step of a pipeline; subclasses override what they need, at least :meth:`look`.

    A pipeline calls its steps from its own thread, in order.
    """

    looks_itself = False
    """Whether the step runs the model on parts of frames; then it never runs on whole ones, and results are empty."""

    def prepare(self, model: Model) -> None:
        """Prepare for a model's results: at the start, and before another model replaces it.

        Results of the previous model may still follow.

        Raises:
            EdgeboneError: The model lacks what the step needs; at the start this ends the run, later the previous model
                stays.
        """

    def refresh(self, model: Model) -> None:
        """Reload the step's files that have changed; called at each frame, and regularly without frames.

        Args:
            model: The newest model.
        """

    def look(self, frame: Frame, results: Results, model: Model) -> tuple[Results, Sequence[Event]]:
        """Process a frame's results.

        Args:
            frame: The frame.
            results: The results of the model and of the previous steps.
            model: The model that made them.

        Returns:
            The results for the following steps and sinks, and events.
        """
        return results, ()

    def draw(self, image: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
        """Draw onto a frame for display: uint8, shape (height, width, 3), BGR.

        Its results are drawn already, except those that have ``drawn_by_step = True``.
        """
        return image

    files = ""
    """The name of the file that :meth:`load_again` reads, such as ``zones``; empty if there is none."""

    def load_again(self, model: Model) -> None:
        """Reload the step's files on request.

        Args:
            model: The newest model, which they must fit.

        Raises:
            EdgeboneError: They cannot be used; the step keeps the previous ones.
        """

    def summary(self) -> list[str]:
        """Return summary lines about all frames, for people."""
        return []

    def close(self) -> None:
        """Free what the step opened; called by whoever made it, after its last run."""
