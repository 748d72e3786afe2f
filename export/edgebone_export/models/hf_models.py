"""Networks of Hugging Face's transformers, if it is installed: ``hf:OWNER/NAME`` or ``hf:FOLDER``."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from edgebone.core.foreign import foreign
from edgebone.core.manifest import Head, Preprocess, Weights
from edgebone_export.errors import ExportError, WeightsError
from edgebone_export.models import weights as weights_
from edgebone_export.models.contract import (
    Backbone,
    Model,
    ModelRequest,
    Network,
    Transform,
    check_no_preprocess,
    check_options,
    check_output_kind,
    run_eager,
)
from edgebone_export.models.hf_folder import CONFIG, PREFIX, PROCESSOR, WEIGHTS, HfFolder, Task, find_hf_folder
from edgebone_export.models.hf_outputs import Boxes, Classes, Depths, Logits, Maps, Vector, Wrapped
from edgebone_export.models.hf_preprocess import preprocess_of
from edgebone_export.models.kinds import configured_kind
from edgebone_export.models.output_kinds import Kind, OutputKind
from edgebone_export.models.outputs import check_classifier, with_output
from edgebone_export.models.taps import stride_of

_MOST_CLASSES, _BOXES = 256, 300
_SCORE = 0.5
# What the depths of networks are whose configuration does not say it.
_DEPTHS = {"dpt": "relative", "glpn": "metres", "zoedepth": "metres"}


def names() -> list[str]:
    """Return the installed transformers' families of networks as ``hf:FAMILY``; empty if it is not installed."""
    try:
        from transformers.models.auto import modeling_auto as auto
    except ModuleNotFoundError:
        return []
    tables = (
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
        auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
        auto.MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES,
        auto.MODEL_FOR_BACKBONE_MAPPING_NAMES,
    )
    return sorted({f"{PREFIX}{family}" for table in tables for family in table})


def claims(model: Model) -> bool:
    """Return whether the model starts with ``hf:``."""
    return isinstance(model, str) and model.startswith(PREFIX)


def load(request: ModelRequest) -> Backbone:
    """Build a network from its folder; raises as :class:`edgebone_export.models.contract.Provider` does.

    Raises:
        UnknownModelError: There is no such folder or repository.
    """
    folder = find_hf_folder(request.name, request.weights)
    if request.weights_dir is not None:
        raise ExportError(f"{request.name}: its weights are in its folder; leave out --weights-dir")
    check_no_preprocess(request)
    with _quiet():
        return _LOADS[folder.task](folder, request)


@dataclass(frozen=True)
class _Opened:
    """A network's configuration, preprocessing and labels.

    Attributes:
        folder: Its folder.
        config: transformers' configuration.
        preprocess: The preprocessing, at the chosen size.
        transform: The network's own image processor at that size; None where it has no such form.
    """

    folder: HfFolder
    config: Any
    preprocess: Preprocess
    transform: Transform | None

    @property
    def library(self) -> str:
        """The library with its version, and the class."""
        import transformers

        return f"transformers {transformers.__version__}, {self.folder.architecture}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The configuration's class names."""
        names = self.config.id2label or {}
        return tuple(str(names.get(index, index)) for index in range(self.config.num_labels))


def _open(folder: HfFolder, request: ModelRequest) -> _Opened:
    from transformers import AutoConfig, AutoImageProcessor

    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with foreign(lambda reason: ExportError(f"{folder.path / CONFIG}: transformers does not read it: {reason}")):
        config = AutoConfig.from_pretrained(folder.path, **local)
    channels = getattr(config, "num_channels", 3)
    if channels != 3:
        raise ExportError(f"{folder.path / CONFIG}: num_channels is {channels}, but pictures have 3")
    with foreign(lambda reason: ExportError(f"{folder.path / PROCESSOR}: transformers does not read it: {reason}")):
        # Resized by Pillow where there is a choice, as most of these networks were trained, and as the runtime does.
        processor = AutoImageProcessor.from_pretrained(folder.path, backend="pil", **local)
        preprocess, transform = preprocess_of(processor, request.size, folder.name)
    return _Opened(folder, config, preprocess, transform)


