"""timm's models, if timm is installed."""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgebone.core.errors import missing
from edgebone.core.manifest import Preprocess, Weights
from edgebone_export.errors import ExportError, WeightsError
from edgebone_export.models import checkpoints
from edgebone_export.models import weights as weights_
from edgebone_export.models.contract import Backbone, Model, ModelRequest, Network, class_count_in, resized
from edgebone_export.models.outputs import check_classifier, with_output
from edgebone_export.models.taps import stride_of

_PREFIX = "timm/"
_HUB_TIMEOUT_S = 10
# Networks trained with parallel layers that run faster merged (benchmarks/merged_layers.py).
_FASTER_MERGED = ("mobileone_", "fastvit_", "ghostnetv3_")


def names() -> list[str]:
    """Return timm's models as ``timm/NAME``; empty if it is not installed."""
    return [f"{_PREFIX}{name}" for name in _known() or ()]


def claims(model: Model) -> bool:
    """Return whether timm has the model, with or without ``timm/``; if not installed, whether it starts with ``timm/``.

    A tag after a dot is allowed.
    """
    if not isinstance(model, str):
        return False
    known = _known()
    if known is None:
        return model.startswith(_PREFIX)
    return model.removeprefix(_PREFIX).split(".")[0] in known


def _known() -> list[str] | None:
    """Return timm's model names; None if it is not installed."""
    try:
        import timm
    except ModuleNotFoundError:
        return None
    found: list[str] = timm.list_models()
    return found


def load(request: ModelRequest) -> Backbone:
    """Build a classifier; raises as :class:`edgebone_export.models.contract.Provider` does."""
    check_classifier(request)
    return with_output(_build(request), request)


def _build(request: ModelRequest) -> Network:
    name = request.name.removeprefix(_PREFIX)
    try:
        import timm
    except ModuleNotFoundError as error:
        raise missing("timm", "timm", request.name) from error
    sized: dict[str, Any] = {} if request.size_hw is None else _size_argument(name, request.size_hw)
    module: Any = timm.create_model(name, pretrained=False, **sized)
    data = timm.data.resolve_data_config({}, model=module)
    wanted = resized(preprocess_of(name, data), request.size)
    record = weights_.RANDOM
    if request.weights == "random":
        weights_.randomize(module, wanted.size_hw)
    else:
        module, record = _with_weights(name, module, request, sized)
    strides = tuple({info["reduction"] for info in getattr(module, "feature_info", ())})
    return Network(
        name=name,
        library=f"timm {timm.__version__}",
        module=module,
        labels=_labels(module.num_classes),
        preprocess=wanted,
        weights=record,
        reference_transform=_reference(data, wanted),
        embedding=_Embedding(module),
        maps=_Maps(module, strides) if hasattr(module, "forward_intermediates") else None,
        strides=strides,
        merge=merge if name.startswith(_FASTER_MERGED) else None,
    )


def merge(module: nn.Module) -> nn.Module:
    """Return a copy with training-time parallel layers merged (timm's reparameterisation).

    Ding et al. 2021, "RepVGG: Making VGG-style ConvNets Great Again", https://arxiv.org/abs/2101.03697.
    """
    from timm.utils.model import reparameterize_model

    merged: nn.Module = reparameterize_model(module)
    return merged.eval().requires_grad_(False)


