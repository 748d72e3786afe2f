"""One interface over torchvision, timm and any ``nn.Module``."""

from __future__ import annotations

import copy
import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import torch
from PIL import Image
from torch import nn

from edgebone.core.manifest import Head, Preprocess, Weights
from edgebone.core.near import near
from edgebone_export.errors import ExportError, UnknownModelError, WeightsError, in_one_line
from edgebone_export.given import check_model_name
from edgebone_export.models.kinds import ends_in, head_of
from edgebone_export.models.output_kinds import Kind, OutputKind, check_kinds

Decode = Literal["graph", "host"]
Transform = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class FeatureMap:
    """One feature map: its graph output's name, channels, and network pixels per cell."""

    name: str
    channels: int
    stride: int


@dataclass(frozen=True)
class Backbone:
    """A network, ready to be traced.

    Attributes:
        name: The architecture's name in its library.
        library: The library and its version.
        module: In eval mode; takes float32 (n, 3, height, width), normalised as ``preprocess`` says, and
            returns one tensor an output.
        output_kind: What it returns.
        outputs: The outputs' names.
        heads: Named groups of outputs, and how each is read.
        features: The feature maps; empty unless ``output_kind`` is ``features``.
        preprocess: From picture to input, as the network was trained.
        weights: The weights' record.
        reference_transform: The library's own transform, a PIL picture to float32 (3, height, width); None
            where the library has none.
        library_detector: The library's own detector, whose weights ``module`` has; None for what is no detector.
        merged: What computes the same as ``module`` in fewer layers, and is exported in its place; None for what has
            no such form.
    """

    name: str
    library: str
    module: nn.Module
    output_kind: OutputKind
    outputs: tuple[str, ...]
    heads: dict[str, Head]
    features: tuple[FeatureMap, ...]
    preprocess: Preprocess
    weights: Weights
    reference_transform: Transform | None
    library_detector: nn.Module | None = None
    merged: nn.Module | None = None


@dataclass(frozen=True)
class InputSize:
    """What was said about a network's input; None for what its weights were trained at.

    Attributes:
        size_hw: Height and width, in pixels.
        resize: Length of the picture's shorter side before ``size_hw`` is cut out of the centre, in pixels.
    """

    size_hw: tuple[int, int] | None = None
    resize: int | None = None


@dataclass(frozen=True)
class Network:
    """A whole classifier as its library builds it, before an output is chosen.

    Attributes:
        embedding: The library's own way to one vector a picture; None where its layers are tapped.
        maps: The library's own way to multi-scale maps; None where its layers are tapped.
        strides: The maps' strides, where the library knows them.
        returns: Shapes of what a network of the user's own returns for two pictures, by name; empty for a library's,
            which returns logits.
        merge: Gives a copy of a module with parallel layers as one, where that is faster; None where it is not.
        kind: What a network's own configuration says that its numbers are; None where it says nothing.

    The other attributes are as in :class:`Backbone`.
    """

    name: str
    library: str
    module: nn.Module
    labels: tuple[str, ...]
    preprocess: Preprocess
    weights: Weights
    reference_transform: Transform | None
    embedding: nn.Module | None = None
    maps: nn.Module | None = None
    strides: tuple[int, ...] = ()
    returns: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    merge: Callable[[nn.Module], nn.Module] | None = None
    kind: Kind | None = None