def _build(
    opened: _Opened, class_name: str, request: ModelRequest, wrap: Callable[..., Wrapped], **arguments: Any
) -> tuple[Wrapped, Any, Weights]:
    """Build a network of one of transformers' classes, with its weights.

    Args:
        opened: The configuration.
        class_name: The class.
        request: The request, for the weights.
        wrap: Makes the module that returns plain tensors.
        arguments: Arguments of the class.

    Returns:
        The wrapped module, transformers' own, and the record of the weights.
    """
    import transformers

    folder, config = opened.folder, opened.config
    cls: Any = getattr(transformers, class_name, None)
    is_network = inspect.isclass(cls) and issubclass(cls, transformers.PreTrainedModel)
    if not is_network:
        raise ExportError(
            f"{folder.path / CONFIG}: transformers {transformers.__version__} has no network {class_name}"
        )
    # Written out, attention is plain products and a softmax, which every engine runs.
    config._attn_implementation = "eager"
    size_hw = opened.preprocess.size_hw
    takes = inspect.signature(cls.forward).parameters
    trained = getattr(config, "image_size", None)
    trained_hw = (trained, trained) if isinstance(trained, int) else tuple(trained or size_hw)
    # Networks with one position for each patch interpolate them to another size when asked.
    resize = "interpolate_pos_encoding" in takes and trained_hw != size_hw
    keyword = {"interpolate_pos_encoding": True} if resize else {}
    if request.weights == "random":
        with foreign(lambda reason: ExportError(f"{folder.path / CONFIG}: {class_name} cannot be built: {reason}")):
            model = cls(config, **arguments)
        # transformers starts at deviations of 0.02, under which the outputs hardly depend on the picture.
        for layer in model.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.reset_parameters()
        module = wrap(model, **keyword)
        with foreign(lambda reason: _does_not_run(opened, reason)):
            weights_.randomize(module, size_hw)
        return module, model, weights_.RANDOM
    model, record = _with_weights(opened, cls, arguments)
    return wrap(model, **keyword), model, record


def _with_weights(opened: _Opened, cls: Any, arguments: dict[str, Any]) -> tuple[Any, Weights]:
    import safetensors.torch

    folder = opened.folder
    path, record = _record(folder)
    with foreign(lambda reason: WeightsError(f"{path}: the weights do not fit {cls.__name__}: {reason}")):
        # From the tensors of this one file: by the folder's name, adapters and other files in it might be read, too.
        model, found = cls.from_pretrained(
            None,
            config=opened.config,
            state_dict=safetensors.torch.load_file(path),
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
            **arguments,
        )
    absent = sorted(found["missing_keys"])
    if absent and not arguments and all(name.startswith("pooler.") for name in absent):
        return _with_weights(opened, cls, {"add_pooling_layer": False})
    # A backbone normalises each map with norms that only its training fits: without them, to 0 and 1.
    absent = [name for name in absent if "hidden_states_norms." not in name]
    if absent:
        raise WeightsError(
            f"{path}: the weights do not fit {cls.__name__} (missing: {', '.join(absent[:3])}"
            f"{f' and {len(absent) - 3} more' if len(absent) > 3 else ''})"
        )
    return model, record


def _record(folder: HfFolder) -> tuple[Path, Weights]:
    """Return the weights file and its record; the hub's cache names a file by its SHA-256, which is verified."""
    path = folder.path / WEIGHTS
    if not folder.repository:
        return weights_.own_file(path)
    name, blob = f"{folder.repository} at {folder.revision[:12]}", path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", blob):
        published = weights_.PublishedFile(name, WEIGHTS, blob, weights_.download_url(""))
        path, record = weights_.resolve(published, folder.path)
    else:
        path, record = weights_.own_file(path)
    origin = f"{WEIGHTS} of {folder.repository}, commit {folder.revision}, from the model hub's cache"
    return path, msgspec.structs.replace(record, name=name, origin=origin)


