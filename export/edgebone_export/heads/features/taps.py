"""Find the taps of a frozen backbone that heads can read, from the graph's structure instead of names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from edgebone.core.bundle import Bundle
from edgebone.core.manifest import Head, Manifest, Tap
from edgebone.decode.heads import heads_of
from edgebone.tasks import embedding
from edgebone.tasks.classification import CLASSIFICATION
from edgebone.tasks.features import FEATURES
from edgebone_export.errors import ExportError

EMBEDDING = "embedding"
_MAPS = "features_s"
_STRIDES = (2, 4, 8, 16, 32, 64)
_LEAST_CHANNELS = 8
# A class token, a distillation token, up to eight registers.
_MOST_WHOLE_TOKENS = 10
# Operators between the scores and the layer that computes them.
_AFTER_SCORES = frozenset({"Add", "Softmax", "Sigmoid", "Identity", "Cast", "Reshape", "Flatten", "Squeeze"})


def read_graph(proto: onnx.ModelProto) -> ir.Model:
    """Read a graph and infer the shapes and types of its values where possible."""
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def taps_of(bundle: Bundle) -> dict[str, Tap]:
    """Return the taps of a bundle: those in its manifest, or those found in its graph of the highest precision.

    Raises:
        ExportError: The graph has no taps.
    """
    manifest = bundle.manifest
    if manifest.taps:
        return manifest.taps
    model = read_graph(onnx.load_from_string(bundle.read(manifest.variants[reference_variant(manifest)].file)))
    found = find_taps(model, manifest.preprocess.size_hw, manifest.graph_heads)
    if not found:
        raise ExportError(f"{bundle.path}: its graph has no vector and no maps that a head could read")
    return found


def reference_variant(manifest: Manifest) -> str:
    """Return the variant for fingerprints: FP32, or the first if there is none."""
    fp32 = [name for name, item in manifest.variants.items() if item.precision == "fp32"]
    return (fp32 or list(manifest.variants))[0]


def find_taps(model: ir.Model, size_hw: tuple[int, int], heads: Mapping[str, Head]) -> dict[str, Tap]:
    """Find the vector before the scores, and the last maps of each stride.

    The outputs of heads that return an embedding or feature maps are used directly. Otherwise maps are values that all
    later nodes depend on, such as the end of a ResNet's stage; where the graph has branched, as in a detector, they are
    the last values with several readers.

    Args:
        model: A graph from :func:`read_graph`.
        size_hw: Height and width of the network's input, in pixels.
        heads: The heads that read the graph's outputs.

    Returns:
        Taps by name: ``embedding``, and ``features_s8`` for maps of stride 8, finest first.
    """
    values = values_of(model)
    maps: dict[int, ir.Value] = {}
    vector = _vector(model, heads)
    for value in _candidates(model):
        maps[_place(value, size_hw)[0]] = value
    for key, task in heads_of(heads, embedding.EMBEDDING, FEATURES).items():
        for name in heads[key].outputs:
            if task is FEATURES:
                maps[_place(values[name], size_hw)[0]] = values[name]
            else:
                vector = values[name]
    maps.pop(0, None)
    chosen = {f"{_MAPS}{stride}": value for stride, value in maps.items()}
    if vector is not None:
        chosen[EMBEDDING] = vector
    prints = fingerprints(model, [str(value.name) for value in chosen.values()])
    made = {}
    for name, value in chosen.items():
        stride, shape = (0, _sizes(value)) if name == EMBEDDING else _place(value, size_hw)
        made[name] = Tap(str(value.name), shape, prints[str(value.name)], stride)
    return dict(sorted(made.items(), key=lambda item: (item[1].stride or 1 << 20, item[0])))


def values_of(model: ir.Model) -> dict[str, ir.Value]:
    """Return every value that a graph's nodes compute, by name."""
    return {str(value.name): value for node in model.graph for value in node.outputs if value.name}


def fingerprints(model: ir.Model, names: Iterable[str]) -> dict[str, str]:
    """Hash everything that a value depends on: operators, attributes, weights and connections, but no names.

    Args:
        model: The graph.
        names: Names of values.

    Returns:
        Hex SHA-256 by name.
    """
    hashes: dict[int, str] = {}
    wanted = set(names)
    found: dict[str, str] = {}
    for place, value in enumerate(model.graph.inputs):
        hashes[id(value)] = f"input {place} {value.dtype}"
    for node in model.graph:
        own = hashlib.sha256(f"{node.domain}:{node.op_type}".encode())
        for name, attribute in sorted(node.attributes.items()):
            own.update(f"|{name}=".encode() + _attribute_bytes(attribute))
        for taken in node.inputs:
            own.update(b"<" + _input_hash(taken, hashes).encode())
        for place, value in enumerate(node.outputs):
            made = hashlib.sha256(own.digest() + str(place).encode()).hexdigest()
            hashes[id(value)] = made
            if value.name in wanted:
                found[str(value.name)] = made
    return found


