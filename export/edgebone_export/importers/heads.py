"""Match the user's description of the heads with the file's outputs and metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import BundleError
from edgebone.core.manifest import Head
from edgebone.core.near import did_you_mean
from edgebone.core.tensors import TensorSpec
from edgebone.decode import find_spec, make_decoder
from edgebone.decode.registry import ROWS
from edgebone_export.errors import ExportError
from edgebone_export.importers.arrange import (
    COLUMNS,
    CORNERS,
    BatchFirst,
    Flatten,
    Rows,
    Scale,
    Step,
    Unit,
    in_numbers,
    parse_columns,
)
from edgebone_export.importers.keypoint_settings import keypoint_settings
from edgebone_export.importers.publishers import ANY, FileMetadata


@dataclass(frozen=True)
class HeadSpec:
    """The user's description of one head.

    Attributes:
        decoder: The decoder's name, without its version; ``yolo-end2end`` reads rows that need no suppression.
        outputs: Graph outputs that the head reads; empty selects the output with the head's name, else all.
        labels: Class names; None takes them from the file's metadata.
        params: The decoder's settings, and the layout of its outputs: ``batch_axis`` of any output, ``unit``
            (``pixels`` or ``relative``) of boxes, ``columns`` of rows.
    """

    decoder: str
    outputs: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kind:
    """A decoder under the name that users type.

    Attributes:
        decoder: The runtime's name of the decoder.
        head: Default name of the head.
        params: Default settings of its family.
        needs_labels: Whether it has classes.
        vector: Whether it reads one vector per picture.
        written: Settings that describe the layout of its outputs.
    """

    decoder: str
    head: str
    params: Mapping[str, Any] = field(default_factory=dict)
    needs_labels: bool = True
    vector: bool = False
    written: tuple[str, ...] = ()


_KINDS = {
    # Each family's own thresholds: YOLOX's evaluation, ultralytics' and yolov5's predict, none for DETR.
    "yolox": _Kind("yolox@1", "detections", {"score": 0.25, "iou": 0.65}),
    "yolov5": _Kind("yolov5@1", "detections", {"score": 0.25, "iou": 0.45}, written=("unit",)),
    "yolov8": _Kind("yolov8@1", "detections", {"score": 0.25, "iou": 0.7}, written=("unit",)),
    "yolo-end2end": _Kind("boxes@1", "detections", {"score": 0.25, "iou": None}, written=("columns", "unit")),
    "yolov5-seg": _Kind("yolov5-seg@1", "instances", {"score": 0.25, "iou": 0.45}),
    "yolov8-seg": _Kind("yolov8-seg@1", "instances", {"score": 0.25, "iou": 0.7}),
    "yolo-end2end-seg": _Kind("instances@1", "instances", {"score": 0.25, "iou": None}),
    "detr": _Kind("detr@1", "detections", {"score": 0.5, "iou": None}, written=("columns", "unit")),
    "yolov8-pose": _Kind("yolov8-pose@1", "keypoints", {"score": 0.25, "iou": 0.7}),
    "yolo-end2end-pose": _Kind("keypoints@1", "keypoints", {"score": 0.25, "iou": None}),
    "yolov8-obb": _Kind("yolov8-obb@1", "oriented", {"score": 0.25, "iou": 0.7}),
    "yolo-end2end-obb": _Kind("oriented@1", "oriented", {"score": 0.25, "iou": None}),
    "ssd": _Kind("ssd@1", "detections", {"score": 0.5, "iou": 0.45}),
    "classification": _Kind("classification@1", "classification", vector=True),
    "multilabel": _Kind("multilabel@1", "labels", vector=True),
    "regression": _Kind("regression@1", "values", vector=True),
    "segmentation": _Kind("segmentation@1", "segmentation"),
    "depth": _Kind("depth@1", "depth", needs_labels=False),
    "embedding": _Kind("embedding@1", "embedding", needs_labels=False, vector=True),
    "features": _Kind("features@1", "features", needs_labels=False),
    "raw": _Kind("raw@1", "raw", needs_labels=False),
}
DECODERS = tuple(_KINDS)


@dataclass(frozen=True)
class MatchedHeads:
    """The heads, and the outputs in the form that they read.

    Attributes:
        heads: Heads by name.
        outputs: Outputs that heads read, by name, (n, …), after the steps.
        steps: Steps that convert the file's own outputs to this form.
    """

    heads: dict[str, Head]
    outputs: dict[str, NDArray[Any]]
    steps: tuple[Step, ...]


def name_heads(stated: Mapping[str, HeadSpec] | HeadSpec) -> dict[str, HeadSpec]:
    """Return the heads by name; a single head is named after its kind.

    Raises:
        ExportError: A decoder does not exist.
    """
    named = {"": stated} if isinstance(stated, HeadSpec) else stated
    return {name or _kind(spec.decoder).head: spec for name, spec in named.items()}


def is_instances(head: Head) -> bool:
    """Return whether a head's masks are sums of the prototypes in its second output."""
    return head.decoder in ("yolov5-seg@1", "yolov8-seg@1", "instances@1")


