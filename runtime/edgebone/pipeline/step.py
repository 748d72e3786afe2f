"""What is done with each frame's results before they go to the sinks."""

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
    """One step of a pipeline; a step of one's own overrides what it needs, :meth:`look` at least.

    A pipeline calls its steps from the thread that runs it, in their order.
    """

    looks_itself = False
    """Whether the step has the model look at parts of frames; nobody has it look at whole ones then, and results are
    empty."""

    def prepare(self, model: Model) -> None:
        """Get ready for a model's results: at the start, and before another model takes its place.

        Results of the model before may still follow.

        Raises:
            EdgeboneError: The model lacks what the step needs; at the start this ends the run, later the model
                before goes on.
        """

    def refresh(self, model: Model) -> None:
        """Take over files of the step's own that have changed; called at each frame, and while none comes.

        Args:
            model: The newest model.
        """

    def look(self, frame: Frame, results: Results, model: Model) -> tuple[Results, Sequence[Event]]:
        """Look at a frame's results.

        Args:
            frame: The frame.
            results: What the model, and the steps before, found in it.
            model: The model that looked at it.

        Returns:
            The results for the steps and sinks that follow, and what happened.
        """
        return results, ()

    def draw(self, image: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
        """Draw onto a frame that is shown: uint8, shape (height, width, 3), BGR.

        Its results are drawn already, but for those that have ``drawn_by_step = True``.
        """
        return image

    files = ""
    """What :meth:`load_again` reads, such as ``zones``; nothing where there is nothing to read."""

    def load_again(self, model: Model) -> None:
        """Read the step's files again, because somebody asked for it.

        Args:
            model: The newest model, which they have to go with.

        Raises:
            EdgeboneError: They cannot be used; the step goes on with what it had.
        """

    def summary(self) -> list[str]:
        """Lines about all frames, for a person, at the end."""
        return []