def load_backbone(
    model: str | nn.Module,
    *,
    weights: str = "default",
    weights_dir: Path | None = None,
    size_hw: tuple[int, int] | None = None,
    output_kind: OutputKind | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    backbone: str | None = None,
    decode: Decode = "graph",
    resize: int | None = None,
    kind: Kind | None = None,
) -> Backbone:
    """Build a network with its weights and choose its output.

    Args:
        model: A name of torchvision or timm (``timm/NAME`` where both have it), ``package.module:callable``,
            or a module.
        weights: ``default``, a publisher's name, a file, or ``random``.
        weights_dir: A folder with publishers' files.
        size_hw: Another input size than the weights were trained at, in pixels.
        output_kind: ``logits``, ``embedding`` or ``features`` of a classifier; of a network of the user's own
            ``segmentation``, or ``raw`` for all that it returns, too. None takes what the network is made for.
        labels: Class names, instead of the library's.
        preprocess: For a module of the user's own, which has no library to say it.
        backbone: The backbone under ``fasterrcnn``, ``retinanet`` or ``fcos``: any name that has feature maps.
        decode: Of segmentation: ``graph`` gives each pixel's best class, ``host`` the logits.
        resize: Of classifiers: length of the picture's shorter side before the centre is cut out, in pixels.
        kind: What the numbers are that a network gives for a picture: ``classification`` (one class holds), ``binary``
            (one number: a label holds or not), ``multilabel`` (each holds or not), ``regression`` (values). None takes
            classes, and refuses what could be something else.

    Raises:
        UnknownModelError: No library has it; near names are suggested.
        WeightsError: The weights cannot be found, verified or loaded.
        ExportError: The size, labels or output do not go with the network.
        MissingDependencyError: timm is asked for and not installed.
    """
    from edgebone_export.models import segmenters
    from edgebone_export.models.detectors import composed, torchvision_detectors

    check_kinds(output_kind, kind)
    if kind is not None and output_kind not in (None, "logits"):
        raise ExportError(f"--kind says what the logits are; {output_kind} is another output")
    if decode == "host" and model not in segmenters.names():
        raise ExportError(
            f"--decode host goes with segmentation; {model} has nothing that the host could decode instead"
        )
    if resize is not None and model in (*composed.NAMES, *torchvision_detectors.names(), *segmenters.names()):
        raise ExportError(f"--resize goes with networks that see the centre of a picture; {model} sees all of it")
    if kind is not None and model in (*composed.NAMES, *torchvision_detectors.names(), *segmenters.names()):
        raise ExportError(f"--kind goes with networks that give numbers for a picture; {model} finds things in it")
    torch.manual_seed(0)
    if model in composed.NAMES:
        _only(model, output_kind, "detections", preprocess)
        return composed.build(str(model), backbone, weights, weights_dir, size_hw, labels)
    if backbone is not None:
        raise ExportError(f"--backbone goes with {', '.join(composed.NAMES)}, not with {model}")
    if model in torchvision_detectors.names():
        _only(model, output_kind, "detections", preprocess)
        return torchvision_detectors.build(str(model), weights, weights_dir, size_hw, labels)
    if model in segmenters.names():
        _only(model, output_kind, "segmentation", preprocess)
        return segmenters.build(str(model), weights, weights_dir, size_hw, labels, decode)
    own = isinstance(model, nn.Module) or ":" in model
    if output_kind == "detections" or (output_kind == "segmentation" and not own):
        raise ExportError(f"{model} is a classifier: it gives logits, embedding, features or raw, not {output_kind}")
    network = _build(model, weights, weights_dir, InputSize(size_hw, resize), preprocess)
    network.module.eval().requires_grad_(False)
    return _with_output(network, output_kind, labels, kind or network.kind)


def _only(model: object, asked: str | None, kind: str, preprocess: Preprocess | None) -> None:
    """Refuse what a detector or a segmentation network does not have."""
    if asked not in (None, kind):
        raise ExportError(f"{model} gives {kind}, not {asked}; export its backbone by its own name for that")
    if preprocess is not None:
        raise ExportError(f"{model}: its library says how it is preprocessed; a file is for your own networks")


def _build(
    model: str | nn.Module,
    weights: str,
    weights_dir: Path | None,
    size: InputSize,
    preprocess: Preprocess | None,
) -> Network:
    from edgebone_export.models import custom as custom_models
    from edgebone_export.models import timm_models, torchvision_models

    if isinstance(model, nn.Module):
        # The caller may go on training it: what the export changes, it changes in a copy.
        return custom_models.wrap(copy.deepcopy(model), type(model).__name__, weights, size, preprocess)
    if ":" in model:
        return custom_models.build(model, weights, size, preprocess)
    if preprocess is not None:
        raise ExportError(f"{model}: its library says how it is preprocessed; a file is for your own networks")
    if model.startswith("timm/"):
        return timm_models.build(model.removeprefix("timm/"), weights, weights_dir, size)
    if model in torchvision_models.names():
        return torchvision_models.build(model, weights, weights_dir, size)
    if timm_models.knows(model):
        return timm_models.build(model, weights, weights_dir, size)
    raise unknown(model)


def unknown(name: str) -> UnknownModelError:
    """The error for a name that no library has, with near names.

    Raises:
        UnknownModelError: The name is a file's, or a network's that comes as one.
    """
    check_model_name(name)
    known = list_models("*")
    found = near(name, known)
    found += [item for item in known if name and name in item and item not in found][: 5 - len(found)]
    hint = f"did you mean {', '.join(found)}?" if found else "edgebone models lists them"
    return UnknownModelError(f"there is no model {name}; {hint}")


