"""Pictures to verify an export on: the user's own, or synthetic ones with the statistics of photographs."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame
from edgebone.sources import open_source
from edgebone.sources.undamaged import undamaged

_log = logging.getLogger("edgebone.sources")

COUNT = 8
_SIZES_HW = (
    (480, 640),
    (720, 1280),
    (333, 500),
    (640, 480),
    (500, 375),
    (1080, 1920),
    (256, 256),
    (600, 800),
)

Picture = NDArray[np.uint8]


def sample_pictures(folder: Path | None) -> tuple[list[Picture], str]:
    """Return pictures to verify on, and a description of their origin.

    Args:
        folder: Folder of the user's pictures; the first eight readable ones are used.

    Returns:
        uint8 arrays of shape (height, width, 3), BGR.

    Raises:
        SourceError: The folder has no pictures, or none can be read.
    """
    if folder is None:
        rng = np.random.default_rng(0)
        return [synthesize(size_hw, rng) for size_hw in _SIZES_HW[:COUNT]], "made, with the spectrum of photographs"
    source = open_source(folder)
    pictures: list[Picture] = []
    with contextlib.closing(source):
        for _, image in undamaged(source, lambda _: True, _warn_skipped):
            pictures.append(image)
            if len(pictures) == COUNT:
                break
    return pictures, f"the first {len(pictures)} of {folder}"


def _warn_skipped(frame: Frame, error: SourceError) -> None:
    if frame.path is not None:
        _log.warning("left out: %s", error)


def synthesize(size_hw: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Make a picture with a photograph's statistics: amplitudes that fall with frequency, colours, hard edges.

    White noise would be averaged away by the first resize, and a flat colour would excite no filter. Natural
    pictures' amplitude spectra fall as 1/f: D. J. Field, "Relations between the statistics of natural images
    and the response properties of cortical cells", J. Opt. Soc. Am. A 4, 1987.

    Args:
        size_hw: Height and width in pixels.
        rng: Random generator.
    """
    height, width = size_hw
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    planes = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * rng.random(frequency.shape))
        plane = np.fft.irfft2(phase / frequency, s=size_hw)
        planes.append((plane - plane.mean()) / plane.std())
    # A photograph's colour planes are correlated: most of each is the common brightness.
    brightness = planes[0]
    tinted = np.stack([0.8 * brightness + 0.4 * plane for plane in planes], axis=-1)
    image = np.clip(118 + 52 * tinted, 0, 255).astype(np.uint8)
    for _ in range(6):
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        radius = int(rng.integers(height // 20 + 1, height // 5 + 2))
        if rng.random() < 0.5:
            cv2.circle(image, center, radius, color, -1, cv2.LINE_AA)
        else:
            corner = (center[0] + radius, center[1] + 2 * radius)
            cv2.rectangle(image, center, corner, color, -1)
    return np.asarray(image, np.uint8)
