"""The user's own networks: ``package.module:callable``, or a module at hand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import msgspec
from torch import nn

from edgebone.core.manifest import Preprocess, Weights
from edgebone_export.errors import ExportError, UnknownModelError
from edgebone_export.models import checkpoints, kinds, own_outputs
from edgebone_export.models import weights as weights_
from edgebone_export.models.backbones import InputSize, Network, resized

_EXAMPLE = (
    '{"mode": "crop", "resize": 256, "size_hw": [224, 224], "interpolation": "bilinear", "antialias": true, '
    '"color": "rgb", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}'
)


def build(path: str, weights: str, size: InputSize, preprocess: Preprocess | None) -> Network:
    """Import and call what the user named; it gives a module, or a module and its ``Preprocess``.

    Raises:
        UnknownModelError: It cannot be imported, or is not there.
        ExportError: It fails, or gives something else.
    """
    module_name, _, attribute = path.partition(":")
    # What lies in the working directory can be named; last, so that it is never taken for what others import.
    if "" not in sys.path:
        sys.path.append("")
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownModelError(f"{path} cannot be imported: {error}") from error
    try:
        made = function()
    except Exception as error:
        raise ExportError(f"{path}() failed: {type(error).__name__}: {error}") from error
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Preprocess):
        made, preprocess = made[0], preprocess or made[1]
    if not isinstance(made, nn.Module):
        raise ExportError(
            f"{path}() gave {type(made).__name__}; it should give an nn.Module, or one with its Preprocess"
        )
    return wrap(made, path, weights, size, preprocess)


def wrap(module: nn.Module, name: str, weights: str, size: InputSize, preprocess: Preprocess | None) -> Network:
    """Describe a module at hand; ``default`` weights are those that it has.

    Raises:
        ExportError: Nothing says how pictures are preprocessed, or sizes differ.
        WeightsError: The weights file does not fit.
    """
    if preprocess is None:
        raise ExportError(f"{name}: say how pictures become its input, --preprocess FILE.json with: {_EXAMPLE}")
    if size.size_hw is not None:
        preprocess = msgspec.structs.replace(preprocess, size_hw=size.size_hw)
    preprocess = resized(preprocess, InputSize(resize=size.resize))
    inner, (module, returns) = module, own_outputs.try_out(module.eval(), preprocess, name)
    record = Weights("its own", f"as {name} gives them", "", "nothing to verify")
    if weights == "random":
        record = weights_.RANDOM
        weights_.randomize(module, preprocess.size_hw)
    elif weights != "default":
        path, record = weights_.own_file(Path(weights))
        state, record = checkpoints.read_weights(path, record, inner)
        checkpoints.load_into(inner, state, name)
    return Network(
        name=name,
        library="user's own",
        module=module,
        labels=(),
        preprocess=preprocess,
        weights=record,
        reference_transform=None,
        returns=returns,
        kind=kinds.said_by(inner),
    )
