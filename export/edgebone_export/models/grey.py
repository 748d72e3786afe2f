"""Weights that convert the runtime's three channels to grey, for networks that take one channel."""

from __future__ import annotations

from edgebone.core.manifest import Preprocess
from edgebone_export.errors import ExportError

# ITU-R BT.601, as Pillow and OpenCV convert red, green and blue to grey.
_RED_GREEN_BLUE = (0.299, 0.587, 0.114)


def grey_weights(preprocess: Preprocess, name: str) -> tuple[float, ...]:
    """Return each channel's weight in grey, in the network's channel order.

    Args:
        preprocess: The network's preprocessing.
        name: The network's name, for messages.

    Raises:
        ExportError: The channels are normalised differently, so that grey would depend on the colour.
    """
    if len(set(preprocess.mean)) > 1 or len(set(preprocess.std)) > 1:
        raise ExportError(
            f"{name} takes one channel: the preprocessing must repeat one mean and one std three times, found "
            f"{list(preprocess.mean)} and {list(preprocess.std)}"
        )
    return _RED_GREEN_BLUE if preprocess.color == "rgb" else _RED_GREEN_BLUE[::-1]
