"""Verify that the exported graph matches PyTorch, and that its preprocessing matches the library's."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from edgebone.core.boxes import matched_share
from edgebone.core.compare import FP32, ROWS, Comparison, Difference, compare, comparison_of, values_within
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head, Parity, Preprocess
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder
from edgebone.engines.batches import run_all
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.preprocess import preprocess as fill
from edgebone.tasks.detection import DETECTION
from edgebone_export.errors import ExportError, ParityError
from edgebone_export.models.contract import Backbone, Transform, run_eager

# Boxes below any practical threshold are not compared.
_LEAST_SCORE = 1e-3
# Pillow and torchvision round the same except for rare pixels; a wrong size or filter is off by tens.
_MOST_STEPS = 4
_MOST_MEAN_STEPS = 0.5
# FP32 rounding alone makes outputs differ by about this much.
_SAME = 1e-5

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Reference:
    """Inputs, and PyTorch's outputs for them.

    Attributes:
        uint8: Network inputs as the runtime makes them: (n, height, width, 3).
        floats: The same inputs, normalised, as the original network takes them: float32 (n, 3, height, width).
        outputs: Eager PyTorch's outputs by name, each (n, …).
        comparisons: How outputs are compared, by name; ``values`` if not listed: ``scores`` of classes, whose
            best class is compared too; ``boxes`` (n, k, 6); maps of ``classes``.
        made_by: What computed the outputs, for messages.
    """

    uint8: NDArray[np.uint8]
    floats: NDArray[np.floating]
    outputs: Outputs
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    made_by: str = "PyTorch"


@dataclass(frozen=True)
class PreprocessParity:
    """The runtime's preprocessing compared with the library's own transform, in steps of 255.

    Attributes:
        max_steps: Largest difference of a pixel.
        mean_steps: Mean difference.
        pictures: Number of pictures compared.
    """

    max_steps: float
    mean_steps: float
    pictures: int


def first_pictures(reference: Reference, count: int) -> Reference:
    """Return a reference limited to the first pictures."""
    return replace(
        reference,
        uint8=reference.uint8[:count],
        floats=reference.floats[:count],
        outputs={name: values[:count] for name, values in reference.outputs.items()},
    )


def make_reference(backbone: Backbone, pictures: Sequence[NDArray[np.uint8]]) -> Reference:
    """Preprocess pictures as the runtime does and run them through eager PyTorch.

    Raises:
        ExportError: PyTorch's own outputs are not finite, or the same for every picture.
    """
    spec = backbone.preprocess
    inputs = np.zeros((len(pictures), *spec.size_hw, 3), np.uint8)
    for picture, out in zip(pictures, inputs, strict=True):
        fill(spec, picture, out)
    floats = normalize(spec, inputs)
    outputs = _eager(backbone.module, floats, backbone.outputs)
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise ExportError(f"{backbone.name}: PyTorch itself returns NaN or infinity in {name}; check the weights")
        if len(values) > 1 and np.ptp(values, axis=0).max() <= _SAME * max(float(np.abs(values).max()), 1e-12):
            raise ExportError(
                f"{backbone.name}: PyTorch returns the same {name} for every picture, so a comparison with the "
                "graph would prove nothing; check the weights"
            )
    return Reference(inputs, floats, outputs, comparisons_of(backbone.heads, outputs))


def check_merged(backbone: Backbone, reference: Reference) -> Parity:
    """Compare the network with merged layers with the trained one, both in eager PyTorch.

    Raises:
        ParityError: An output differs; the message names it and the difference.
    """
    assert backbone.merged is not None
    return _compare(_eager(backbone.merged, reference.floats, backbone.outputs), reference)


def _eager(module: torch.nn.Module, floats: NDArray[np.floating], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    rows = [run_eager(module, torch.from_numpy(one[None])) for one in floats]
    return {name: np.concatenate([row[place].numpy() for row in rows]) for place, name in enumerate(names)}


@dataclass(frozen=True)
class DetectionParity:
    """Detections of the runtime's decoder compared with the library's own detector, on the same network inputs.

    Attributes:
        matched: Share of boxes found by both sides, the smaller of both directions, 0 to 1.
        boxes: Number of boxes that the library found.
        pictures: Number of pictures.
    """

    matched: float
    boxes: int
    pictures: int


def check_against_library(backbone: Backbone, reference: Reference) -> DetectionParity:
    """Compare the static form, decoded and suppressed as in the runtime, with the library's own detector.

    Raises:
        ParityError: Less than 99 % of the boxes match.
    """
    from edgebone_export.models.detectors.torchvision_detectors import library_boxes

    assert backbone.library_detector is not None
    ((name, head),) = backbone.heads.items()
    specs = [TensorSpec(item, "float32", ("batch", *reference.outputs[item].shape[1:])) for item in head.outputs]
    size_hw = backbone.preprocess.size_hw
    decode = make_decoder(name, head, specs, size_hw)
    whole = Geometry(size_hw, size_hw, (1.0, 1.0), (0.0, 0.0))
    found, total, boxes = 0.0, 0, 0
    least = float(head.params["score"])
    for index, image in enumerate(reference.floats):
        result = DETECTION.pick(decode([reference.outputs[item][index] for item in head.outputs], whole), name)
        ours = np.column_stack([result.xyxy, result.confidence, result.class_id])
        theirs = library_boxes(backbone.library_detector, torch.from_numpy(image[None]))[0].numpy()
        full = len(theirs) >= int(head.params["max_detections"])
        if full:
            ours = ours[ours[:, 4] >= theirs[:, 4].min()]
        # torchvision lists boxes that were clipped to nothing; the runtime shows none of them, which leaves room for
        # others.
        theirs = theirs[(theirs[:, 2] > theirs[:, 0]) & (theirs[:, 3] > theirs[:, 1])]
        share = matched_share(ours, theirs, min_score=least, full=full)
        weight = max(len(theirs), len(ours))
        found, total, boxes = found + share * weight, total + weight, boxes + len(theirs)
    # An untrained head finds nothing on either side: a match, though it proves little.
    matched = round(found / total, 5) if total else 1.0
    parity = DetectionParity(matched, boxes, len(reference.floats))
    if parity.matched < FP32.matched:
        raise ParityError(
            f"{backbone.name}: only {100 * parity.matched:.1f} % of the boxes match the library's own detector (at "
            f"least {100 * FP32.matched:.0f} % expected)"
        )
    return parity


def comparisons_of(heads: Mapping[str, Head], outputs: Outputs) -> dict[str, Comparison]:
    """Return the comparison of each of the heads' outputs, by output name."""
    return {
        name: comparison_of(head, outputs[name].dtype, outputs[name].ndim)
        for head in heads.values()
        for name in head.outputs
    }


