"""Read weights from the files that training scripts save, without unpickling code.

Supports files of timm's, torchvision's and Lightning's training and any with the same layout: a state dict, alone or
under a key beside optimizer, epoch and arguments; the moving average of the weights (EMA) beside the raw ones; names
with the prefixes of wrappers and outer modules.
"""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from edgebone.core.manifest import Weights
from edgebone.core.reading import open_regular
from edgebone_export.errors import WeightsError

Tensors = dict[str, torch.Tensor]

# timm's validate.py and load_checkpoint prefer the first two to anything else in the file.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_PLAIN = ("state_dict", "model", "model_state_dict", "module", "net", "network", "weights")
# Scripts nest no deeper: {"ema": {"module": {...}}}.
_DEPTH = 3
# Prefixes of training wrappers around the network: DataParallel's and Lightning's.
_WRAPPERS = ("module.", "model.")
_COMPILED = "_orig_mod"


class _Setting:
    """Stand-in for an object that is not needed; ignores its arguments and state."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _empty(*_: object) -> dict[object, object]:
    """Stand-in for a dictionary subclass."""
    return {}


# Arguments, paths, best scores: objects that training scripts save beside the weights. None is created or imported:
# the name in the file maps to the stand-in. NumPy's own functions would trust the bytes that they are given.
_STAND_INS: dict[Any, tuple[str, ...]] = {
    _Setting: (
        "argparse.Namespace",
        *(f"pathlib{local}.{name}" for local in ("", "._local") for name in ("Path", "PosixPath", "PurePosixPath")),
        *(f"pathlib{local}.{name}" for local in ("", "._local") for name in ("WindowsPath", "PureWindowsPath")),
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
        "numpy.dtype",
        "numpy.ndarray",
        *(f"numpy.dtypes.{kind}DType" for kind in ("Float16", "Float32", "Float64", "Bool", "Str")),
        *(f"numpy.dtypes.{sign}Int{bits}DType" for sign in ("", "U") for bits in (8, 16, 32, 64)),
        *(f"builtins.{name}" for name in ("dict", "list", "int", "float", "str", "bool", "tuple", "slice", "range")),
        "datetime.datetime",
        "datetime.timedelta",
        "torchvision.transforms.functional.InterpolationMode",
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.listconfig.ListConfig",
        "omegaconf.base.ContainerMetadata",
        "omegaconf.base.Metadata",
        *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean")),
        "typing.Any",
    ),
    _empty: ("collections.defaultdict",),
    # Created by __new__ and filled item by item, which torch does for its own dictionaries only.
    OrderedDict: (
        "lightning.fabric.utilities.data.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
    ),
}


def read_weights(path: Path, record: Weights, module: torch.nn.Module | None) -> tuple[Tensors, Weights]:
    """Read one network's tensors.

    Args:
        path: A file written by torch.save or safetensors.
        record: The file's record.
        module: The network, whose parameter names locate it in the file; its number of classes may differ from the
            file's. None leaves the names unchanged.

    Returns:
        The tensors by the network's names, and the record, which notes a moving average.

    Raises:
        WeightsError: The file has no state dict or several that fit, is damaged, or contains code.
    """
    content = _read(path)
    found = next(_state_dicts(content, (), _DEPTH), None)
    if found is None:
        kept = f"{', '.join(map(str, list(content)[:8]))}" if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(
            f"{path}: expected tensors by name (a state dict), alone or under {', '.join(_PLAIN[:3])}; found: "
            f"{kept or 'nothing'}"
        )
    keys, state = found
    prefix = ""
    if module is not None:
        state, prefix = _named_as_in(module, state, path)
    averaged = [name for name in (*keys, prefix.rstrip(".")) if "ema" in re.split(r"[._]", name.lower())]
    if averaged:
        origin = f"{record.origin}, {averaged[0]} in it: the moving average of the weights, not the raw ones"
        record = msgspec.structs.replace(record, origin=origin)
    return state, record


def load_into(module: torch.nn.Module, state: Mapping[str, torch.Tensor], what: str) -> None:
    """Load tensors into a network; every name and shape must match.

    Raises:
        WeightsError: Some do not; the message lists the first ones.
    """
    own = module.state_dict()
    absent = sorted(own.keys() - state.keys())
    foreign = sorted(state.keys() - own.keys())
    # torchvision's oldest files predate the batch counters of batch norms.
    absent = [name for name in absent if not name.endswith("num_batches_tracked")]
    shapes = [
        f"{name} is {list(state[name].shape)}, expected {list(own[name].shape)}"
        for name in own.keys() & state.keys()
        if own[name].shape != state[name].shape
    ]
    problems = [
        f"{title}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for title, names in (("missing", absent), ("not in the network", foreign), ("shape", shapes))
        if names
    ]
    if problems:
        raise WeightsError(f"{what}: the weights do not fit the network ({'; '.join(problems)})")
    module.load_state_dict(dict(state), strict=False)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            import safetensors.torch

            return safetensors.torch.load_file(path)
        allowed: list[Any] = [(stand_in, name) for stand_in, names in _STAND_INS.items() for name in names]
        with open_regular(path) as file, torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except ModuleNotFoundError as error:
        raise WeightsError(f'{path}: safetensors is not installed: pip install "edgebone[timm]"') from error
    except Exception as error:
        raise WeightsError(
            f"{path}: not a weights file that is safe to load: {_cause(error)}; save the weights alone, with "
            "torch.save(model.state_dict(), ...) or as safetensors"
        ) from error


def _cause(error: Exception) -> str:
    """Return what is wrong with a file: torch's own message begins with how to load it regardless."""
    text = str(error)
    if found := re.search(r"GLOBAL (\S+) was not an allowed global", text):
        return f"it contains an object of {found[1]}, which only code from the file can create"
    if found := re.search(r"GLOBAL (\S+) whose module \S+ is blocked", text):
        return f"it would call {found[1]}"
    if "TorchScript" in text:
        return "it is a TorchScript archive, which is a program"
    if isinstance(error, EOFError) or "PytorchStreamReader" in text:
        return "it is damaged or truncated"
    if re.search(r"invalid load key|Unsupported operand|magic number", text):
        return "it was not written by torch.save"
    lines = [line.strip() for line in text.split("WeightsUnpickler error: ")[-1].splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def _state_dicts(content: object, keys: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], Tensors]]:
    """Yield the state dicts in a file's content, best first, each with its path of keys."""
    if not isinstance(content, Mapping):
        return
    for key in (*_AVERAGED, *_PLAIN):
        if depth and isinstance(content.get(key), Mapping):
            yield from _state_dicts(content[key], (*keys, key), depth - 1)
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if tensors and not any(isinstance(value, Mapping) for value in content.values()):
        yield keys, tensors


