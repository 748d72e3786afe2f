"""Readings: pool a backbone's taps to one vector per picture, in a graph of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import onnx
from onnx import TensorProto, helper

from edgebone.core.manifest import Tap
from edgebone.core.near import did_you_mean
from edgebone_export.errors import ExportError
from edgebone_export.heads.features.fitted import OPSET, VECTOR
from edgebone_export.heads.features.taps import EMBEDDING

Pool = Literal["none", "avg", "gem"]
_FINEST_STRIDE = 8
# Generalised mean from Radenović, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation" (2019).
_GEM_POWER = 3.0
_GEM_LEAST = 1e-4


@dataclass(frozen=True)
class Reading:
    """One tap and its pooling to a vector: ``none`` for a vector, the mean or the generalised mean for maps."""

    tap: str
    pool: Pool

    def __str__(self) -> str:
        """Return a text such as ``features_s16:gem``."""
        return self.tap if self.pool == "none" else f"{self.tap}:{self.pool}"


def default_readings(taps: Mapping[str, Tap]) -> tuple[Reading, ...]:
    """Return the default readings: the vector before the scores, and two pools of the maps at strides 8 and 16.

    A network's last maps have lost texture and small print, by which products and defects differ.
    """
    maps = [name for name in taps if taps[name].stride]
    found = [Reading(EMBEDDING, "none")] if EMBEDDING in taps else [Reading(maps[-1], "avg")]
    for name in reversed(maps):
        if _FINEST_STRIDE <= taps[name].stride <= 2 * _FINEST_STRIDE:
            found += [Reading(name, "avg"), Reading(name, "gem")]
    return tuple(dict.fromkeys(found))


def parse_readings(text: str, taps: Mapping[str, Tap]) -> tuple[Reading, ...]:
    """Parse readings such as ``embedding,features_s16:avg,features_s16:gem``.

    Raises:
        ExportError: A tap or pool does not exist.
    """
    found = []
    for word in text.split(","):
        name, _, pool = word.strip().partition(":")
        if name not in taps:
            hint = did_you_mean(name, taps)
            raise ExportError(f"the backbone has no {name or 'tap without a name'}; {hint}it has {', '.join(taps)}")
        pools = ("none",) if not taps[name].stride else ("avg", "gem")
        if (pool or pools[0]) not in pools:
            raise ExportError(f"{name} can be read as {' or '.join(pools)}, not {pool}")
        found.append(Reading(name, pool or pools[0]))  # type: ignore[arg-type]
    return tuple(dict.fromkeys(found))


def width(readings: Sequence[Reading], taps: Mapping[str, Tap]) -> int:
    """Return the total length of the readings."""
    return sum(taps[item.tap].shape[0] for item in readings)


def pooling_graph(readings: Sequence[Reading], taps: Mapping[str, Tap]) -> bytes:
    """Return an ONNX file from taps, by name, to ``vector``: float32 (batch, d), the readings concatenated."""
    output = helper.make_tensor_value_info(VECTOR, TensorProto.FLOAT, ["batch", width(readings, taps)])
    model = helper.make_model(
        helper.make_graph(_pooling_nodes(readings), "pooling", _inputs(readings, taps), [output], _constants()),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    content: bytes = model.SerializeToString()
    return content


def with_pooling(head: bytes, readings: Sequence[Reading], taps: Mapping[str, Tap]) -> bytes:
    """Return a head on ``vector`` joined after its readings, so that its inputs are taps."""
    model = onnx.load_from_string(head)
    nodes = _pooling_nodes(readings)
    inputs = _inputs(readings, taps)
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    own = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *own])
    model.graph.initializer.extend(_constants())
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _inputs(readings: Sequence[Reading], taps: Mapping[str, Tap]) -> list[Any]:
    names = dict.fromkeys(item.tap for item in readings)
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *taps[name].shape]) for name in names]


def _constants() -> list[Any]:
    return [
        helper.make_tensor("pool/axes", TensorProto.INT64, [2], [2, 3]),
        helper.make_tensor("pool/least", TensorProto.FLOAT, [], [_GEM_LEAST]),
        helper.make_tensor("pool/power", TensorProto.FLOAT, [], [_GEM_POWER]),
        helper.make_tensor("pool/root", TensorProto.FLOAT, [], [1 / _GEM_POWER]),
    ]


def _pooling_nodes(readings: Sequence[Reading]) -> list[Any]:
    nodes = []
    parts = []
    for item in readings:
        part = f"pool/{item.tap}/{item.pool}"
        if item.pool == "none":
            parts.append(item.tap)
            continue
        if item.pool == "avg":
            nodes.append(helper.make_node("ReduceMean", [item.tap, "pool/axes"], [part], part, keepdims=0))
        else:
            nodes += [
                helper.make_node("Max", [item.tap, "pool/least"], [f"{part}/floor"], f"{part}/floor"),
                helper.make_node("Pow", [f"{part}/floor", "pool/power"], [f"{part}/cubes"], f"{part}/cubes"),
                helper.make_node(
                    "ReduceMean", [f"{part}/cubes", "pool/axes"], [f"{part}/mean"], f"{part}/mean", keepdims=0
                ),
                helper.make_node("Pow", [f"{part}/mean", "pool/root"], [part], part),
            ]
        parts.append(part)
    # An Identity renames a single part, so that the head's input always has the same name.
    if len(parts) == 1:
        return [*nodes, helper.make_node("Identity", parts, [VECTOR], "pool/vector")]
    return [*nodes, helper.make_node("Concat", parts, [VECTOR], "pool/vector", axis=1)]
