"""Find and check a Hugging Face network's folder, without PyTorch, so that a wrong one is rejected at once.

Nothing in a folder is run: weights are read from safetensors only, and a configuration that names code is rejected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgebone.core.errors import missing
from edgebone.core.foreign import foreign
from edgebone.core.limits import LABELS_BYTES
from edgebone.core.near import did_you_mean
from edgebone.core.reading import is_regular, read_text
from edgebone_export.errors import ExportError, UnknownModelError, WeightsError, in_one_line

PREFIX = "hf:"
WEIGHTS = "model.safetensors"
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
Task = Literal["classification", "segmentation", "detection", "depth", "backbone", "features"]

# How transformers ends the names of its classes.
_TASKS: dict[str, Task] = {
    "ForImageClassification": "classification",
    "ForImageClassificationWithTeacher": "classification",
    "ForSemanticSegmentation": "segmentation",
    "ForObjectDetection": "detection",
    "ForDepthEstimation": "depth",
    "Model": "backbone",
    "Backbone": "features",
}
_HUB_TIMEOUT_S = 10


@dataclass(frozen=True)
class HfFolder:
    """A folder in the form of transformers' ``save_pretrained``.

    Attributes:
        path: The folder, in the hub's cache for a repository.
        repository: The hub's name for it, ``owner/name``; empty for a folder of the user's own.
        revision: The repository's commit; empty for a folder of the user's own.
        architecture: The class in transformers that the weights are for.
        task: What that class is for.
    """

    path: Path
    repository: str
    revision: str
    architecture: str
    task: Task

    @property
    def name(self) -> str:
        """The folder's or the repository's own name, without owner or parents."""
        return self.repository.rpartition("/")[2] or self.path.resolve().name


def find_hf_folder(model: str, weights: str) -> HfFolder:
    """Find a network's folder and check everything that can be checked without PyTorch.

    Args:
        model: ``hf:`` and a folder, or a repository's name on the model hub.
        weights: ``default`` for the folder's own, or ``random``.

    Returns:
        The folder; a repository's is in the hub's cache, and is downloaded if it is not there yet.

    Raises:
        MissingDependencyError: transformers is not installed.
        UnknownModelError: There is no such folder, or it is not a network's.
        ExportError: Its configuration names code, or a kind of network that is not exported.
        WeightsError: It has no weights in safetensors, or the hub does not give the repository.
    """
    name = model.removeprefix(PREFIX)
    try:
        import transformers
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise missing("transformers", "transformers", model) from error
    if weights not in ("default", "random"):
        raise WeightsError(
            f"{model}: --weights {weights}: a network of transformers has its weights in its folder, as {WEIGHTS}; "
            "pass that folder, or --weights random"
        )
    path = Path(name).expanduser()
    if path.is_dir():
        return _checked(path, "", "", weights)
    _check_name(name, path, Path(transformers.__file__).parent / "models")
    path = _snapshot(name, weights)
    return _checked(path, name, path.name, weights)


def _check_name(name: str, path: Path, families: Path) -> None:
    """Reject what is neither a folder nor a repository's name."""
    if is_regular(path):
        raise UnknownModelError(f"{PREFIX}{name}: a file; pass the folder that has {CONFIG} and {WEIGHTS}")
    if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) is None:
        raise UnknownModelError(f"{PREFIX}{name}: no such folder{_beside(path)}")
    if "/" not in name and (families / name.replace("-", "_")).is_dir():
        raise UnknownModelError(
            f"{PREFIX}{name}: a family of networks; pass a network of it, such as {PREFIX}OWNER/NAME on the model hub, "
            f"or a folder: {PREFIX}./FOLDER"
        )


def _beside(path: Path) -> str:
    try:
        names = [item.name for item in path.parent.iterdir() if item.is_dir()]
    except OSError:
        return ""
    meant = did_you_mean(path.name, names).rstrip()
    return f"; {meant}" if meant else ""


def _snapshot(repository: str, weights: str) -> Path:
    """Return the repository's folder in the hub's cache; the files are downloaded if one is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE

    files = [CONFIG, PROCESSOR, *([WEIGHTS] if weights == "default" else [])]
    try:
        cached = Path(snapshot_download(repository, local_files_only=True))
        if all((cached / file).is_file() for file in files):
            return cached
    # The hub's package says ValueError of a name that cannot be.
    except (OSError, ValueError):
        pass
    try:
        return Path(snapshot_download(repository, allow_patterns=files, etag_timeout=_HUB_TIMEOUT_S))
    except Exception as error:
        raise WeightsError(
            f"{PREFIX}{repository}: no such folder{_beside(Path(repository))}; not complete in the model hub's cache "
            f"({HF_HUB_CACHE}), and the hub does not give it ({in_one_line(error)[:120]}): fetch it where the hub can "
            f"be reached, with hf download {repository}, or pass a folder: {PREFIX}./FOLDER"
        ) from error


def _checked(path: Path, repository: str, revision: str, weights: str) -> HfFolder:
    config = _read(path / CONFIG)
    if "pretrained_cfg" in config and "architecture" in config:
        raise UnknownModelError(f"{path}: timm's own network; export it as timm/{config['architecture']}")
    for file, content in ((CONFIG, config), (PROCESSOR, _read(path / PROCESSOR))):
        if "auto_map" in content:
            raise ExportError(
                f"{path / file}: auto_map names code in the folder, which would have to be run; edgebone runs none: "
                "export your own function instead, as package.module:callable"
            )
    if "quantization_config" in config:
        raise ExportError(f"{path / CONFIG}: quantization_config: export the network in full precision instead")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or len(architectures) != 1 or not isinstance(architectures[0], str):
        raise ExportError(f"{path / CONFIG}: architectures must name one class of transformers, found {architectures}")
    architecture: str = architectures[0]
    task = next((task for end, task in _TASKS.items() if architecture.endswith(end)), None)
    if task is None:
        raise ExportError(
            f"{path / CONFIG}: {architecture} is not exported; expected a class that ends in {', '.join(_TASKS)}"
        )
    if weights == "default":
        _check_weights(path)
    return HfFolder(path, repository, revision, architecture, task)


def _check_weights(path: Path) -> None:
    if is_regular(path / WEIGHTS):
        return
    if is_regular(path / f"{WEIGHTS}.index.json"):
        raise WeightsError(
            f"{path}: the weights are in several files; save them in one: "
            "model.save_pretrained(FOLDER, max_shard_size='50GB')"
        )
    pickled = [name for name in ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack") if is_regular(path / name)]
    raise WeightsError(
        f"{path}: no {WEIGHTS} in it"
        + (
            f", only {pickled[0]}, which is not read, since such a file can run code: save it as safetensors, with "
            "model.save_pretrained(FOLDER), where you trust it"
            if pickled
            else "; pass --weights random for a test"
        )
    )


def _read(path: Path) -> Mapping[str, Any]:
    if not is_regular(path):
        raise UnknownModelError(
            f"{path.parent}: no {path.name} in it; a network of transformers has {CONFIG}, {PROCESSOR} and {WEIGHTS}"
        )
    with foreign(lambda reason: ExportError(f"{path}: not a readable JSON object ({reason})")):
        return msgspec.json.decode(read_text(path, LABELS_BYTES), type=dict[str, Any])
