"""Signatures: vectors by which a picture is found again after it was cut, shrunk, mirrored or compressed.

What pays was measured (``benchmarks/signatures.py``): the whole picture instead of its centre, both ways round, and
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
"""How many pictures in one may be taken for another, if nothing else is asked for."""

_QUALITY = 50


def embed_references(model: Model, pictures: Sequence[NDArray[np.uint8]], head: str | None = None) -> Floats:
    """The vectors that a gallery keeps; a picture that is looked up needs `embed_pictures` with the views `SIGNATURE`.

    Args:
        model: A loaded bundle with an embedding.
        pictures: uint8, height × width × 3, BGR.
        head: The head that gives it; None takes the only one.

    Returns:
        float32, shape (n, 2, d), of length one: of the picture, and of its thumbnail.

    Raises:
        BundleError: There is no such head, or none or several where none is named.
    """
    both = [item for picture in pictures for item in with_thumbnail(model, picture)]
    vectors = embed_pictures(model, both, head, SIGNATURE)
    return vectors.reshape(len(pictures), 2, vectors.shape[1])


def with_thumbnail(model: Model, picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture and its thumbnail, of both of which a gallery of signatures keeps a vector."""
    return picture, thumbnail(picture, min(model.manifest.preprocess.size_hw) // 2)


def thumbnail(picture: NDArray[np.uint8], shorter_px: int) -> NDArray[np.uint8]:
    """A small JPEG of a picture, read again: uint8, height × width × 3, BGR; never larger than the picture."""
    height, width = picture.shape[:2]
    scale = min(1.0, shorter_px / min(height, width))
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)
