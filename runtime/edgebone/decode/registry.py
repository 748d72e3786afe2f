"""The table of decoders, one row each: edgebone's own, and those of packages with entry point ``edgebone.decoders``.

Like an entry point, a row gives the place of a :class:`edgebone.decode.contract.DecoderSpec`, which is imported when a
manifest names it. Packages are searched only if no row has the name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
from numpy.typing import NDArray

from edgebone.core.brought import load_brought, loading, names_brought, who_brings
from edgebone.core.errors import BundleError, EngineError
from edgebone.core.foreign import foreign
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head, Manifest, listed
from edgebone.core.place import load_place
from edgebone.core.results import Result
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, Make

if TYPE_CHECKING:
    from edgebone.decode.detections import BoxReader

ROWS = {
    "anomaly@1": "edgebone.decode.anomaly:SPEC",
    "boxes@1": "edgebone.decode.boxes:SPEC",
    "classification@1": "edgebone.decode.classification:SPEC",
    "depth@1": "edgebone.decode.depth:SPEC",
    "detr@1": "edgebone.decode.detr:SPEC",
    "embedding@1": "edgebone.decode.embedding:SPEC",
    "features@1": "edgebone.decode.features:SPEC",
    "instances@1": "edgebone.decode.prototypes:DECODED",
    "keypoints@1": "edgebone.decode.keypoints:SPEC",
    "multilabel@1": "edgebone.decode.multilabel:SPEC",
    "oriented@1": "edgebone.decode.oriented:SPEC",
    "raw@1": "edgebone.decode.raw:SPEC",
    "regression@1": "edgebone.decode.regression:SPEC",
    "roi-masks@1": "edgebone.decode.roi_masks:SPEC",
    "segmentation@1": "edgebone.decode.segmentation:SPEC",
    "ssd@1": "edgebone.decode.ssd:SPEC",
    "yolov5-seg@1": "edgebone.decode.prototypes:YOLOV5",
    "yolov5@1": "edgebone.decode.yolov5:SPEC",
    "yolov8-obb@1": "edgebone.decode.yolov8_obb:SPEC",
    "yolov8-pose@1": "edgebone.decode.yolov8_pose:SPEC",
    "yolov8-seg@1": "edgebone.decode.prototypes:YOLOV8",
    "yolov8@1": "edgebone.decode.yolov8:SPEC",
    "yolox@1": "edgebone.decode.yolox:SPEC",
}
GROUP = "edgebone.decoders"


def decoder_names() -> list[str]:
    """Return every installed decoder as ``name@version``: edgebone's own first, then those of packages."""
    return [*sorted(ROWS), *(name for name in names_brought(GROUP) if name not in ROWS)]


@functools.cache
def find_spec(decoder: str) -> DecoderSpec | None:
    """Return the decoder of this ``name@version``; None if it is not installed.

    Raises:
        BundleError: The package that provides it is at fault.
    """
    if decoder in ROWS:
        spec: DecoderSpec = load_place(ROWS[decoder])
        return spec
    return _from_package(decoder)


def spec_of(name: str, head: Head) -> DecoderSpec:
    """Return the decoder of a head.

    Raises:
        BundleError: It is not installed, or the package that provides it is at fault.
    """
    found = find_spec(head.decoder)
    if found is None:
        raise BundleError(
            f"head {name} needs decoder {head.decoder}, this edgebone has {', '.join(decoder_names())}; "
            "install a newer edgebone, or the package that provides it"
        )
    return found


def _from_package(decoder: str) -> DecoderSpec | None:
    if decoder not in names_brought(GROUP):
        return None
    about = f"decoder {decoder} of {who_brings(GROUP, decoder)}"
    with loading(GROUP, decoder, about, BundleError):
        spec: DecoderSpec = load_brought(GROUP, decoder, DecoderSpec)
    reader = None if spec.box_reader is None else _guarded_reader(spec.box_reader, about)
    return replace(spec, make=_guarded(spec, about), box_reader=reader)