def normalize(spec: Preprocess, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert uint8 (n, h, w, 3) to normalised float32 (n, 3, h, w), as the libraries' transforms do."""
    scaled = inputs.astype(np.float32) / np.float32(255)
    normal = (scaled - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2), np.float32)


def check_graph(graph: bytes, reference: Reference, batch: tuple[int, int]) -> Parity:
    """Compare onnxruntime's outputs of a graph with PyTorch's.

    The graph may take normalised floats or uint8. A dynamic batch is tested at its smallest and its largest
    size.

    Args:
        graph: The ONNX file's bytes.
        reference: Inputs, and PyTorch's outputs for them.
        batch: Smallest and largest batch size.

    Raises:
        ParityError: An output differs; the message names it and the difference.
    """
    with OnnxRuntimeEngine(graph) as engine:
        wanted = engine.inputs[0]
        # An imported network may take bytes with the channels first.
        as_bytes = wanted.dtype == "uint8" and wanted.shape[3] == 3
        inputs = reference.uint8 if as_bytes else reference.floats
        results = [run_all(engine, inputs, size) for size in sorted(set(batch))]
    return _worst([_compare(outputs, reference) for outputs in results])


def rounding_note(backbone: Backbone, reference: Reference) -> str:
    """Return text to append to an error if the network itself magnifies rounding, else an empty string.

    PyTorch is compared with itself in double precision, on the first picture.
    """
    if not {*ROWS, "classes"}.isdisjoint(reference.comparisons.values()):
        # Selections jump, however little the scores differ.
        return ""
    try:
        exact = run_eager(copy.deepcopy(backbone.module).double(), torch.from_numpy(reference.floats[:1]).double())
    except Exception:
        # A network that creates single-precision tensors itself cannot run in double.
        return ""
    worst = max(
        compare(values[:1], output.numpy(), "values", FP32).max_rel or 0.0
        for values, output in zip(reference.outputs.values(), exact, strict=True)
    )
    if not worst > FP32.max_rel:
        return ""
    advice = "; random weights can cause this: pass trained ones" if backbone.weights.name == "random" else ""
    return (
        f"; the network magnifies rounding: in double precision PyTorch's own output differs by {worst:.2g} "
        f"(relative), so no graph can match it{advice}"
    )


