"""torchvision's classifiers."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import torchvision
from torch import nn
from torchvision.models import WeightsEnum

from edgebone.core.manifest import Preprocess, Weights
from edgebone.core.near import did_you_mean
from edgebone_export.errors import ExportError, WeightsError
from edgebone_export.models import checkpoints
from edgebone_export.models import weights as weights_
from edgebone_export.models.contract import Backbone, Model, ModelRequest, Network, class_count_in, resized
from edgebone_export.models.outputs import check_classifier, with_output

# Their pre-trained weights expect inputs that the network rescales itself.
_RESCALES_ITSELF = ("googlenet", "inception_v3")


def names() -> list[str]:
    """Return the names of torchvision's classification models."""
    found: list[str] = torchvision.models.list_models(module=torchvision.models)
    return found


def claims(model: Model) -> bool:
    """Return whether the model is one of them."""
    return model in names()


def load(request: ModelRequest) -> Backbone:
    """Build a classifier; raises as :class:`edgebone_export.models.contract.Provider` does."""
    check_classifier(request)
    return with_output(_build(request), request)


def _build(request: ModelRequest) -> Network:
    name, weights = request.name, request.weights
    entry = find_entry(name, weights)
    transforms = entry.transforms()
    preprocess = preprocess_of(transforms)
    labels: tuple[str, ...] = tuple(entry.meta["categories"])
    classes = len(labels)
    if weights == "random":
        module, record = _module(name, classes), weights_.RANDOM
        weights_.randomize(module, preprocess.size_hw)
    else:
        if is_file(weights):
            path, record = weights_.own_file(Path(weights))
        else:
            path, record = resolve(entry, request.weights_dir)
        module = _module(name, classes)
        state, record = checkpoints.read_weights(path, record, module)
        trained_for = class_count_in(state, module, classes)
        if trained_for != classes:
            module = _module(name, trained_for)
        # GoogLeNet's and Inception's second classifiers are for training only.
        state = {key: value for key, value in state.items() if not key.lower().startswith("aux")}
        checkpoints.load_into(module, state, name)
    wanted = resized(preprocess, request.size)
    return Network(
        name=name,
        library=f"torchvision {torchvision.__version__}",
        module=module,
        labels=labels,
        preprocess=wanted,
        weights=record,
        reference_transform=_reference(entry, wanted),
    )


def preprocess_of(transforms: Any) -> Preprocess:
    """Read the preprocessing from a weights entry's own transforms.

    Raises:
        ExportError: A bundle cannot describe the transforms.
    """
    try:
        crop, resize = list(transforms.crop_size), list(transforms.resize_size)
        return Preprocess(
            mode="crop",
            size_hw=(crop[0], crop[-1]),
            interpolation=transforms.interpolation.value,
            antialias=True,
            color="rgb",
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
            resize=resize[0] if len(resize) == 1 else (resize[0], resize[1]),
        )
    except (AttributeError, ValueError) as error:
        raise ExportError(f"the transforms {transforms} cannot be described in a bundle ({error})") from error


def find_entry(name: str, weights: str) -> WeightsEnum:
    """Return a model's published weights by the user's name for them; the default ones for a file and random.

    Raises:
        WeightsError: The model has none of that name.
    """
    entries = list(torchvision.models.get_model_weights(name))
    if weights in ("default", "random") or is_file(weights):
        default: WeightsEnum = torchvision.models.get_model_weights(name).DEFAULT
        return default
    for entry in entries:
        if entry.name == weights:
            return entry
    names = ["default", *(entry.name for entry in entries)]
    raise WeightsError(
        f"{name} has no weights {weights}, and no such file exists; {did_you_mean(weights, names)}"
        f"choose {', '.join(names)}, a file, or random"
    )


def resolve(entry: WeightsEnum, weights_dir: Path | None) -> tuple[Path, Weights]:
    """Find the file of published weights; see :func:`edgebone_export.models.weights.resolve`."""
    try:
        return weights_.resolve(_published(entry), weights_dir)
    except WeightsError as error:
        # Never substituted unasked: other weights make another network.
        others = [other.name for other in type(entry) if other != entry and weights_.has_wheel(_published(other).file)]
        if not others:
            raise
        raise WeightsError(f"{error}; --weights {others[0]} needs only a package index") from error


def is_file(weights: str) -> bool:
    """Return whether the user's name for weights is a file."""
    return Path(weights).suffix in (".pth", ".pt", ".bin", ".ckpt", ".safetensors") or Path(weights).is_file()


def _published(entry: WeightsEnum) -> weights_.PublishedFile:
    file = entry.url.split("/")[-1]
    return weights_.PublishedFile(entry.name, file, weights_.hash_in_name(file), weights_.download_url(entry.url))


def _module(name: str, classes: int) -> nn.Module:
    arguments: dict[str, Any] = {"weights": None, "num_classes": classes}
    if name in _RESCALES_ITSELF:
        arguments |= {"transform_input": True, "init_weights": False, "aux_logits": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: nn.Module = torchvision.models.get_model(name, **arguments)
    return module


def _reference(entry: WeightsEnum, preprocess: Preprocess) -> Any:
    """Return torchvision's own transform at the chosen size; None for a stretch, which it does not have."""
    if preprocess.mode != "crop":
        return None
    return functools.partial(entry.transforms, crop_size=preprocess.size_hw[0], resize_size=preprocess.resize)()