def _guarded_reader(make_reader: Callable[..., Any], about: str) -> Callable[..., Any]:
    """Wrap a package's ``box_reader``, like :func:`_guarded`."""

    def make(name: str, *arguments: Any) -> Callable[..., Any]:
        with foreign(lambda reason: BundleError(f"head {name}: {about} fails: {reason}")):
            reader = make_reader(name, *arguments)

        def read(*tensors: Any) -> Any:
            with foreign(lambda reason: EngineError(f"head {name}: {about} fails: {reason}")):
                return reader(*tensors)

        return read

    return make


def _guarded(spec: DecoderSpec, about: str) -> Make:
    """Wrap a package's ``make``: its errors and its decoder's become one line that names the package."""

    def make(name: str, *arguments: Any) -> Decoder:
        with foreign(lambda reason: BundleError(f"head {name}: {about} fails: {reason}")):
            decoder = spec.make(name, *arguments)

        def decode(tensors: Sequence[NDArray[Any]], geometry: Geometry) -> Result:
            with foreign(lambda reason: EngineError(f"head {name}: {about} fails: {reason}")):
                result = decoder(tensors, geometry)
                if spec.task.of(result) is None:
                    raise TypeError(f"it returned {type(result).__name__}, not {spec.task.result.__name__}")
                return result

        return decode

    return make


def make_decoders(manifest: Manifest, **settings: Any) -> dict[str, Decoder]:
    """Build the decoders of all heads, by head name.

    Args:
        manifest: The bundle's manifest.
        **settings: The caller's values for the decoders' parameters, such as ``top_k``; each applies to the heads that
            have it. None keeps the bundle's value.

    Returns:
        The decoders of heads in the network's graph; detached heads have their own.

    Raises:
        BundleError: Unknown decoder or parameter, outputs that a decoder cannot read, or a setting that no head has.
    """
    specs = {spec.name: spec for spec in manifest.outputs}
    given = {key: value for key, value in settings.items() if value is not None}
    unused = set(given)
    decoders = {}
    for name, head in manifest.heads.items():
        own = {key: value for key, value in given.items() if key in setting_names(name, head)}
        unused -= own.keys()
        if head.detached:
            continue
        outputs = [specs[output] for output in head.outputs]
        decoders[name] = make_decoder(name, head, outputs, manifest.preprocess.size_hw, **own)
    if unused:
        raise BundleError(
            f"no head of this bundle has the setting {', '.join(sorted(unused))} (heads: {listed(manifest.heads)})"
        )
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
        **settings: The caller's values for the decoder's parameters.

    Raises:
        BundleError: Unknown decoder or parameter, or outputs that the decoder cannot read.
    """
    spec = spec_of(name, head)
    decoder = spec.make(name, _params(name, head, settings), head.labels, tuple(outputs), size_hw)
    return _checked(name, decoder, outputs, spec.may_be_empty)


def _checked(name: str, decode: Decoder, outputs: Sequence[TensorSpec], may_be_empty: bool) -> Decoder:
    """Wrap a decoder to reject tensors whose shapes differ from the manifest: a graph may return undeclared shapes.

    Free axes have a size of at least 1; those of detectors, which may find nothing, also 0.
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
                    f"head {name}: the network returned {spec.name} of shape {list(tensor.shape)} per picture, the "
                    f"bundle says {list(wanted)}; export the bundle again"
                )
        return decode(tensors, geometry)

    return checked


def make_box_reader(
    name: str, head: Head, outputs: Sequence[TensorSpec], size_hw: tuple[int, int], **settings: Any
) -> BoxReader:
    """Build the reader of a detector's boxes before suppression; arguments as `make_decoder`."""
    spec = spec_of(name, head)
    assert spec.box_reader is not None
    reader: BoxReader = spec.box_reader(name, _params(name, head, settings), head.labels, tuple(outputs), size_hw)
    return reader


def _params(name: str, head: Head, settings: Mapping[str, Any]) -> Any:
    try:
        return msgspec.convert({**head.params, **settings}, spec_of(name, head).params)
    except msgspec.ValidationError as error:
        raise BundleError(f"head {name}: {head.decoder} rejects its parameters: {error}") from error


def setting_names(name: str, head: Head) -> set[str]:
    """Return the parameters of a head's decoder.

    Raises:
        BundleError: Unknown decoder.
    """
    return {field.name for field in msgspec.structs.fields(spec_of(name, head).params)}
