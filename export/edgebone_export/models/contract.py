"""The contract of model providers: requests, results, and the steps that all providers share."""

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
from edgebone_export.models.output_kinds import Decode, Kind, OutputKind

Model = str | nn.Module
Transform = Callable[[Image.Image], torch.Tensor]
DETECTORS_ON_BACKBONES = ("fasterrcnn", "retinanet", "fcos")
"""Detectors built on a backbone of any provider."""


@dataclass(frozen=True)
class ModelRequest:
    """A request to a provider.

    Attributes:
        model: A torchvision or timm name (``timm/NAME`` where both have it), ``hf:`` and a folder or repository of
            transformers', ``package.module:callable``, or a module.
        weights: ``default``, a publisher's name, a file, or ``random``.
        weights_dir: Folder with publishers' weights files.
        size_hw: Input height and width in pixels; None takes the size that the weights were trained at.
        output_kind: ``logits``, ``embedding`` or ``features`` for a classifier; a network of the user's own also takes
            ``segmentation``, or ``raw`` for all of its outputs. None selects what the network was made for.
        labels: Class names that replace the library's.
        preprocess: Preprocessing for a module of the user's own, which has no library to define it.
        backbone: Backbone of ``fasterrcnn``, ``retinanet`` or ``fcos``: any name that has feature maps.
        decode: For segmentation: ``graph`` returns each pixel's best class, ``host`` the logits.
        resize: For classifiers: length of the picture's shorter side before the centre crop, in pixels.
        kind: What a network's outputs mean: ``classification`` (exactly one class), ``binary`` (one number: the label
            applies or not), ``multilabel`` (each label applies or not), ``regression`` (values). None assumes
            classes, and rejects a network whose outputs could be something else.
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
        """The model's name; for a module, its class name."""
        return self.model if isinstance(self.model, str) else type(self.model).__name__

    @property
    def size(self) -> InputSize:
        """The requested size of the network's input."""
        return InputSize(self.size_hw, self.resize)


@dataclass(frozen=True)
class FeatureMap:
    """One feature map: its graph output's name, channels, and network pixels per cell."""

    name: str
    channels: int
    stride: int


@dataclass(frozen=True)
class Backbone:
    """A network that is ready to be traced.

    Attributes:
        name: The architecture's name in its library.
        library: The library and its version.
        module: Module in eval mode; takes float32 (n, 3, height, width), normalised as in ``preprocess``, and
            returns one tensor per output.
        output_kind: Kind of its outputs.
        outputs: Output names.
        heads: Named groups of outputs with their decoders.
        features: Feature maps; empty unless ``output_kind`` is ``features``.
        preprocess: Preprocessing from picture to input, as in training.
        weights: Record of the weights.
        reference_transform: The library's own transform, from a PIL picture to float32 (3, height, width); None
            if the library has none.
        library_detector: The library's own detector with the same weights as ``module``; None for other networks.
        merged: Equivalent of ``module`` in fewer layers, which is exported instead; None for a network without such a
            form.
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
    """Requested input size of a network; None takes the size that its weights were trained at.

    Attributes:
        size_hw: Height and width, in pixels.
        resize: Length of the picture's shorter side before the centre crop of ``size_hw``, in pixels.
    """

    size_hw: tuple[int, int] | None = None
    resize: int | None = None


@dataclass(frozen=True)
class Network:
    """A complete classifier as its library builds it, before its output is chosen.

    Attributes:
        embedding: The library's own module for one vector per picture; None if layers are tapped instead.
        maps: The library's own module for multi-scale maps; None if layers are tapped instead.
        strides: Strides of the maps, if the library knows them.
        returns: Output shapes of a network of the user's own for two pictures, by name; empty for a library's network,
            which returns logits.
        merge: Returns a copy of a module with parallel layers merged, where that is faster; None where it is not.
        kind: Meaning of the outputs according to the network's own configuration; None if it has none.

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
    """A source of networks: a library, or the user's own code; a row of the table in ``registry.py``."""

    def names(self) -> Sequence[str]:
        """Return every name of the provider; empty if its library is not installed, or if it takes any name."""
        ...

    def claims(self, model: Model) -> bool:
        """Return whether this provider, and none after it, has the model."""
        ...

    def load(self, request: ModelRequest) -> Backbone:
        """Build a network with its weights and choose its output.

        Args:
            request: Request for a model that the provider claims.

        Raises:
            WeightsError: The weights cannot be found, verified or loaded.
            ExportError: The options do not apply to the network.
            MissingDependencyError: Its library is not installed.
        """
        ...


def check_options(request: ModelRequest, *takes: Literal["decode", "resize", "kind", "backbone"]) -> None:
    """Check that a network supports the given options.

    Args:
        request: The request.
        takes: Options that this network supports.

    Raises:
        ExportError: Another option is set; the message names it and where it applies.
    """
    model = request.name
    said = {
        "decode": (
            request.decode == "host",
            f"--decode host applies to segmentation; {model} has nothing to decode on the host",
        ),
        "resize": (
            request.resize is not None,
            f"--resize applies to networks that crop the centre of a picture; {model} takes all of it",
        ),
        "kind": (
            request.kind is not None,
            f"--kind applies to networks that return numbers for a picture; {model} finds things in it",
        ),
        "backbone": (
            request.backbone is not None,
            f"--backbone applies to {', '.join(DETECTORS_ON_BACKBONES)}, not to {model}",
        ),
    }
    for name, (is_said, refusal) in said.items():
        if is_said and name not in takes:
            raise ExportError(refusal)


def check_output_kind(request: ModelRequest, kind: OutputKind) -> None:
    """Check that a detector or segmentation network gets no other output kind, and no preprocessing.

    Raises:
        ExportError: It does; the message has the output kind that the network returns.
    """
    if request.output_kind not in (None, kind):
        raise ExportError(
            f"{request.name} returns {kind}, not {request.output_kind}; for that, export its backbone by its own name"
        )
    check_no_preprocess(request)


def check_no_preprocess(request: ModelRequest) -> None:
    """Reject a preprocessing for a network whose library defines it.

    Raises:
        ExportError: The request has one.
    """
    if request.preprocess is not None:
        raise ExportError(f"{request.name}: its library defines the preprocessing; a file is for your own networks")


def run_eager(module: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Run a network in eager PyTorch, without gradients; always returns a tuple of outputs."""
    with torch.inference_mode():
        outputs = module(images)
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def resized(preprocess: Preprocess, size: InputSize) -> Preprocess:
    """Return a preprocessing changed to another size.

    A square size keeps the crop and its margin. Any other size stretches the whole picture, for cameras whose pictures
    have that aspect.

    Raises:
        ExportError: The preprocessing has no crop, or the crop would be larger than the resized picture.
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
        raise ExportError(f"--resize applies to preprocessing that crops; this one is {preprocess.mode}")
    if size.resize < max(size_hw):
        raise ExportError(
            f"--resize {size.resize}: {size_hw[1]}x{size_hw[0]} pixels are cropped from the resized picture; pass "
            f"{max(size_hw)} or more, or a smaller --size"
        )
    return msgspec.structs.replace(preprocess, resize=size.resize)


def class_count_in(state: dict[str, torch.Tensor], module: nn.Module, classes: int) -> int:
    """Return the number of classes of a state dict, from the network's last classifying layer.

    Args:
        state: The tensors.
        module: The network, built for ``classes``.
        classes: Number of classes that the network was built for.

    Raises:
        WeightsError: The network has no layer with ``classes`` outputs.
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