def list_models(pattern: str) -> list[str]:
    """Names of torchvision's and, where installed, timm's models.

    Args:
        pattern: Shell wildcards; without any, a part of the name.
    """
    from edgebone_export.models import segmenters, timm_models, torchvision_models
    from edgebone_export.models.detectors import composed, torchvision_detectors

    if not any(character in pattern for character in "*?["):
        pattern = f"*{pattern}*"
    names = [
        *torchvision_models.names(),
        *torchvision_detectors.names(),
        *segmenters.names(),
        *composed.NAMES,
        *(f"timm/{name}" for name in timm_models.names()),
    ]
    return [name for name in names if fnmatch.fnmatchcase(name.removeprefix("timm/"), pattern)]


def _with_output(
    network: Network, asked: OutputKind | None, labels: Sequence[str] | None, numbers: Kind | None
) -> Backbone:
    from edgebone_export.models import own_outputs, taps

    kind: OutputKind = asked or own_outputs.default_kind(network.returns, numbers)
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
        ends = ends_in(module, example) if kind == "logits" and network.returns else None
    except ExportError:
        raise
    except Exception as error:
        height, width = network.preprocess.size_hw
        raise ExportError(f"{network.name} does not run at {height}x{width}: {in_one_line(error)}") from error
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


def run_eager(module: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Run a network as PyTorch does, without gradients; always a tuple of outputs."""
    with torch.inference_mode():
        outputs = module(images)
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def _classes(name: str, outputs: tuple[torch.Tensor, ...]) -> int:
    if len(outputs) != 1 or not isinstance(outputs[0], torch.Tensor) or outputs[0].ndim != 2:
        shapes = [list(getattr(output, "shape", ())) or type(output).__name__ for output in outputs]
        raise ExportError(
            f"{name}: logits are one output of shape (batch, classes), the network gives {shapes}; "
            "try --output features"
        )
    return int(outputs[0].shape[1])


def _labels(network: Network, labels: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    if labels is not None:
        if len(labels) != classes:
            raise ExportError(f"{network.name} has {classes} classes, but {len(labels)} labels were given")
        return tuple(labels)
    return network.labels if len(network.labels) == classes else tuple(map(str, range(classes)))


def _features(outputs: tuple[torch.Tensor, ...], network: Network) -> tuple[FeatureMap, ...]:
    from edgebone_export.models.taps import stride_of

    height = network.preprocess.size_hw[0]
    strides = [stride_of(height, int(output.shape[2]), network.strides) for output in outputs]
    return tuple(
        FeatureMap(f"features_s{stride}", int(output.shape[1]), stride)
        for stride, output in zip(strides, outputs, strict=True)
    )


def resized(preprocess: Preprocess, size: InputSize) -> Preprocess:
    """The same preprocessing at another size.

    A square size keeps the crop and its margin. Another one stretches the whole picture: it is meant for
    cameras whose pictures have that aspect.

    Raises:
        ExportError: There is no crop before which a picture could be resized, or it would be larger than the picture.
    """
    size_hw = size.size_hw or preprocess.size_hw
    if size_hw != preprocess.size_hw:
        if size_hw[0] == size_hw[1] and isinstance(preprocess.resize, int):
            margin = round(preprocess.resize * size_hw[0] / min(preprocess.size_hw))
            preprocess = msgspec.structs.replace(preprocess, size_hw=size_hw, resize=margin)
        else:
            preprocess = msgspec.structs.replace(preprocess, size_hw=size_hw, resize=None, mode="stretch")
    if size.resize is None:
        return preprocess
    if preprocess.mode != "crop":
        raise ExportError(f"--resize goes with preprocessing that crops; this one is {preprocess.mode}")
    if size.resize < max(size_hw):
        raise ExportError(
            f"--resize {size.resize}: {size_hw[0]}x{size_hw[1]} pixels are cut out of the resized picture; give "
            f"{max(size_hw)} or more, or a smaller --size"
        )
    return msgspec.structs.replace(preprocess, resize=size.resize)


def class_count_in(state: dict[str, torch.Tensor], module: nn.Module, classes: int) -> int:
    """How many classes a state dict was trained for, read off the network's last classifying layer.

    Args:
        state: The tensors.
        module: The network, built for ``classes``.
        classes: Number of classes that the network was built for.

    Raises:
        WeightsError: The network has no layer with so many outputs.
    """
    sized = [
        name
        for name, layer in module.named_modules()
        if classes in (getattr(layer, "out_features", None), getattr(layer, "out_channels", None))
    ]
    if not sized:
        raise WeightsError("the network has no classifying layer to compare the weights with")
    weight = state.get(f"{sized[-1]}.weight")
    return classes if weight is None else int(weight.shape[0])