def _named_as_in(module: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> tuple[Tensors, str]:
    """Return tensors by their names in the network, and the prefix that was removed."""
    plain = {".".join(part for part in name.split(".") if part != _COMPILED): value for name, value in state.items()}
    own = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    if not own or all(name in plain for name in own):
        return plain, ""
    # If the network is part of a larger module, all of its names share a prefix.
    beginnings = {name.removesuffix(own[0]) for name in plain if name.endswith(f".{own[0]}")}
    whole = sorted(beginning for beginning in beginnings if all(beginning + name in plain for name in own))
    averaged = [beginning for beginning in whole if "ema" in re.split(r"[._]", beginning.lower())]
    whole = averaged or whole
    if len(whole) > 1:
        raise WeightsError(
            f"{path}: {len(whole)} networks in it have the right names, under {', '.join(whole)}: save only one"
        )
    if whole:
        return _without(plain, whole[0]), whole[0]
    # Another network, or its authors' own names, which are adapted later.
    for wrapper in _WRAPPERS * 2:
        if all(name.startswith(wrapper) for name in plain if name != "n_averaged"):
            plain = _without(plain, wrapper)
    return plain, ""


def _without(state: Mapping[str, torch.Tensor], beginning: str) -> Tensors:
    return {name.removeprefix(beginning): value for name, value in state.items() if name.startswith(beginning)}