def _kind(decoder: str) -> _Kind:
    """Return a decoder by its short name, or by the ``name@version`` of one from an installed package."""
    if decoder in _KINDS:
        return _KINDS[decoder]
    spec = None if decoder in ROWS else find_spec(decoder)
    if spec is None:
        meant = did_you_mean(decoder, DECODERS)
        raise ExportError(f"no decoder {decoder}; {meant}choose {', '.join(DECODERS)}")
    return _Kind(decoder, spec.task.name, needs_labels=spec.task.has_labels)


def read_heads(
    stated: Mapping[str, HeadSpec],
    single: bool,
    runs: Mapping[str, Sequence[NDArray[Any]]],
    batch: int,
    pictures: int,
    said: FileMetadata,
    size_hw: tuple[int, int],
) -> MatchedHeads:
    """Find the outputs that each head reads; build each decoder once to check that it fits.

    Args:
        stated: The user's descriptions, by head name.
        single: Whether the user described one head without a name.
        runs: The file's own outputs by name, one array per run.
        batch: Pictures in a run.
        pictures: Number of pictures; the last run may be padded.
        said: The file's metadata.
        size_hw: Height and width of the network's input, in pixels.

    Raises:
        ExportError: A head does not fit the outputs, its outputs are ambiguous, or it contradicts the file's
            metadata.
    """
    plans = {name: _plan(name, spec, runs, single, said) for name, spec in stated.items()}
    axes: dict[str, int | None] = {}
    for name, plan in plans.items():
        for output in plan.outputs:
            if axes.setdefault(output, plan.batch_axis) != plan.batch_axis:
                raise ExportError(f"head {name}: another head has a different batch_axis for output {output}")
    outputs = {name: _batch_first(name, runs[name], axis, batch)[:pictures] for name, axis in axes.items()}
    steps: list[Step] = [BatchFirst(name, axis, runs[name][0].shape) for name, axis in axes.items() if axis != 0]
    heads = {}
    for name, plan in plans.items():
        own = [step for step in _steps(name, plan, outputs, size_hw) if step not in steps]
        outputs, steps = in_numbers(own, outputs), [*steps, *own]
        rows = next((step for step in own if isinstance(step, Rows)), None)
        head = Head(
            "boxes@1" if rows else plan.kind.decoder, (rows.result,) if rows else plan.outputs, plan.labels, plan.params
        )
        _try(name, head, outputs, size_hw)
        if head.decoder == "classification@1" and len(plan.labels) == 1 and plan.params["activation"] == "softmax":
            raise ExportError(
                f"head {name}: a softmax over one class is always 100 %; say what the number means: a score that needs "
                "a sigmoid (--decoder multilabel), a probability (--set activation=none with it), or a value "
                "(--decoder regression)"
            )
        heads[name] = head
    used = {output for head in heads.values() for output in head.outputs}
    return MatchedHeads(heads, {name: values for name, values in outputs.items() if name in used}, tuple(steps))


@dataclass(frozen=True)
class _Plan:
    kind: _Kind
    outputs: tuple[str, ...]
    labels: tuple[str, ...]
    params: dict[str, Any]
    batch_axis: int | None
    columns: Any
    unit: Unit | None


