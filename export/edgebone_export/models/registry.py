"""The table of providers, and loading networks from any of them by name."""

from __future__ import annotations

import fnmatch

import torch

from edgebone.core.near import near
from edgebone_export.errors import ExportError, UnknownModelError
from edgebone_export.given import check_model_name
from edgebone_export.models import custom, hf_models, segmenters, timm_models, torchvision_models
from edgebone_export.models.contract import Backbone, ModelRequest, Provider
from edgebone_export.models.detectors import torchvision_detectors
from edgebone_export.models.detectors.composed import Composed
from edgebone_export.models.output_kinds import check_kinds


def load_backbone(request: ModelRequest) -> Backbone:
    """Build a network with its weights and choose its output.

    Args:
        request: The request; the first provider that claims the model serves it.

    Raises:
        UnknownModelError: No provider has it; the message suggests similar names.
        WeightsError: The weights cannot be found, verified or loaded.
        ExportError: The size, labels or output do not fit the network.
        MissingDependencyError: The provider's library is not installed.
    """
    check_kinds(request.output_kind, request.kind)
    if request.kind is not None and request.output_kind not in (None, "logits"):
        raise ExportError(f"--kind applies to logits, not to {request.output_kind}")
    for provider in PROVIDERS:
        if provider.claims(request.model):
            torch.manual_seed(0)
            return provider.load(request)
    raise unknown(request.name)


def unknown(name: str) -> UnknownModelError:
    """Return the error for an unknown name, with similar names of all providers.

    Raises:
        UnknownModelError: The name is a file, or a network distributed as one.
    """
    check_model_name(name)
    library, _, bare = name.rpartition("/")
    items = list_models("*")
    # A provider's prefix may be missing or wrong; the first provider with the name is suggested.
    known: dict[str, str] = {}
    for item in [item for item in items if library and item.startswith(f"{library}/")] or items:
        known.setdefault(_bare(item), item)
    found = near(bare, known)
    found += [item for item in known if bare and bare in item and item not in found][: 5 - len(found)]
    hint = f"did you mean {', '.join(known[item] for item in found)}?" if found else "edgebone models lists all names"
    return UnknownModelError(f"no model named {name}; {hint}")


def list_models(pattern: str) -> list[str]:
    """Return the names of all providers, in table order.

    Args:
        pattern: Shell wildcards; without any, a substring of the name.
    """
    if not any(character in pattern for character in "*?["):
        pattern = f"*{pattern}*"
    names = [name for provider in PROVIDERS for name in provider.names()]
    return [name for name in names if fnmatch.fnmatchcase(_bare(name), pattern)]


def _bare(name: str) -> str:
    return name.rpartition("/")[2]


# The first provider that claims a model serves it: a plain name is torchvision's before it is timm's. Another provider
# is a file of its own and a row here.
PROVIDERS: tuple[Provider, ...] = (
    torchvision_models,
    torchvision_detectors,
    segmenters,
    Composed(load_backbone),
    hf_models,
    custom,
    timm_models,
)