def _does_not_run(opened: _Opened, reason: str) -> ExportError:
    height, width = opened.preprocess.size_hw
    return ExportError(f"{opened.folder.name} does not run at {width}x{height}: {reason}")


def _classifier(folder: HfFolder, request: ModelRequest) -> Backbone:
    """Build a classifier, or what lies below its classes."""
    check_classifier(request)
    if request.output_kind == "features":
        return _features(folder, request)
    opened = _open(folder, request)
    module, model, record = _build(opened, folder.architecture, request, Logits)
    return _vector(opened, request, module, record, configured_kind(model))


def _base(folder: HfFolder, request: ModelRequest) -> Backbone:
    """Build a network without a head: one vector for a picture, or maps."""
    check_options(request, "resize")
    if request.output_kind == "features":
        return _features(folder, request)
    if request.output_kind not in (None, "embedding"):
        raise _no_such_output(folder, request, "embedding or features")
    opened = _open(folder, request)
    module, _, record = _build(opened, folder.architecture, request, Vector)
    return _vector(opened, dataclasses.replace(request, output_kind="embedding"), module, record, embedding=module)


def _features(folder: HfFolder, request: ModelRequest) -> Backbone:
    """Build a backbone that returns the last map of each stride."""
    from transformers import AutoBackbone

    check_options(request, "resize")
    if request.output_kind not in (None, "features"):
        raise _no_such_output(folder, request, "features")
    opened = _open(folder, request)
    config = opened.config
    cls = AutoBackbone._model_mapping.get(type(config), None)
    if cls is None:
        raise ExportError(f"{request.name}: transformers has no backbone of {config.model_type} that returns maps")
    config.set_output_features_output_indices(out_features=list(config.stage_names), out_indices=None)
    with foreign(lambda reason: _does_not_run(opened, reason)):
        every = Maps(cls(config).eval())
        maps = run_eager(every, torch.zeros(1, 3, *opened.preprocess.size_hw))
    height, patch = opened.preprocess.size_hw[0], getattr(config, "patch_size", None)
    # One size of maps is that of the patches, whatever power of two lies near.
    strides = (patch,) if isinstance(patch, int) and {item.shape[2] * patch for item in maps} == {height} else ()
    last = {
        stride_of(height, item.shape[2], strides): stage for stage, item in zip(config.out_features, maps, strict=True)
    }
    kept = [stage for stage in config.stage_names if stage in last.values()]
    config.set_output_features_output_indices(out_features=kept, out_indices=None)
    module, _, record = _build(opened, cls.__name__, request, Maps)
    return _vector(
        opened, dataclasses.replace(request, output_kind="features"), module, record, maps=module, strides=strides
    )


def _no_such_output(folder: HfFolder, request: ModelRequest, returns: str) -> ExportError:
    return ExportError(f"{request.name}: {folder.architecture} returns {returns}, not {request.output_kind}")


def _vector(
    opened: _Opened,
    request: ModelRequest,
    module: nn.Module,
    record: Weights,
    kind: Kind | None = None,
    **outputs: Any,
) -> Backbone:
    network = Network(
        name=opened.folder.name,
        library=opened.library,
        module=module,
        labels=opened.labels,
        preprocess=opened.preprocess,
        weights=record,
        reference_transform=opened.transform,
        kind=kind,
        **outputs,
    )
    return with_output(network, request)


