"""``npz://FOLDER``: a folder of NumPy's archives, one picture each."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError
from edgebone.core.foreign import foreign
from edgebone.core.frame import Frame

SCHEME = "npz://"


class NpzFolder:
    """Gives the archives of a folder as frames, in the order of their names.

    Args:
        address: ``npz://FOLDER``.

    Raises:
        SourceError: The folder holds no archives.
    """

    # Nothing is lost when nobody reads, and the frames have no times.
    live = False
    in_memory = False
    fps: float | None = None

    def __init__(self, address: str) -> None:
        self._files = sorted(Path(address.removeprefix(SCHEME)).glob("*.npz"))
        if not self._files:
            raise SourceError(f"{address}: there are no .npz files in this folder")
        self._next = 0
        self.name = address
        self.frame_count: int | None = len(self._files)

    def read(self) -> Frame | None:
        """Return the next frame, or None at the end; its pixels are read when they are looked at."""
        if self._next == len(self._files):
            return None
        file, index = self._files[self._next], self._next
        self._next += 1
        return Frame(partial(read_picture, file), index, time.monotonic_ns(), self.name, path=str(file))

    def interrupt(self) -> None:
        """Wake a read that waits; none does."""

    def close(self) -> None:
        """Free what is open; nothing is."""


def read_picture(file: Path) -> NDArray[np.uint8]:
    """Read the array ``image``: uint8, shape (height, width, 3), BGR.

    Raises:
        SourceError: The archive holds no such array; a picture that cannot be read is named, counted and left out.
    """
    with (
        foreign(lambda reason: SourceError(f"{file}: no readable array `image`: {reason}")),
        np.load(file, allow_pickle=False) as archive,
    ):
        image: NDArray[Any] = archive["image"]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise SourceError(f"{file}: a picture is uint8, height x width x 3, not {image.dtype} {list(image.shape)}")
    return image


def open_npz(address: str, **_: Any) -> NpzFolder:
    """Open ``npz://FOLDER``; the entry point names this function."""
    return NpzFolder(address)
