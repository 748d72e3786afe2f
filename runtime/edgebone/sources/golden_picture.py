"""Reads the picture of a bundle's golden input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebone.core.bundle import Bundle
from edgebone.core.errors import BundleError, SourceError
from edgebone.sources.images import read_image


def read_golden_picture(bundle: Bundle) -> NDArray[np.uint8]:
    """Read the picture: uint8, (height, width, 3), BGR.

    Raises:
        BundleError: It cannot be read.
    """
    name = bundle.manifest.golden.image
    try:
        # Not by OpenCV, which allocates whatever chunk length a damaged PNG states.
        return read_image(f"{bundle.path}: {name}", bundle.read(name))
    except SourceError as error:
        raise BundleError(f"{error}; copy or export the bundle again") from error