def _compare(outputs: Outputs, reference: Reference) -> Parity:
    wanted = reference.outputs
    if outputs.keys() != wanted.keys():
        raise ParityError(f"expected outputs {sorted(wanted)}, found {sorted(outputs)}")
    return _worst([_compare_one(name, outputs[name], reference) for name in wanted])


def _compare_one(name: str, have: NDArray[Any], reference: Reference) -> Parity:
    want, made_by = reference.outputs[name], reference.made_by
    how = reference.comparisons.get(name, "values")
    if have.shape != want.shape:
        raise ParityError(f"output {name} has shape {list(have.shape)}, expected {made_by}'s {list(want.shape)}")
    found = compare(have, want, how, FP32, _LEAST_SCORE)
    if not found.finite:
        raise ParityError(f"output {name} has NaN or infinity where {made_by} has none")
    if found.matched is not None:
        scores = compare(_sorted_scores(have), _sorted_scores(want), "values", FP32)
        if found.matched < FP32.matched:
            raise ParityError(
                f"output {name}: only {100 * found.matched:.1f} % of a picture's boxes match {made_by}'s (at least "
                f"{100 * FP32.matched:.0f} % expected); scores differ by {scores.max_abs:.3g}"
            )
        return _parity(scores, len(have), found.matched, made_by)
    if found.equal is not None:
        equal = found.equal
        if equal < FP32.equal:
            raise ParityError(
                f"output {name}: only {100 * equal:.2f} % of a picture's pixels have {made_by}'s class (at least "
                f"{100 * FP32.equal:g} % expected)"
            )
        return Parity(1 - equal, 1 - equal, equal, len(have), None, equal, made_by)
    # A different best class is no error in itself: within this tolerance only ties can differ.
    if not values_within(found, FP32):
        raise ParityError(
            f"output {name} differs from {made_by}'s by {found.max_abs:.3g} (relative {found.max_rel:.3g}, allowed "
            f"{FP32.max_rel:g}), cosine {found.cosine:.6f} (at least {FP32.cosine})"
        )
    return _parity(found, len(have), None, made_by)


def _parity(found: Difference, pictures: int, matched: float | None, made_by: str) -> Parity:
    """Return the manifest's figures of a comparison."""
    assert found.max_abs is not None and found.max_rel is not None and found.cosine is not None
    return Parity(found.max_abs, found.max_rel, found.cosine, pictures, found.top1, matched, made_by)


def _sorted_scores(boxes: NDArray[Any]) -> NDArray[np.float64]:
    return -np.sort(-boxes[..., 4].astype(np.float64), axis=1)


def _worst(parities: Sequence[Parity]) -> Parity:
    agreements = [item.top1_agreement for item in parities if item.top1_agreement is not None]
    matches = [item.matched for item in parities if item.matched is not None]
    return Parity(
        max_abs=max(item.max_abs for item in parities),
        max_rel=max(item.max_rel for item in parities),
        cosine=min(item.cosine for item in parities),
        pictures=parities[0].pictures,
        top1_agreement=min(agreements) if agreements else None,
        matched=min(matches) if matches else None,
        reference=parities[0].reference,
    )


def check_preprocess(
    spec: Preprocess, transform: Transform, pictures: Sequence[NDArray[np.uint8]], name: str
) -> PreprocessParity:
    """Compare the runtime's preprocessing with the library's own transform.

    Raises:
        ParityError: They differ by more than rounding explains.
    """
    most, means = 0.0, []
    out = np.zeros((*spec.size_hw, 3), np.uint8)
    std = np.asarray(spec.std, np.float32)[:, None, None]
    for picture in pictures:
        fill(spec, picture, out)
        ours = normalize(spec, out[None])[0]
        theirs = transform(Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))).numpy()
        if ours.shape != theirs.shape:
            raise ParityError(
                f"{name}: the library's transform returns {list(theirs.shape)}, the bundle's preprocessing "
                f"{list(ours.shape)}"
            )
        steps = np.abs(ours - theirs) * std * 255
        most = max(most, float(steps.max()))
        means.append(float(steps.mean()))
    parity = PreprocessParity(round(most, 3), round(float(np.mean(means)), 5), len(pictures))
    if parity.max_steps > _MOST_STEPS or parity.mean_steps > _MOST_MEAN_STEPS:
        raise ParityError(
            f"{name}: preprocessing differs from the library's own transform by up to {parity.max_steps} of 255, "
            f"{parity.mean_steps} on average (allowed: {_MOST_STEPS}, {_MOST_MEAN_STEPS})"
        )
    return parity
