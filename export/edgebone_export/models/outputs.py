"""Choose the output of a classifier: logits, the embedding before them, feature maps, or all raw outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from edgebone.core.manifest import Head
from edgebone_export.errors import ExportError, in_one_line
from edgebone_export.models import own_outputs, taps
from edgebone_export.models.contract import (
    Backbone,
    FeatureMap,
    ModelRequest,
    Network,
    check_no_preprocess,
    check_options,
    run_eager,
)
from edgebone_export.models.kinds import final_activation, head_of
from edgebone_export.models.output_kinds import OutputKind


def check_classifier(request: ModelRequest) -> None:
    """Check that a library's classifier supports the request.

    Raises:
        ExportError: It does not; the message lists the supported outputs, or where the option applies.
    """
    check_options(request, "resize", "kind")
    if request.output_kind in ("detections", "segmentation", "depth"):
        raise ExportError(
            f"{request.name} is a classifier: it returns logits, embedding, features or raw, not {request.output_kind}"
        )
    check_no_preprocess(request)


def with_output(network: Network, request: ModelRequest) -> Backbone:
    """Describe a classifier with the requested output.

    Args:
        network: The complete classifier; set to eval mode.
        request: The request.

    Raises:
        ExportError: It has no such output or does not run, or the labels do not fit it.
    """
    network.module.eval().requires_grad_(False)
    labels, numbers = request.labels, request.kind or network.kind
    kind: OutputKind = request.output_kind or own_outputs.default_kind(network.returns, numbers)
    size_hw = network.preprocess.size_hw
    chosen = own_outputs.choose(kind, network.returns, size_hw, network.name, numbers)
    example = torch.zeros(1, 3, *size_hw)
    module: nn.Module
    features: tuple[FeatureMap, ...] = ()
    chosen_labels: tuple[str, ...] = ()
    try:
        if chosen:
            module = own_outputs.Returned(network.module, chosen, flat=kind == "logits")
            if kind == "features":
                features = _features(run_eager(module, example), network)
            elif kind != "raw":
                _, *shape = network.returns[chosen[0]]
                chosen_labels = _labels(network, labels, shape[0] if kind == "segmentation" else math.prod(shape))
        elif kind in ("logits", "raw"):
            module = network.module
            if kind == "logits":
                classes = _classes(network.name, run_eager(module, example))
                chosen_labels = _labels(network, labels, classes)
        elif kind == "embedding":
            module = network.embedding or taps.embedding(network.module, example, network.name)
        else:
            module = network.maps or taps.feature_maps(network.module, example, network.name)
            features = _features(run_eager(module, example), network)
        ends = final_activation(module, example) if kind == "logits" and network.returns else None
    except ExportError:
        raise
    except Exception as error:
        height, width = network.preprocess.size_hw
        raise ExportError(f"{network.name} does not run at {width}x{height}: {in_one_line(error)}") from error
    outputs = tuple(item.name for item in features) or (chosen if kind == "raw" and chosen else (kind,))
    named = labels is not None or chosen_labels == network.labels
    heads = (
        head_of(network.name, numbers, ends, kind, chosen_labels, named)
        if kind == "logits"
        else _head(kind, outputs, chosen_labels, features)
    )
    merged = None if network.merge is None else network.merge(module.eval())
    return Backbone(
        name=network.name,
        library=network.library,
        module=module.eval(),
        output_kind=kind,
        outputs=outputs,
        heads=heads,
        features=features,
        preprocess=network.preprocess,
        weights=network.weights,
        reference_transform=network.reference_transform,
        merged=merged,
    )


def _head(
    kind: OutputKind, outputs: tuple[str, ...], labels: tuple[str, ...], features: tuple[FeatureMap, ...]
) -> dict[str, Head]:
    if kind == "features":
        return {kind: Head("features@1", outputs, (), {"strides": [item.stride for item in features]})}
    if kind == "embedding":
        return {kind: Head("embedding@1", outputs)}
    if kind == "raw":
        return {kind: Head("raw@1", outputs)}
    return {kind: Head("segmentation@1", outputs, labels)}


def _classes(name: str, outputs: tuple[torch.Tensor, ...]) -> int:
    if len(outputs) != 1 or not isinstance(outputs[0], torch.Tensor) or outputs[0].ndim != 2:
        shapes = [list(getattr(output, "shape", ())) or type(output).__name__ for output in outputs]
        raise ExportError(
            f"{name}: logits must be one output of shape (batch, classes), found {shapes}; try --output features"
        )
    return int(outputs[0].shape[1])


def _labels(network: Network, labels: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    if labels is not None:
        if len(labels) != classes:
            raise ExportError(f"{network.name} has {classes} classes, but {len(labels)} labels were passed")
        return tuple(labels)
    return network.labels if len(network.labels) == classes else tuple(map(str, range(classes)))


def _features(outputs: tuple[torch.Tensor, ...], network: Network) -> tuple[FeatureMap, ...]:
    height = network.preprocess.size_hw[0]
    strides = [taps.stride_of(height, int(output.shape[2]), network.strides) for output in outputs]
    return tuple(
        FeatureMap(f"features_s{stride}", int(output.shape[1]), stride)
        for stride, output in zip(strides, outputs, strict=True)
    )
