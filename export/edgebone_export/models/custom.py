"""Load the user's own networks: ``package.module:callable``, or a module."""

from __future__ import annotations

import copy
import importlib
import sys
from pathlib import Path

import msgspec
from torch import nn

from edgebone.core.manifest import Preprocess, Weights
from edgebone.core.near import did_you_mean
from edgebone_export.errors import ExportError, UnknownModelError, in_one_line
from edgebone_export.models import checkpoints, kinds, own_outputs
from edgebone_export.models import weights as weights_
from edgebone_export.models.contract import Backbone, InputSize, Model, ModelRequest, Network, check_options, resized
from edgebone_export.models.outputs import with_output

_EXAMPLE = (
    '{"mode": "crop", "resize": 256, "size_hw": [224, 224], "interpolation": "bilinear", "antialias": true, '
    '"color": "rgb", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}'
)


def names() -> tuple[str, ...]:
    """Return no names: any path may be a network."""
    return ()


def claims(model: Model) -> bool:
    """Return whether the model is a module, or named by its import path."""
    return isinstance(model, nn.Module) or ":" in model


def load(request: ModelRequest) -> Backbone:
    """Describe the user's own network; raises as :class:`edgebone_export.models.contract.Provider` does.

    Raises:
        UnknownModelError: It does not exist, or cannot be imported.
    """
    check_options(request, "resize", "kind")
    if request.output_kind in ("detections", "depth"):
        raise ExportError(
            f"{request.name} returns logits, embedding, features, segmentation or raw, not {request.output_kind}"
        )
    if isinstance(request.model, str):
        network = _build(request.model, request)
    else:
        # The caller may continue training the module, so the export changes a copy.
        network = _wrap(copy.deepcopy(request.model), request, request.preprocess)
    return with_output(network, request)


def _build(path: str, request: ModelRequest) -> Network:
    """Import and call the user's function; it returns a module, or a module and its ``Preprocess``."""
    module_name, _, attribute = path.partition(":")
    # Modules in the working directory can be named; last on the path, so that they never shadow other imports.
    if "" not in sys.path:
        sys.path.append("")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UnknownModelError(f"{path} cannot be imported: {in_one_line(error)}") from error
    function = getattr(module, attribute, None)
    if function is None:
        hint = did_you_mean(attribute, vars(module)).rstrip()
        raise UnknownModelError(
            f"{path} cannot be imported: module '{module_name}' has no attribute '{attribute}'"
            f"{f'; {hint}' if hint else ''}"
        )
    preprocess = request.preprocess
    try:
        made = function()
    except Exception as error:
        raise ExportError(f"{path}() failed: {type(error).__name__}: {error}") from error
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Preprocess):
        made, preprocess = made[0], preprocess or made[1]
    if not isinstance(made, nn.Module):
        raise ExportError(f"{path}() returned {type(made).__name__}; expected an nn.Module, or one with its Preprocess")
    return _wrap(made, request, preprocess)


def _wrap(module: nn.Module, request: ModelRequest, preprocess: Preprocess | None) -> Network:
    """Describe a module; ``default`` keeps its own weights."""
    name, weights = request.name, request.weights
    if preprocess is None:
        raise ExportError(f"{name}: its preprocessing is not known: pass --preprocess FILE.json with: {_EXAMPLE}")
    if request.size_hw is not None:
        preprocess = msgspec.structs.replace(preprocess, size_hw=request.size_hw)
    preprocess = resized(preprocess, InputSize(resize=request.resize))
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
        kind=kinds.configured_kind(inner),
    )