def _segmenter(folder: HfFolder, request: ModelRequest) -> Backbone:
    """Build a segmentation network: the best class of each pixel, or the logits."""
    check_options(request, "decode", "resize")
    check_output_kind(request, "segmentation")
    opened = _open(folder, request)
    labels = _chosen_labels(opened, request)
    if len(labels) < 2 or (request.decode == "graph" and len(labels) > _MOST_CLASSES):
        raise ExportError(
            f"{request.name}: a class map holds 2 to {_MOST_CLASSES} classes, found {len(labels)}"
            + (": --decode host" if len(labels) > 1 else "")
        )
    module, _, record = _build(opened, folder.architecture, request, partial(Classes, decode=request.decode))
    output = "classes" if request.decode == "graph" else "logits"
    return _dense(opened, "segmentation", module, record, Head("segmentation@1", (output,), labels))


def _detector(folder: HfFolder, request: ModelRequest) -> Backbone:
    """Build a detector of DETR's family: decoded boxes, or the queries' logits and boxes."""
    check_options(request, "decode", "resize")
    check_output_kind(request, "detections")
    opened = _open(folder, request)
    labels = _chosen_labels(opened, request)
    wrap = partial(Boxes, decode=request.decode, classes=len(labels), boxes=_BOXES)
    module, model, record = _build(opened, folder.architecture, request, wrap)
    with foreign(lambda reason: _does_not_run(opened, reason)):
        example = torch.zeros(1, 3, *opened.preprocess.size_hw)
        logits, boxes = run_eager(Boxes(model, "host", len(labels), _BOXES, **module.keyword), example)
    if boxes.shape[2] != 4 or logits.shape[2] not in (len(labels), len(labels) + 1):
        raise ExportError(
            f"{request.name}: expected logits (n, queries, {len(labels)} classes) and boxes (n, queries, 4), found "
            f"{list(logits.shape)} and {list(boxes.shape)}"
        )
    params: dict[str, Any] = {"score": _SCORE, "iou": None, "max_detections": _BOXES}
    if request.decode == "graph":
        head = Head("boxes@1", ("boxes",), labels, params)
    else:
        activation = "softmax" if logits.shape[2] > len(labels) else "sigmoid"
        head = Head("detr@1", ("logits", "boxes"), labels, {**params, "activation": activation})
    return _dense(opened, "detections", module, record, head)


def _depth(folder: HfFolder, request: ModelRequest) -> Backbone:
    """Build a depth network."""
    check_options(request, "resize")
    check_output_kind(request, "depth")
    opened = _open(folder, request)
    config = opened.config
    said = getattr(config, "depth_estimation_type", None)
    unit = _DEPTHS.get(config.model_type) if said is None else {"relative": "relative", "metric": "metres"}.get(said)
    if unit is None:
        raise ExportError(f"{request.name}: whether {folder.architecture} returns metres is not known")
    module, _, record = _build(opened, folder.architecture, request, Depths)
    return _dense(opened, "depth", module, record, Head("depth@1", ("depth",), (), {"unit": unit}))


def _chosen_labels(opened: _Opened, request: ModelRequest) -> tuple[str, ...]:
    own, said = opened.labels, request.labels
    if said is not None and len(said) != len(own):
        raise ExportError(f"{request.name} has {len(own)} classes, but {len(said)} labels were passed")
    return own if said is None else tuple(said)


def _dense(opened: _Opened, kind: OutputKind, module: nn.Module, record: Weights, head: Head) -> Backbone:
    return Backbone(
        name=opened.folder.name,
        library=opened.library,
        module=module.eval().requires_grad_(False),
        output_kind=kind,
        outputs=head.outputs,
        heads={kind: head},
        features=(),
        preprocess=opened.preprocess,
        weights=record,
        reference_transform=opened.transform,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide transformers' messages and progress bars; what they say of missing weights is an error here."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


_LOADS: dict[Task, Callable[[HfFolder, ModelRequest], Backbone]] = {
    "classification": _classifier,
    "segmentation": _segmenter,
    "detection": _detector,
    "depth": _depth,
    "backbone": _base,
    "features": _features,
}
