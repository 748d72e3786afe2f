"""Measure how often BF16 returns FP32's answers, which lets a device use BF16 unasked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone.core.boxes import iou_matrix
from edgebone.core.detections import Detections
from edgebone.core.errors import EdgeboneError
from edgebone.core.geometry import Geometry
from edgebone.core.keypoints import keypoint_rows, same_keypoints
from edgebone.core.manifest import Agreement, Head, Manifest, Variant
from edgebone.core.masks import mask_iou
from edgebone.core.oriented import CORNERS, rotated_iou
from edgebone.core.results import Result
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder, spec_of
from edgebone.decode.classification import probabilities
from edgebone.engines.batches import run_all
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.engines.opening import open_model
from edgebone.engines.select import check
from edgebone.engines.spec import Candidate, Fit
from edgebone.engines.table import ROWS, this_machine
from edgebone.tasks.boxed import boxes_of, only_rows
from edgebone.tasks.instances import INSTANCES
from edgebone.tasks.keypoints import KEYPOINTS
from edgebone.tasks.oriented import ORIENTED
from edgebone_export.graphs.edit import at_least, users
from edgebone_export.quantization.dialects import WEIGHTED
from edgebone_export.quantization.emulation import cast_rounding

PRECISION = "bf16"
_ROUNDING = cast_rounding(ir.DataType.BFLOAT16)
# The first opset with casts to BF16.
_CAST_OPSET = 13
# If FP32 itself is in doubt, either answer is correct.
_DOUBT = 0.05
_SCORE, _IOU, _SCORE_WITHIN = 0.5, 0.9, 0.15
# Some of the many boxes and pixels are on an edge; every picture that is not in doubt counts.
_ALL, _MOST = 1.0, 0.99

Outputs = Mapping[str, NDArray[Any]]
_Compare = Callable[[str, Head, Outputs, Outputs, tuple[int, int]], tuple[int, int]]


def with_agreement(manifest: Manifest, graph: bytes, inputs: NDArray[np.uint8], outputs: Outputs) -> Manifest:
    """Add to an FP32 graph's manifest how often BF16 returns the same answers.

    Measured on the first engine that computes in BF16 on this machine, else by rounding every value of the graph.
    Heads that return numbers (embeddings, features, values) have no bound that a device could trust: their bundles have
    no such record, and run in FP32.

    Args:
        manifest: Manifest with one FP32 variant.
        graph: Bytes of its ONNX file.
        inputs: The pictures as the network takes them: uint8 (n, height, width, 3).
        outputs: FP32 outputs by name, each (n, …).
    """
    ((name, variant),) = manifest.variants.items()
    size_hw = manifest.preprocess.size_hw
    if not has_discrete_answers(manifest):
        return manifest
    try:
        found, by = _in_bf16(graph, variant, inputs)
    except EdgeboneError:
        # An engine that cannot run it in BF16 is never asked to.
        return manifest
    agreements = []
    for key, head in manifest.heads.items():
        kind = _kind(key, head)
        assert kind is not None
        compare, least = kind
        same, answers = compare(key, head, found, outputs, size_hw)
        share = same / answers if answers else 0.0
        agreements.append(Agreement(share, least, answers, len(inputs), by))
    worst = min(agreements, key=lambda item: (item.answers > 0, item.share - item.least))
    proved = msgspec.structs.replace(variant, reduced={PRECISION: worst})
    return msgspec.structs.replace(manifest, variants={name: proved})


def has_discrete_answers(manifest: Manifest) -> bool:
    """Return whether all heads return discrete answers, such as classes and boxes."""
    return all(_kind(name, head) is not None for name, head in manifest.heads.items())


def _in_bf16(graph: bytes, variant: Variant, inputs: NDArray[np.uint8]) -> tuple[Outputs, str]:
    """Return the graph's outputs in BF16, and the engine that computed them."""
    machine = this_machine()
    for row in ROWS:
        candidate = Candidate(row.name, PRECISION, variant.file)
        if isinstance(check(candidate, machine), Fit):
            versions = " ".join(machine.packages[name] for name in row.packages if name in machine.packages)
            with open_model(candidate, graph, variant.batch) as engine:
                return run_all(engine, inputs, variant.batch[0]), f"{row.name} {versions}"
    with OnnxRuntimeEngine(rounded(graph)) as engine:
        return run_all(engine, inputs, variant.batch[0]), "every value rounded, under onnxruntime"


def rounded(graph: bytes) -> bytes:
    """Return an FP32 graph with weights, and values that lead to another operator with weights, rounded to BF16.

    Engines compute the nodes after the last one in FP32 too.
    """
    proto = at_least(onnx.load_from_string(graph), _CAST_OPSET, _CAST_OPSET, "the network")
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    weights = [item for item in model.graph.initializers.values() if item.shape is not None and len(item.shape) > 1]
    for value in weights:
        _round(model, value, model.graph[0], before=True)
    nodes = list(model.graph)
    leading: set[ir.Value] = set()
    for node in reversed(nodes):
        if node.op_type in WEIGHTED or leading.intersection(node.outputs):
            leading.update(item for item in node.inputs if item is not None)
    for node in nodes:
        for value in leading.intersection(node.outputs):
            if node.op_type != "Cast":
                _round(model, value, node, before=False)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def _round(model: ir.Model, value: ir.Value, place: ir.Node, before: bool) -> None:
    """Make all readers of a value read it rounded."""
    if value.dtype != ir.DataType.FLOAT:
        return
    readers = users(value)
    nodes = _ROUNDING(model, value)
    for user, index in readers:
        user.replace_input_with(index, nodes[-1].outputs[0])
    (model.graph.insert_before if before else model.graph.insert_after)(place, nodes)


