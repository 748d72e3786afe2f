"""What every provider of networks needs: what is asked of one, what it gives, and the steps that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import msgspec
import torch
from PIL import Image
from torch import nn

from edgebone.core.manifest import Head, Preprocess, Weights
from edgebone_export.errors import ExportError, WeightsError
from edgebone_export.models.output_kinds import Kind, OutputKind

Decode = Literal["graph", "host"]
Model = str | nn.Module
Transform = Callable[[Image.Image], torch.Tensor]
DETECTORS_ON_BACKBONES = ("fasterrcnn", "retinanet", "fcos")
"""The detectors that are built on a backbone of any provider."""


@dataclass(frozen=True)
class ModelRequest:
    """What is asked of a provider.

    Attributes:
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
    """

    model: Model
    weights: str = "default"
    weights_dir: Path | None = None
    size_hw: tuple[int, int] | None = None
    output_kind: OutputKind | None = None
    labels: Sequence[str] | None = None
    preprocess: Preprocess | None = None
    backbone: str | None = None
    decode: Decode = "graph"
    resize: int | None = None
    kind: Kind | None = None

    @property
    def name(self) -> str:
        """The model's name; of a module at hand its class's."""
        return self.model if isinstance(self.model, str) else type(self.model).__name__

    @property
    def size(self) -> InputSize:
        """What is said about the network's input."""
        return InputSize(self.size_hw, self.resize)


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


class Provider(Protocol):
    """A source of networks: a library, or the user's own code. A row of the table in ``registry.py``."""

    def names(self) -> Sequence[str]:
        """Every name that it lists; none where its library is not installed, or where any name would do."""
        ...

    def claims(self, model: Model) -> bool:
        """Whether it, and no provider after it, answers for this model."""
        ...

    def load(self, request: ModelRequest) -> Backbone:
        """Build a network with its weights and choose its output.

        Args:
            request: Of a model that it claims.

        Raises:
            WeightsError: The weights cannot be found, verified or loaded.
            ExportError: The request does not go with the network.
            MissingDependencyError: Its library is not installed.
        """
        ...


def check_options(request: ModelRequest, *takes: Literal["decode", "resize", "kind", "backbone"]) -> None:
    """Refuse options that say nothing to a network.

    Args:
        request: What is asked.
        takes: The options that this network has.

    Raises:
        ExportError: Names the first other option, and what it goes with.
    """
    model = request.name
    said = {
        "decode": (
            request.decode == "host",
            f"--decode host goes with segmentation; {model} has nothing that the host could decode instead",
        ),
        "resize": (
            request.resize is not None,
            f"--resize goes with networks that see the centre of a picture; {model} sees all of it",
        ),
        "kind": (
            request.kind is not None,
            f"--kind goes with networks that give numbers for a picture; {model} finds things in it",
        ),
        "backbone": (
            request.backbone is not None,
            f"--backbone goes with {', '.join(DETECTORS_ON_BACKBONES)}, not with {model}",
        ),
    }
    for name, (is_said, refusal) in said.items():
        if is_said and name not in takes:
            raise ExportError(refusal)


def check_gives(request: ModelRequest, kind: OutputKind) -> None:
    """Refuse what a detector or a segmentation network does not have: other outputs, a preprocessing of the user's.

    Raises:
        ExportError: Says what it gives.
    """
    if request.output_kind not in (None, kind):
        raise ExportError(
            f"{request.name} gives {kind}, not {request.output_kind}; export its backbone by its own name for that"
        )
    check_no_preprocess(request)


def check_no_preprocess(request: ModelRequest) -> None:
    """Refuse a preprocessing for a network whose library has its own.

    Raises:
        ExportError: One is given.
    """
    if request.preprocess is not None:
        raise ExportError(f"{request.name}: its library says how it is preprocessed; a file is for your own networks")


def run_eager(module: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Run a network as PyTorch does, without gradients; always a tuple of outputs."""
    with torch.inference_mode():
        outputs = module(images)
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


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
