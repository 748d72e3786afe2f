"""What a stream needs of the model that looks at its frames."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgebone.core.frame import Frame
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Manifest
from edgebone.core.results import Results
from edgebone.engines.protocol import AsyncEngine
from edgebone.preprocess import Pixels

M = TypeVar("M", bound="Served")


class Prepared(Protocol):
    """Frames as the model's engine takes them; what else there is in it is the model's own."""

    @property
    def geometries(self) -> Sequence[Geometry]:
        """Where each frame lies in the network's input."""


class Served(Protocol):
    """A model as a stream sees it; :class:`edgebone.Model` says what each of these does."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""

    @property
    def engine(self) -> AsyncEngine:
        """The engine that runs it."""

    @property
    def head_every(self) -> Mapping[str, int]:
        """By detached head: one frame out of so many; 0 where it is asked for."""

    @property
    def stream_batch(self) -> int:
        """How many frames a stream gathers for one run."""

    def new_buffer(self) -> Pixels:
        """An input for the least batch."""

    def pixels_of(self, frame: Frame) -> NDArray[np.uint8]:
        """A frame's pixels in the layout that the model takes, decoded."""

    def prepare(self, pictures: Sequence[Frame], buffer: Pixels | None = None) -> Prepared:
        """Bring frames into the form that the network takes; none at all leave the buffer as it is."""

    def run(self, prepared: Any) -> Any:
        """Run the network and wait."""

    def start(self, prepared: Any, heads: Collection[str] | None) -> Future[Any]:
        """Start the network; the frames and the buffer must stay unchanged until the future is done."""

    def answers(
        self, geometries: Sequence[Geometry], ran: Any, heads: Sequence[Collection[str] | None] | None
    ) -> list[Results]:
        """From what a run returned to results, one a frame."""

    def load_other(self: M, path: str | os.PathLike[str], **options: Any) -> M:
        """Load the bundle that is to take its place."""

    def close(self) -> None:
        """Free the engines."""