def _classes(name: str, head: Head, have: Outputs, want: Outputs, _: tuple[int, int]) -> tuple[int, int]:
    """Compare pictures whose best class leads clearly."""
    (output,) = head.outputs
    rows = [probabilities(row.astype(np.float32), head.params["activation"]) for row in want[output]]
    best = [np.sort(row)[::-1] for row in rows]
    clear = [len(row) < 2 or row[0] - row[1] > _DOUBT for row in best]
    same = have[output].argmax(axis=1) == want[output].argmax(axis=1)
    return int((same & clear).sum()), int(np.sum(clear))


def _labels(name: str, head: Head, have: Outputs, want: Outputs, _: tuple[int, int]) -> tuple[int, int]:
    """Compare labels whose probability is well off its threshold."""
    (output,) = head.outputs
    activation = head.params.get("activation", "sigmoid")
    thresholds = np.asarray(head.params.get("thresholds") or [0.5] * len(head.labels), np.float32)
    ours, theirs = (
        np.stack([probabilities(row.astype(np.float32), activation) for row in rows[output]]) for rows in (have, want)
    )
    clear = np.abs(theirs - thresholds) > _DOUBT
    same = (ours >= thresholds) == (theirs >= thresholds)
    return int((same & clear).sum()), int(clear.sum())


def _boxes(name: str, head: Head, have: Outputs, want: Outputs, size_hw: tuple[int, int]) -> tuple[int, int]:
    """Compare boxes that are clearly detected in either list, as the runtime shows them."""
    specs = [TensorSpec(item, want[item].dtype.name, ("batch", *want[item].shape[1:])) for item in head.outputs]
    whole = Geometry(size_hw, size_hw, (1.0, 1.0), (0.0, 0.0))
    decode = make_decoder(name, head, specs, size_hw, score=0.01)

    def shown(outputs: Outputs, index: int) -> tuple[Result, Detections]:
        result = decode([outputs[item][index] for item in head.outputs], whole)
        boxes = boxes_of(result)
        assert boxes is not None
        return result, boxes

    same = answers = 0
    for index in range(len(want[head.outputs[0]])):
        ours, theirs = shown(have, index), shown(want, index)
        # A picture with no clear box is compared by its best one.
        least = min(_SCORE, float(theirs[1].confidence.max(initial=0.0)) / 2)
        for (result, looked_for), (other, among) in ((ours, theirs), (theirs, ours)):
            clear = looked_for.confidence >= max(least, 0.01)
            overlap = iou_matrix(looked_for.xyxy[clear], among.xyxy) >= _IOU
            overlap &= looked_for.class_id[clear][:, None] == among.class_id[None]
            overlap &= np.abs(looked_for.confidence[clear][:, None] - among.confidence[None]) <= _SCORE_WITHIN
            overlap &= _same_beside(only_rows(result, clear), other, overlap)
            same, answers = same + int(overlap.any(axis=1).sum()), answers + int(clear.sum())
    return same, answers


def _same_beside(one: Result, other: Result, asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the pairs asked for are the same in what results have beside upright boxes: bool (n, m)."""
    points, others = KEYPOINTS.of(one), KEYPOINTS.of(other)
    if points is not None and others is not None:
        return same_keypoints(keypoint_rows(points), keypoint_rows(others), _IOU, 2)
    areas, other_areas = (None if found is None else found.mask for found in map(INSTANCES.of, (one, other)))
    if areas is not None and other_areas is not None:
        return mask_iou(areas, other_areas, asked) >= _IOU
    turned, others_turned = ORIENTED.of(one), ORIENTED.of(other)
    if turned is not None and others_turned is not None:
        return rotated_iou(turned[CORNERS], others_turned[CORNERS], asked) >= _IOU
    return asked


def _pixels(name: str, head: Head, have: Outputs, want: Outputs, _: tuple[int, int]) -> tuple[int, int]:
    """Compare the class of every pixel."""
    (output,) = head.outputs
    if want[output].dtype.kind == "f":
        have, want = ({output: _best_class(item[output], head)} for item in (have, want))
    return int((have[output] == want[output]).sum()), int(want[output].size)


def _best_class(scores: NDArray[Any], head: Head) -> NDArray[Any]:
    threshold = head.params.get("threshold")
    best: NDArray[Any] = scores.argmax(axis=1) if threshold is None else scores[:, 0] > threshold
    return best


_KINDS: Mapping[str, tuple[_Compare, float]] = MappingProxyType(
    {
        "classification@1": (_classes, _ALL),
        "multilabel@1": (_labels, _ALL),
        "segmentation@1": (_pixels, _MOST),
    }
)


def _kind(name: str, head: Head) -> tuple[_Compare, float] | None:
    """Return how a head's answers are compared and the share that must match; None for numbers."""
    if spec_of(name, head).task.boxes is not None:
        return _boxes, _MOST
    return _KINDS.get(head.decoder)