def _size_argument(name: str, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Return the size argument: transformers are built for one size, convolutional networks take any."""
    import timm

    try:
        timm.create_model(name, pretrained=False, img_size=size_hw)
    except TypeError:
        return {}
    return {"img_size": size_hw}


def preprocess_of(name: str, data: dict[str, Any]) -> Preprocess:
    """Convert timm's data configuration to the manifest's preprocessing.

    Raises:
        ExportError: A bundle cannot describe the configuration.
    """
    channels, height, width = data["input_size"]
    if channels != 3:
        raise ExportError(f"timm/{name} takes {channels} channels, but pictures have 3")
    mode, share = data.get("crop_mode") or "center", data["crop_pct"]
    resize: int | tuple[int, int]
    if mode == "center" and height == width:
        resize = math.floor(height / share)
    elif mode == "squash":
        resize = (math.floor(height / share), math.floor(width / share))
    else:
        raise ExportError(f"timm/{name} crops in mode {mode} to {width}x{height}, which a bundle cannot describe")
    return Preprocess(
        mode="crop",
        size_hw=(height, width),
        interpolation=data["interpolation"],
        antialias=True,
        color="rgb",
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        resize=resize,
    )


def _with_weights(name: str, module: Any, request: ModelRequest, sized: dict[str, Any]) -> tuple[nn.Module, Weights]:
    import timm

    config, weights = module.pretrained_cfg, request.weights
    if weights == "default":
        path, record = weights_.resolve(_published(name, config), request.weights_dir)
    elif Path(weights).is_file():
        path, record = weights_.own_file(Path(weights))
    else:
        raise WeightsError(
            f"timm/{name}: no file {weights}; timm's weights are selected by a tag in the model's name, such as "
            f"{name.split('.')[0]}.{config.get('tag') or 'TAG'}; otherwise pass a file or random"
        )
    state, record = checkpoints.read_weights(path, record, module)
    classes = class_count_in(state, module, module.num_classes)
    if classes != module.num_classes:
        module = timm.create_model(name, pretrained=False, num_classes=classes, **sized)
    # Some architectures publish weights in their authors' own layout, with a function that converts them.
    adapt = vars(sys.modules[type(module).__module__]).get("checkpoint_filter_fn")
    checkpoints.load_into(module, adapt(state, module) if adapt else state, f"timm/{name}")
    return module, record


def _published(name: str, config: dict[str, Any]) -> weights_.PublishedFile:
    tagged = f"{config.get('architecture', name)}.{config.get('tag', '')}".rstrip(".")
    if config.get("hf_hub_id"):
        return _from_hub(tagged, config["hf_hub_id"])
    if config.get("url"):
        file = config["url"].split("/")[-1]
        download = weights_.download_url(config["url"])
        return weights_.PublishedFile(tagged, file, weights_.hash_in_name(file), download)
    raise WeightsError(f"timm/{name} has no published weights; pass a file or random")


def _from_hub(tagged: str, repository: str) -> weights_.PublishedFile:
    """Return a file of the model hub, which alone records its SHA-256."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    file = "model.safetensors"
    url = hf_hub_url(repository, file)

    def fetch(target: Path) -> None:
        weights_.download_url(url)(target)

    try:
        recorded = get_hf_file_metadata(url, timeout=_HUB_TIMEOUT_S).etag or ""
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise WeightsError(
            f"weights {tagged}: the model hub, which alone records their hash, cannot be reached ({reason[:120]}); "
            "pass the file: --weights FILE, or --weights random for a test"
        ) from error
    return weights_.PublishedFile(tagged, f"{tagged}.safetensors", recorded.strip('"'), fetch)


@lru_cache(maxsize=1)
def _imagenet() -> tuple[str, ...]:
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo().label_descriptions())


def _labels(classes: int) -> tuple[str, ...]:
    labels = _imagenet()
    return labels if len(labels) == classes else ()


def _reference(data: dict[str, Any], preprocess: Preprocess) -> Any:
    import timm

    if preprocess.mode != "crop" or preprocess.size_hw != tuple(data["input_size"][1:]):
        return None
    if isinstance(preprocess.resize, int):
        # timm rounds size / crop_pct down: adding a half keeps the result from being one pixel short.
        data = {**data, "crop_mode": "center", "crop_pct": preprocess.size_hw[0] / (preprocess.resize + 0.5)}
    return timm.data.create_transform(**data, is_training=False)


class _Embedding(nn.Module):
    """timm's pooled features, before the classifier."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.model.forward_head(self.model.forward_features(images), pre_logits=True)
        return pooled.flatten(1)


class _Maps(nn.Module):
    """timm's intermediate maps, the last one of each stride, finest first."""

    def __init__(self, model: Any, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.model: Any = model
        self._strides = strides

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = self.model.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")
        height = images.shape[2]
        last = {stride_of(height, item.shape[2], self._strides): item for item in maps if item.shape[2] < height}
        return tuple(last[stride] for stride in sorted(last))
