"""Signatures: vectors that find a picture again after it was cropped, shrunk, mirrored or compressed.

The choices were measured (``benchmarks/signatures.py``): the whole picture instead of its centre, also mirrored, and
for each reference a second vector of its thumbnail, which is nearer to small and badly compressed copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.gallery.embedding import embed_pictures
from edgebone.gallery.vectors import Floats
from edgebone.gallery.views import SIGNATURE
from edgebone.model.model import Model

FALSE_MATCH_RATE = 0.001
"""The default share of pictures that may be mistaken for another."""

_QUALITY = 50


def embed_references(model: Model, pictures: Sequence[NDArray[np.uint8]], head: str | None = None) -> Floats:
    """Compute the vectors to enrol; to look a picture up, use `embed_pictures` with the views `SIGNATURE`.

    Args:
        model: A loaded bundle with an embedding.
        pictures: uint8, height × width × 3, BGR.
        head: The head that computes it; None for the only one.

    Returns:
        Unit vectors, float32, shape (n, 2, d): of the picture and of its thumbnail.

    Raises:
        BundleError: No such head, or none is named and the bundle has none or several.
    """
    both = [item for picture in pictures for item in with_thumbnail(model, picture)]
    vectors = embed_pictures(model, both, head, SIGNATURE)
    return vectors.reshape(len(pictures), 2, vectors.shape[1])


def with_thumbnail(model: Model, picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a picture and its thumbnail; a gallery of signatures keeps a vector of each."""
    return picture, thumbnail(picture, min(model.manifest.preprocess.size_hw) // 2)


def thumbnail(picture: NDArray[np.uint8], shorter_px: int) -> NDArray[np.uint8]:
    """Return a picture shrunk and JPEG-compressed: uint8, height × width × 3, BGR; never larger than the picture."""
    height, width = picture.shape[:2]
    scale = min(1.0, shorter_px / min(height, width))
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)
