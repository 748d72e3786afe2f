"""Does the exported graph compute what PyTorch computes, and is its input what PyTorch would be fed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from edgebone.core.manifest import Parity, Preprocess
from edgebone.engines.onnxruntime import OnnxRuntimeEngine
from edgebone.preprocess import preprocess as fill
from edgebone_export.backbones import Backbone, Transform, run_eager
from edgebone_export.errors import ExportError, ParityError
from edgebone_export.trace import INPUT

# FP32 sums in another order differ in the sixth digit; deep networks add up to some times that.
FP32_MAX_REL = 1e-3
FP32_MIN_COSINE = 0.9999
# Pillow and torchvision round alike but for rare pixels; a wrong size or filter is off by tens.
_MOST_STEPS = 4
_MOST_MEAN_STEPS = 0.5
# FP32 rounding alone makes outputs differ by about this much.
_SAME = 1e-5

Outputs = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Reference:
    """What PyTorch answers.

    Attributes:
        uint8: Network inputs as the runtime makes them: (n, height, width, 3).
        floats: The same, normalised: float32 (n, 3, height, width).
        outputs: Eager PyTorch's outputs by name, each (n, …).
    """

    uint8: NDArray[np.uint8]
    floats: NDArray[np.float32]
    outputs: Outputs


@dataclass(frozen=True)
class PreprocessParity:
    """The runtime's preprocessing against the library's own transform, in steps of 255.

    Attributes:
        max_steps: Largest difference of a pixel.
        mean_steps: Mean difference.
        pictures: How many were compared.
    """

    max_steps: float
    mean_steps: float
    pictures: int


def make_reference(backbone: Backbone, pictures: Sequence[NDArray[np.uint8]]) -> Reference:
    """Preprocess pictures as the runtime does, and run them through eager PyTorch.

    Raises:
        ExportError: PyTorch's own outputs are not finite, or the same for every picture.
    """
    spec = backbone.preprocess
    inputs = np.zeros((len(pictures), *spec.size_hw, 3), np.uint8)
    for picture, out in zip(pictures, inputs, strict=True):
        fill(spec, picture, out)
    floats = normalize(spec, inputs)
    rows = [run_eager(backbone.module, torch.from_numpy(one[None])) for one in floats]
    outputs = {
        name: np.concatenate([row[place].numpy() for row in rows]) for place, name in enumerate(backbone.outputs)
    }
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise ExportError(f"{backbone.name}: PyTorch itself gives NaN or infinity in {name}; check the weights")
        if len(values) > 1 and np.ptp(values, axis=0).max() <= _SAME * max(float(np.abs(values).max()), 1e-12):
            raise ExportError(
                f"{backbone.name}: PyTorch gives the same {name} for every picture, so that comparing the graph "
                "with it would prove nothing; check the weights"
            )
    return Reference(inputs, floats, outputs)


def normalize(spec: Preprocess, inputs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (n, h, w, 3) to normalised float32 (n, 3, h, w), as the libraries' transforms do."""
    scaled = inputs.astype(np.float32) / np.float32(255)
    normal = (scaled - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2), np.float32)


def check_graph(graph: bytes, reference: Reference, batch: tuple[int, int]) -> Parity:
    """Hold onnxruntime's outputs of a graph against PyTorch's.

    The graph may still take normalised floats, or already uint8. A dynamic batch is tried at its smallest and
    its largest size.

    Args:
        graph: The ONNX file's bytes.
        reference: What PyTorch answers.
        batch: Smallest and largest batch.

    Raises:
        ParityError: An output is off; says which and by how much.
    """
    with OnnxRuntimeEngine(graph) as engine:
        inputs = reference.uint8 if engine.inputs[0].dtype == "uint8" else reference.floats
        results = [_run_in_batches(engine, inputs, size) for size in sorted(set(batch))]
    return _worst([_compare(outputs, reference.outputs) for outputs in results])


def _run_in_batches(engine: OnnxRuntimeEngine, inputs: NDArray[np.generic], size: int) -> Outputs:
    """Run all pictures, ``size`` at a time; the last batch is filled up with the first pictures."""
    count = len(inputs)
    filled = np.resize(inputs, (-(-count // size) * size, *inputs.shape[1:]))
    runs = [engine.run({INPUT: np.ascontiguousarray(filled[at : at + size])}) for at in range(0, len(filled), size)]
    return {name: np.concatenate([run[name] for run in runs])[:count] for name in runs[0]}


def _compare(outputs: Outputs, wanted: Outputs) -> Parity:
    if outputs.keys() != wanted.keys():
        raise ParityError(f"outputs are named {sorted(outputs)}, should be {sorted(wanted)}")
    return _worst([_compare_one(name, outputs[name], wanted[name]) for name in wanted])


def _compare_one(name: str, have: NDArray[np.float32], want: NDArray[np.float32]) -> Parity:
    if have.shape != want.shape:
        raise ParityError(f"output {name} has shape {list(have.shape)}, PyTorch gives {list(want.shape)}")
    if not np.isfinite(have).all():
        raise ParityError(f"output {name} has NaN or infinity where PyTorch has none")
    a, b = have.astype(np.float64).reshape(len(have), -1), want.astype(np.float64).reshape(len(want), -1)
    max_abs = float(np.abs(a - b).max())
    max_rel = max_abs / max(float(np.abs(b).max()), 1e-12)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = float(np.divide((a * b).sum(axis=1), lengths, out=np.ones(len(a)), where=lengths > 0).min())
    agreement = float(np.mean(a.argmax(axis=1) == b.argmax(axis=1))) if name == "logits" else None
    # A best class that differs is no error of its own: within this tolerance only ties can differ.
    if max_rel > FP32_MAX_REL or cosine < FP32_MIN_COSINE:
        raise ParityError(
            f"output {name} differs from PyTorch's by {max_abs:.3g} (relative {max_rel:.3g}, allowed "
            f"{FP32_MAX_REL:g}), cosine {cosine:.6f} (at least {FP32_MIN_COSINE})"
        )
    return Parity(max_abs, max_rel, cosine, len(have), agreement)


def _worst(parities: Sequence[Parity]) -> Parity:
    agreements = [item.top1_agreement for item in parities if item.top1_agreement is not None]
    return Parity(
        max_abs=max(item.max_abs for item in parities),
        max_rel=max(item.max_rel for item in parities),
        cosine=min(item.cosine for item in parities),
        pictures=parities[0].pictures,
        top1_agreement=min(agreements) if agreements else None,
    )


def check_preprocess(
    spec: Preprocess, transform: Transform, pictures: Sequence[NDArray[np.uint8]], name: str
) -> PreprocessParity:
    """Hold the runtime's preprocessing against the library's own transform.

    Raises:
        ParityError: They are further apart than rounding explains.
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
                f"{name}: the library's transform gives {list(theirs.shape)}, the bundle's preprocessing "
                f"{list(ours.shape)}"
            )
        steps = np.abs(ours - theirs) * std * 255
        most = max(most, float(steps.max()))
        means.append(float(steps.mean()))
    parity = PreprocessParity(round(most, 3), round(float(np.mean(means)), 5), len(pictures))
    if parity.max_steps > _MOST_STEPS or parity.mean_steps > _MOST_MEAN_STEPS:
        raise ParityError(
            f"{name}: preprocessing is off from the library's own transform by up to {parity.max_steps} of 255, "
            f"{parity.mean_steps} on average (allowed: {_MOST_STEPS}, {_MOST_MEAN_STEPS})"
        )
    return parity
