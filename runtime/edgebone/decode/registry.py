"""Finds the decoder that a head names and checks the head's settings against it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgebone.core.errors import BundleError, EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head, Manifest
from edgebone.core.results import Result
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder
from edgebone.decode.detections import BoxReader, detector

_MODULES = {
    "anomaly@1": "edgebone.decode.anomaly",
    "boxes@1": "edgebone.decode.boxes",
    "classification@1": "edgebone.decode.classification",
    "detr@1": "edgebone.decode.detr",
    "embedding@1": "edgebone.decode.embedding",
    "features@1": "edgebone.decode.features",
    "multilabel@1": "edgebone.decode.multilabel",
    "raw@1": "edgebone.decode.raw",
    "regression@1": "edgebone.decode.regression",
    "segmentation@1": "edgebone.decode.segmentation",
    "ssd@1": "edgebone.decode.ssd",
    "yolov5@1": "edgebone.decode.yolov5",
    "yolov8@1": "edgebone.decode.yolov8",
    "yolox@1": "edgebone.decode.yolox",
}


def decoder_names() -> list[str]:
    """The decoders that this edgebone knows, as ``name@version``."""
    return sorted(_MODULES)


def make_decoders(manifest: Manifest, **settings: Any) -> dict[str, Decoder]:
    """Build the decoders of all heads, by head name.

    Args:
        manifest: The bundle's manifest.
        **settings: The caller's own values for the decoders' parameters, such as ``top_k``; each goes to the
            heads that have it. None keeps the bundle's value.

    Returns:
        Those of the heads in the network's graph; heads that are apart are read where they run.

    Raises:
        BundleError: Unknown decoder or parameter, outputs that a decoder cannot read, or a setting that none
            of the heads has.
    """
    specs = {spec.name: spec for spec in manifest.outputs}
    given = {key: value for key, value in settings.items() if value is not None}
    unused = set(given)
    decoders = {}
    for name, head in manifest.heads.items():
        own = {key: value for key, value in given.items() if key in setting_names(name, head)}
        unused -= own.keys()
        if head.apart:
            continue
        outputs = [specs[output] for output in head.outputs]
        decoders[name] = make_decoder(name, head, outputs, manifest.preprocess.size_hw, **own)
    if unused:
        heads = ", ".join(f"{name}: {head.decoder}" for name, head in manifest.heads.items())
        raise BundleError(f"no head of this bundle has the setting {', '.join(sorted(unused))} (heads: {heads})")
    return decoders


def make_decoder(
    name: str, head: Head, outputs: Sequence[TensorSpec], size_hw: tuple[int, int], **settings: Any
) -> Decoder:
    """Build the decoder of one head.

    Args:
        name: The head's name, for messages.
        head: The head's entry in the manifest.
        outputs: The head's outputs, batch axis included.
        size_hw: Height and width of the network's input, in pixels.
        **settings: The caller's own values for the decoder's parameters.

    Raises:
        BundleError: Unknown decoder or parameter, or outputs that the decoder cannot read.
    """
    module = _module(name, head)
    params = _params(name, head, settings)
    if is_detector(name, head):
        reader = module.make_reader(name, params, head.labels, tuple(outputs), size_hw)
        return _checked(name, detector(name, params, head.labels, reader), outputs, may_be_empty=True)
    decoder: Decoder = module.make(name, params, head.labels, tuple(outputs), size_hw)
    return _checked(name, decoder, outputs, may_be_empty=False)


def _checked(name: str, decode: Decoder, outputs: Sequence[TensorSpec], may_be_empty: bool) -> Decoder:
    """A decoder that refuses tensors of other shapes than the manifest says: a graph may give what it did not declare.

    Axes that the manifest leaves free have a size of 1 or more; those of detectors, which may find nothing, also 0.
    """

    def checked(tensors: Sequence[NDArray[Any]], geometry: Geometry) -> Result:
        for spec, tensor in zip(outputs, tensors, strict=True):
            wanted, empty = spec.shape[1:], not may_be_empty and 0 in tensor.shape
            if (
                empty
                or len(wanted) != len(tensor.shape)
                or any(isinstance(want, int) and want != have for want, have in zip(wanted, tensor.shape, strict=True))
            ):
                raise EngineError(
                    f"head {name}: the network gave {spec.name} of shape {list(tensor.shape)} a picture, the bundle "
                    f"says {list(wanted)}; export the bundle again"
                )
        return decode(tensors, geometry)

    return checked


def make_box_reader(
    name: str, head: Head, outputs: Sequence[TensorSpec], size_hw: tuple[int, int], **settings: Any
) -> BoxReader:
    """Build what reads boxes out of a detector's outputs, before any suppression; arguments as `make_decoder`."""
    reader: BoxReader = _module(name, head).make_reader(
        name, _params(name, head, settings), head.labels, tuple(outputs), size_hw
    )
    return reader


def is_detector(name: str, head: Head) -> bool:
    """Whether a head's decoder gives boxes."""
    return hasattr(_module(name, head), "make_reader")


def _params(name: str, head: Head, settings: Mapping[str, Any]) -> Any:
    try:
        return msgspec.convert({**head.params, **settings}, _module(name, head).Params)
    except msgspec.ValidationError as error:
        raise BundleError(f"head {name}: {head.decoder} refuses its parameters: {error}") from error


def setting_names(name: str, head: Head) -> set[str]:
    """The parameters that a head's decoder has.

    Raises:
        BundleError: Unknown decoder.
    """
    return {field.name for field in msgspec.structs.fields(_module(name, head).Params)}


def _module(name: str, head: Head) -> ModuleType:
    if head.decoder not in _MODULES:
        raise BundleError(
            f"head {name} needs decoder {head.decoder}, this edgebone has {', '.join(decoder_names())}; "
            "install a newer edgebone"
        )
    return importlib.import_module(_MODULES[head.decoder])