def _plan(
    name: str, spec: HeadSpec, runs: Mapping[str, Sequence[NDArray[Any]]], single: bool, said: FileMetadata
) -> _Plan:
    kind = _kind(spec.decoder)
    if said.decoders and spec.decoder not in said.decoders:
        raise ExportError(
            f"head {name}: the file's own metadata ({said.publisher}) has task {said.task}, read by "
            f"{', '.join(said.decoders)}, not by {spec.decoder}"
        )
    labels = said.labels if spec.labels is None else spec.labels
    if kind.needs_labels:
        if not labels:
            raise ExportError(f"head {name}: {spec.decoder} needs class names: --labels FILE, one name per line")
        if said.labels is not None and len(labels) != len(said.labels):
            raise ExportError(
                f"head {name}: {len(labels)} class names given, but the file's own metadata ({said.publisher}) has "
                f"{len(said.labels)}"
            )
    own = {} if spec.decoder in ANY else said.settings
    params = {**kind.params, **own, **spec.params}
    axis = params.pop("batch_axis", 0)
    if axis is not None and (not isinstance(axis, int) or isinstance(axis, bool) or axis < 0):
        raise ExportError(f"head {name}: batch_axis must be 0 or more, or null for no batch axis; found {axis}")
    written = {key: params.pop(key) for key in kind.written if key in params}
    unit = written.get("unit")
    if unit not in (None, *get_args(Unit)):
        raise ExportError(f"head {name}: unit must be pixels or relative, found {unit}")
    names = tuple(labels or ()) if kind.needs_labels else ()
    if kind.decoder == "depth@1" and "unit" not in params:
        raise ExportError(
            f"head {name}: say what the numbers are: --set unit=metres (distances from the camera) or --set "
            "unit=relative (larger is nearer, as MiDaS, DPT and Depth Anything return)"
        )
    if kind.head == "keypoints":
        params = keypoint_settings(name, params, names, said)
    if kind.decoder == "regression@1":
        params, names = {"names": list(names), **params}, ()
    outputs = _output_names(name, spec, kind, {key: values[0] for key, values in runs.items()}, single)
    return _Plan(kind, outputs, names, params, axis, written.get("columns"), unit)


def _steps(name: str, plan: _Plan, outputs: Mapping[str, NDArray[Any]], size_hw: tuple[int, int]) -> list[Step]:
    """Return the steps that convert a head's outputs to the form that its decoder reads."""
    steps: list[Step] = []
    first = outputs[plan.outputs[0]]
    if plan.kind.vector:
        shapes = {item: outputs[item].shape[1:] for item in plan.outputs}
        return [Flatten(item) for item, shape in shapes.items() if len(shape) != 1 and sum(n > 1 for n in shape) <= 1]
    if plan.kind.decoder == "boxes@1":
        columns = COLUMNS if plan.columns is None else parse_columns(plan.columns, 6, name)
        rows = Rows(plan.outputs, columns, plan.unit or "pixels", size_hw, f"{name}_boxes")
        _try(name, Head("boxes@1", plan.outputs, plan.labels, plan.params), outputs, size_hw)
        return [rows] if rows.changes else []
    if plan.kind.decoder == "detr@1" and len(plan.outputs) == 3:
        columns = CORNERS if plan.columns is None else parse_columns(plan.columns, 4, name)
        shapes_ = [outputs[item].shape for item in plan.outputs]
        if [len(shape) for shape in shapes_] != [2, 3, 2] or len({shape[1] for shape in shapes_}) > 1:
            raise ExportError(
                f"head {name}: expected classes [batch, k], boxes [batch, k, 4] and scores [batch, k] in this order, "
                f"found {_listed({item: outputs[item] for item in plan.outputs})}"
            )
        return [Rows(plan.outputs, columns, plan.unit or "pixels", size_hw, f"{name}_boxes")]
    if plan.kind.decoder == "detr@1" and (plan.columns is not None or plan.unit == "pixels"):
        raise ExportError(
            f"head {name}: columns and unit apply to classes, boxes and scores in three outputs; boxes beside logits "
            "are cx,cy,width,height, relative"
        )
    if plan.unit == "relative" and plan.kind.decoder in ("yolov5@1", "yolov8@1") and first.ndim == 3:
        axis = 2 if plan.kind.decoder == "yolov5@1" else 1
        steps.append(Scale(plan.outputs[0], axis, first.shape[axis], size_hw))
    return steps


