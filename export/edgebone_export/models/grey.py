"""Grey pictures for networks that take one channel, of the three that the runtime gives."""

from __future__ import annotations

from edgebone.core.manifest import Preprocess
from edgebone_export.errors import ExportError

# ITU-R BT.601, as Pillow and OpenCV make grey of red, green and blue.
_RED_GREEN_BLUE = (0.299, 0.587, 0.114)


def shares_of_grey(preprocess: Preprocess, name: str) -> tuple[float, ...]:
    """What each channel counts for, in the network's order.

    Args:
        preprocess: How pictures become the input.
        name: The network's, for messages.

    Raises:
        ExportError: The channels are normalised differently, so that grey would depend on the colour.
    """
    if len(set(preprocess.mean)) > 1 or len(set(preprocess.std)) > 1:
        raise ExportError(
            f"{name} takes one channel: give the preprocessing one mean and one std, three times each, not "
            f"{list(preprocess.mean)} and {list(preprocess.std)}"
        )
    return _RED_GREEN_BLUE if preprocess.color == "rgb" else _RED_GREEN_BLUE[::-1]