def _input_hash(value: ir.Value | None, hashes: dict[int, str]) -> str:
    if value is None:
        return "nothing"
    if id(value) not in hashes:
        constant = value.const_value
        if constant is None:
            return "unknown"
        array = np.ascontiguousarray(constant.numpy())
        digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
        hashes[id(value)] = digest.hexdigest()
    return hashes[id(value)]


def _attribute_bytes(attribute: ir.Attr) -> bytes:
    if attribute.type == ir.AttributeType.TENSOR:
        return bytes(attribute.as_tensor().tobytes())
    return repr(attribute.value).encode()


def _candidates(model: ir.Model) -> Iterator[ir.Value]:
    """Yield candidate maps, the less preferred first: values with several readers, then bottlenecks of the graph."""
    forks: list[ir.Value] = []
    cuts: list[ir.Value] = []
    moving: set[int] = set()
    waiting: dict[int, int] = {}
    for value in model.graph.inputs:
        waiting[id(value)] = len(value.uses())
    outputs = {id(value) for value in model.graph.outputs}
    # Nodes of an import's decoding are named after their output: they read scores, not features.
    decoding = tuple(f"{value.name}/" for value in model.graph.outputs)
    for node in model.graph:
        for taken in dict.fromkeys(node.inputs):
            if taken is not None and id(taken) in waiting:
                waiting[id(taken)] -= sum(1 for item in node.inputs if item is taken)
                if waiting[id(taken)] <= 0 and id(taken) not in outputs:
                    del waiting[id(taken)]
        if not any(value is not None and (value.is_graph_input() or id(value) in moving) for value in node.inputs):
            # A computed constant, which does not depend on the picture.
            continue
        moving.update(id(value) for value in node.outputs)
        own = not (node.name or "").startswith(decoding)
        for value in node.outputs:
            if value.uses() or id(value) in outputs:
                waiting[id(value)] = len(value.uses())
                readers = [use for use in value.uses() if not (use.node.name or "").startswith(decoding)]
                if own and len(readers) > 1:
                    forks.append(value)
                if own and len(waiting) == 1:
                    cuts.append(value)
    yield from forks
    yield from cuts


def _vector(model: ir.Model, heads: Mapping[str, Head]) -> ir.Value | None:
    """Return the input of the last layer before class scores, if it is one vector per picture."""
    scores = [name for key in heads_of(heads, CLASSIFICATION) for name in heads[key].outputs]
    for value in model.graph.outputs:
        node = value.producer()
        while value.name in scores and node is not None:
            before = node.inputs[0]
            if node.op_type in ("Gemm", "MatMul"):
                return before if before is not None and len(_sizes(before)) == 1 else None
            if node.op_type not in _AFTER_SCORES or before is None:
                break
            node = before.producer()
    return None


def _sizes(value: ir.Value) -> tuple[int, ...]:
    """Return the value's shape without the batch; empty if a size is dynamic."""
    sizes = tuple(size for size in value.shape[1:] if isinstance(size, int)) if value.shape is not None else ()
    return sizes if value.shape is not None and len(sizes) == len(value.shape) - 1 else ()


def _place(value: ir.Value, size_hw: tuple[int, int]) -> tuple[int, tuple[int, ...]]:
    """Return stride and (channels, height, width) of a value with maps of the picture; stride 0 for others.

    A transformer's tokens are maps too: one row per patch, after the tokens of the whole picture.
    """
    sizes = _sizes(value)
    for stride in _STRIDES:
        cells_hw = (size_hw[0] / stride, size_hw[1] / stride)
        if len(sizes) == 3 and sizes[0] >= _LEAST_CHANNELS and min(sizes[1:]) > 1:
            if all(abs(have - cells) < 1 for have, cells in zip(sizes[1:], cells_hw, strict=True)):
                return stride, sizes
        elif len(sizes) == 2 and sizes[1] >= _LEAST_CHANNELS and all(cells == int(cells) > 1 for cells in cells_hw):
            height, width = map(int, cells_hw)
            if 0 <= sizes[0] - height * width <= _MOST_WHOLE_TOKENS:
                return stride, (sizes[1], height, width)
    return 0, sizes
