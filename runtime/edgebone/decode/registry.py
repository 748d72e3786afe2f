"""Finds the decoder that a head names and checks the head's settings against it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import BundleError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head
from edgebone.core.results import Result

Decoder = Callable[[Sequence[NDArray[Any]], Geometry], Result]
"""Takes one picture's outputs, without the batch axis, in the head's order, and the picture's geometry."""

_MODULES = {
    "classification@1": "edgebone.decode.classification",
    "embedding@1": "edgebone.decode.embedding",
    "features@1": "edgebone.decode.features",
}


def decoder_names() -> list[str]:
    """The decoders that this edgebone knows, as ``name@version``."""
    return sorted(_MODULES)


def make_decoder(name: str, head: Head, outputs: Sequence[tuple[int | str, ...]], **settings: Any) -> Decoder:
    """Build the decoder of one head.

    Args:
        name: The head's name, for messages.
        head: The head's entry in the manifest.
        outputs: Shapes of the head's outputs, batch axis included.
        **settings: The caller's own values for the decoder's parameters, such as ``top_k``; those that the
            decoder does not have are refused, and None keeps the bundle's value.

    Raises:
        BundleError: Unknown decoder or parameter, or outputs that the decoder cannot read.
    """
    if head.decoder not in _MODULES:
        raise BundleError(
            f"head {name} needs decoder {head.decoder}, this edgebone has {', '.join(decoder_names())}; "
            "install a newer edgebone"
        )
    module = importlib.import_module(_MODULES[head.decoder])
    params = {**head.params, **{key: value for key, value in settings.items() if value is not None}}
    try:
        parsed = msgspec.convert(params, module.Params)
    except msgspec.ValidationError as error:
        raise BundleError(f"head {name}: {head.decoder} refuses its parameters: {error}") from error
    decoder: Decoder = module.make(name, parsed, head.labels, tuple(outputs))
    return decoder


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """The array as float32, without a copy where it is already."""
    return np.asarray(array, np.float32)