def _try(name: str, head: Head, outputs: Mapping[str, NDArray[Any]], size_hw: tuple[int, int]) -> None:
    try:
        make_decoder(name, head, specs_of(head.outputs, outputs), size_hw)
    except BundleError as error:
        raise ExportError(str(error)) from error


def specs_of(names: Sequence[str], outputs: Mapping[str, NDArray[Any]]) -> list[TensorSpec]:
    """Return the outputs' specs with a dynamic batch."""
    return [TensorSpec(name, outputs[name].dtype.name, ("batch", *outputs[name].shape[1:])) for name in names]


def _listed(outputs: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{key} {list(values.shape[1:])}" for key, values in outputs.items())


def _output_names(
    name: str, spec: HeadSpec, kind: _Kind, outputs: Mapping[str, NDArray[Any]], single: bool
) -> tuple[str, ...]:
    """Return the outputs that a head reads, in its decoder's order."""
    listed = _listed(outputs)
    unknown = [item for item in spec.outputs if item not in outputs]
    if unknown:
        raise ExportError(f"head {name}: no output {', '.join(unknown)}; the file has {listed}")
    if spec.outputs:
        return spec.outputs
    if not single:
        if name not in outputs:
            raise ExportError(
                f"head {name}: name the outputs that it reads: {name}={spec.decoder}:OUTPUT,…; the file has {listed}"
            )
        return (name,)
    if kind.decoder in ("detr@1", "ssd@1") and len(outputs) == 2:
        # The output with four values per row has the boxes, wherever the file lists it.
        boxes = [key for key, values in outputs.items() if values.shape[-1:] == (4,)]
        if len(boxes) == 2:
            raise ExportError(
                f"head {name}: {' and '.join(boxes)} both have four values per row, so either could be the boxes; "
                f"name the class scores first: --decoder {name}={spec.decoder}:{','.join(boxes)}, or "
                f"--decoder {name}={spec.decoder}:{','.join(reversed(boxes))}"
            )
        if len(boxes) == 1:
            return (*(key for key in outputs if key not in boxes), *boxes)
    if kind.head == "instances":
        # Prototypes have four axes, wherever the file lists them.
        return tuple(sorted(outputs, key=lambda key: outputs[key].ndim))
    if kind.decoder == "detr@1" and len(outputs) == 3:
        return _classes_boxes_scores(name, outputs)
    return tuple(outputs)


def _classes_boxes_scores(name: str, outputs: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """Return the three outputs of RT-DETR's deployed form in order, identified by types and shapes alone."""
    classes = [key for key, values in outputs.items() if values.ndim == 2 and values.dtype.kind in "iu"]
    boxes = [key for key, values in outputs.items() if values.ndim == 3 and values.shape[-1] == 4]
    scores = [key for key, values in outputs.items() if values.ndim == 2 and values.dtype.kind == "f"]
    if [len(classes), len(boxes), len(scores)] != [1, 1, 1]:
        raise ExportError(
            f"head {name}: the file has {_listed(outputs)}; name the classes, boxes and scores, or "
            f"the logits and boxes: --decoder {name}=detr:CLASSES,BOXES,SCORES or {name}=detr:LOGITS,BOXES"
        )
    return classes[0], boxes[0], scores[0]


def _batch_first(name: str, runs: Sequence[NDArray[Any]], axis: int | None, batch: int) -> NDArray[Any]:
    """Concatenate all runs of an output, batch first."""
    shapes = list(dict.fromkeys(run.shape for run in runs))
    if len(shapes) > 1:
        raise ExportError(
            f"output {name} has shape {list(shapes[0])} for one picture and {list(shapes[1])} for another; export the "
            "network so that it returns the same number of rows for every picture"
        )
    shape = shapes[0]
    fits = batch == 1 if axis is None else axis < len(shape) and shape[axis] == batch
    if not fits:
        raise ExportError(
            f"output {name} has shape {list(shape)} for a batch of {batch}: axis {axis} is not the batch; set "
            "the right one: --set batch_axis=1, or batch_axis=null if the output has none"
        )
    found = np.concatenate([run[None] if axis is None else np.moveaxis(run, axis, 0) for run in runs])
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise ExportError(f"the file itself returns NaN or infinity in {name}")
    return found
