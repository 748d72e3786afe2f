"""What a stream needs of the model that looks at its frames."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Manifest
from edgebone.core.results import Results
from edgebone.engines.protocol import AsyncEngine, Outputs
from edgebone.preprocess import Pixels

M = TypeVar("M", bound="Served")


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
        """By head that is apart: one frame out of so many; 0 where it is asked for."""

    @property
    def stream_batch(self) -> int:
        """How many frames a stream gathers for one run."""

    def new_buffer(self) -> Pixels:
        """An input for the least batch."""

    def preprocess(self, images: Sequence[NDArray[Any]], buffer: Pixels) -> list[Geometry]:
        """Fill a buffer from pictures; returns each one's geometry."""

    def takes_frame(self, size_hw: tuple[int, int]) -> bool:
        """Whether BGR frames of a size can go into the graph as they are."""

    def geometry_of(self, size_hw: tuple[int, int]) -> Geometry:
        """Where a frame of this height and width falls in the network's input."""

    def infer(self, buffer: Pixels) -> Outputs:
        """Run on a filled buffer and wait."""

    def submit(self, buffer: Pixels, heads: Collection[str] | None) -> Future[Outputs]:
        """Start on a filled buffer, which must stay unchanged until the future is done."""

    def submit_frames(self, frames: Sequence[NDArray[Any]], heads: Collection[str] | None) -> Future[Outputs]:
        """Start on frames, which must stay unchanged until the future is done."""

    def decode(
        self, outputs: Outputs, geometries: Sequence[Geometry], heads: Sequence[Collection[str] | None] | None
    ) -> list[Results]:
        """From the network's outputs to results, one a geometry."""

    def load_other(self: M, path: str | os.PathLike[str], **options: Any) -> M:
        """Load the bundle that is to take its place."""

    def close(self) -> None:
        """Free the engines."""
