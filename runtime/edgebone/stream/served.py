"""The part of a model that a stream needs."""

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
    """Frames prepared for the model's engine; its other attributes are private to the model."""

    @property
    def geometries(self) -> Sequence[Geometry]:
        """Where each frame lies in the network's input."""


class Served(Protocol):
    """A model as a stream sees it; see :class:`edgebone.Model`."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""

    @property
    def engine(self) -> AsyncEngine:
        """The engine that runs it."""

    @property
    def head_every(self) -> Mapping[str, int]:
        """The rate of each detached head: every N-th frame; 0 for on demand."""

    @property
    def stream_batch(self) -> int:
        """The number of frames that a stream gathers for one run."""

    def new_buffer(self) -> Pixels:
        """Return an input buffer for the smallest batch."""

    def pixels_of(self, frame: Frame) -> NDArray[np.uint8]:
        """Return a frame's decoded pixels in the model's layout."""

    def prepare(self, pictures: Sequence[Frame], buffer: Pixels | None = None) -> Prepared:
        """Convert frames into the network's input; an empty sequence leaves the buffer unchanged."""

    def run(self, prepared: Any) -> Any:
        """Run the network and wait."""

    def start(self, prepared: Any, heads: Collection[str] | None) -> Future[Any]:
        """Start the network; the frames and the buffer must stay unchanged until the future is done."""

    def answers(
        self, geometries: Sequence[Geometry], ran: Any, heads: Sequence[Collection[str] | None] | None
    ) -> list[Results]:
        """Decode a run's outputs into results, one per frame."""

    def load_other(self: M, path: str | os.PathLike[str], **options: Any) -> M:
        """Load the bundle that will replace it."""

    def close(self) -> None:
        """Free the engines."""
