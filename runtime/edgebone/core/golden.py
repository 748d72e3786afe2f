"""The golden sample: the network's input and outputs, recorded in the bundle when it was proved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.bundle import Bundle
from edgebone.core.errors import BundleError
from edgebone.core.foreign import foreign
from edgebone.core.npz import read_npz
from edgebone.core.tensors import Array


@dataclass(frozen=True)
class GoldenSample:
    """The recording; `edgebone.sources.golden_picture` reads the picture that the input was made from.

    Attributes:
        network_input: uint8, (1, height, width, 3).
        outputs: The original network's outputs by name.
    """

    network_input: NDArray[np.uint8]
    outputs: dict[str, Array]


def head_key(head: str, output: str) -> str:
    """Return the name of a detached head's output in a recording."""
    return f"head/{head}/{output}"


def read_golden(bundle: Bundle) -> GoldenSample:
    """Read the recording.

    Raises:
        BundleError: It is not readable, or lacks an output.
    """
    tensors = _read_tensors(bundle, bundle.manifest.golden.tensors)
    names = {spec.name for spec in bundle.manifest.outputs}
    if not ({"input"} | names) <= tensors.keys():
        raise BundleError(f"{bundle.path}: the golden sample is incomplete; export the bundle again")
    shape = (1, *bundle.manifest.preprocess.size_hw, 3)
    if tensors["input"].shape != shape or tensors["input"].dtype != np.uint8:
        raise BundleError(f"{bundle.path}: the golden input is not uint8 of shape {list(shape)}")
    return GoldenSample(tensors["input"], {name: tensors[name] for name in sorted(names)})


def read_recorded(bundle: Bundle, variant: str) -> dict[str, Array]:
    """Read a variant's recorded outputs: its own, if its precision is below FP32.

    Returns:
        Every output by name; outputs of detached heads by :func:`head_key`.

    Raises:
        BundleError: It is not readable, or lacks an output.
    """
    manifest = bundle.manifest
    name = manifest.variants[variant].golden or manifest.golden.tensors
    recorded = _read_tensors(bundle, name)
    recorded.pop("input", None)
    wanted = {spec.name for spec in manifest.outputs}
    wanted |= {
        head_key(key, output) for key, head in manifest.heads.items() if head.detached for output in head.outputs
    }
    if not wanted <= recorded.keys():
        raise BundleError(f"{bundle.path}: {name} has outputs {sorted(recorded)}, should have {sorted(wanted)}")
    return {key: recorded[key] for key in sorted(wanted)}


def _read_tensors(bundle: Bundle, name: str) -> dict[str, Array]:
    content = bundle.read(name)
    with foreign(lambda reason: BundleError(f"{bundle.path}: {name} is not readable: {reason}")):
        arrays = read_npz(content, limits.GOLDEN_BYTES)
    for key, array in arrays.items():
        if array.dtype.kind not in "biuf" or not array.size:
            raise BundleError(
                f"{bundle.path}: {key} in {name} holds no numbers, but {array.dtype} of shape {list(array.shape)}; "
                "export the bundle again"
            )
    return arrays
