"""What training scripts save, read without running any of it."""

from __future__ import annotations

import argparse
import collections
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from edgebone.core.manifest import Weights
from edgebone_export.errors import WeightsError
from edgebone_export.models import checkpoints
from edgebone_export.models.contract import ModelRequest
from edgebone_export.models.registry import load_backbone

OWN = Weights("w.pth", "file w.pth", "", "nothing to verify")
EMA = "the moving average of the weights"


def network(value: float) -> nn.Module:
    """Four numbers, all the same: they tell which weights were taken."""
    layer = nn.Linear(3, 1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(value)
    return nn.Sequential(collections.OrderedDict(head=layer))


RAW, MEAN = network(1.0).state_dict(), network(2.0).state_dict()


def under(prefix: str, state: dict[str, torch.Tensor] = RAW) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


def read(content: object, folder: Path) -> tuple[dict[str, torch.Tensor], Weights]:
    path = folder / "w.pth"
    torch.save(content, path)
    return checkpoints.read_weights(path, OWN, network(0.0))


LAYOUTS: dict[str, tuple[Any, float, bool]] = {
    "plain": (RAW, 1, False),
    "timm without an average": ({"epoch": 3, "arch": "net", "state_dict": RAW, "state_dict_ema": None}, 1, False),
    "timm": ({"epoch": 3, "state_dict": RAW, "optimizer": {"state": {}}, "state_dict_ema": MEAN}, 2, True),
    "deit": ({"model": RAW, "model_ema": MEAN, "scaler": {"scale": 1.0}}, 2, True),
    "torchvision": ({"model": RAW, "model_ema": AveragedModel(network(2.0)).state_dict(), "epoch": 1}, 2, True),
    "yolox": ({"model": RAW, "ema": {"module": MEAN, "updates": 9}}, 2, True),
    "an average that holds no weights": ({"model": RAW, "ema": {"decay": {}}}, 1, False),
    "data parallel": (under("module."), 1, False),
    "compiled": (under("_orig_mod."), 1, False),
    "compiled, then data parallel": (under("module._orig_mod."), 1, False),
    "data parallel, then compiled": (under("_orig_mod.module."), 1, False),
    "lightning": ({"state_dict": under("model."), "pytorch-lightning_version": "2.5", "callbacks": {}}, 1, False),
    "lightning, compiled": ({"state_dict": under("model._orig_mod.")}, 1, False),
    "lightning beside a loss": ({"state_dict": {**under("net."), "loss.weight": torch.ones(2)}}, 1, False),
    "lightning with an average": ({"state_dict": {**under("net."), **under("net_ema.module.", MEAN)}}, 2, True),
    "arguments": ({"model": RAW, "args": argparse.Namespace(lr=0.1, out=Path("runs"), device="cuda")}, 1, False),
    "numpy's numbers": ({"model": RAW, "best": np.float64(0.7), "n": np.int64(3), "ok": np.bool_(True)}, 1, False),
    "numpy's arrays": ({"model": RAW, "rng": np.arange(4)}, 1, False),
    "a default dictionary": ({"model": RAW, "seen": collections.defaultdict(list, a=[1])}, 1, False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_training_scripts_save_is_read(layout: str, tmp_path: Path) -> None:
    content, value, averaged = LAYOUTS[layout]
    state, record = read(content, tmp_path)
    module = network(0.0)
    checkpoints.load_into(module, state, "net")
    assert {float(one) for one in torch.cat([tensor.flatten() for tensor in module.state_dict().values()])} == {value}
    assert (EMA in record.origin) is averaged


def test_hyperparameters_of_lightnings_own_class_need_no_lightning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "lightning.fabric.utilities.data"
    module = types.ModuleType(name)
    attributes = type("AttributeDict", (dict,), {"__module__": name})
    module.AttributeDict = attributes  # type: ignore[attr-defined]
    path = tmp_path / "epoch=3.ckpt"
    with monkeypatch.context() as context:
        for part in ("lightning", "lightning.fabric", "lightning.fabric.utilities"):
            context.setitem(sys.modules, part, types.ModuleType(part))
        context.setitem(sys.modules, name, module)
        torch.save({"state_dict": under("model."), "hyper_parameters": attributes(lr=0.1)}, path)
    state, _ = checkpoints.read_weights(path, OWN, network(0.0))
    assert state.keys() == RAW.keys()
    assert name not in sys.modules


def test_a_networks_own_names_may_begin_as_wrappers_do(tmp_path: Path) -> None:
    inner = nn.Module()
    inner.module = network(0.0)
    path = tmp_path / "w.pth"
    torch.save(under("module."), path)
    state, _ = checkpoints.read_weights(path, OWN, inner)
    checkpoints.load_into(inner, state, "net")


def test_of_two_networks_in_a_file_none_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"2 networks in it have the right names, under student\., teacher\.: save"):
        read({"state_dict": {**under("student."), **under("teacher.")}}, tmp_path)


def test_the_average_is_exported_and_said(tmp_path: Path) -> None:
    import timm

    raw, mean = (timm.create_model("resnet10t", num_classes=7) for _ in range(2))
    content = {"state_dict": raw.state_dict(), "state_dict_ema": mean.state_dict(), "args": argparse.Namespace(lr=1)}
    torch.save(content, tmp_path / "last.pth.tar")
    backbone = load_backbone(ModelRequest("timm/resnet10t", weights=str(tmp_path / "last.pth.tar")))
    torch.testing.assert_close(backbone.module.fc.weight, mean.fc.weight)
    assert backbone.weights.origin.endswith(f"state_dict_ema in it: {EMA}, not the raw ones")


class Evil:
    """Would create a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


class OfMyOwn:
    """A class that only its author's code knows."""


@pytest.mark.parametrize("beside", [False, True])
def test_a_pickle_with_code_is_refused_and_not_run(beside: bool, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save({"model": RAW, "args": argparse.Namespace(evil=Evil(marker))} if beside else Evil(marker), path)
    with pytest.raises(WeightsError, match=r"not a weights file that is safe to load: it contains an object of "):
        checkpoints.read_weights(path, OWN, None)
    path.write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(WeightsError):
        checkpoints.read_weights(path, OWN, None)
    assert not marker.exists()


def test_nothing_is_made_of_what_the_weights_come_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy trusts what a pickle says of a type: its functions are not called, whatever the file asks for."""
    path = tmp_path / "w.pth"
    torch.save({"model": RAW, "best": np.float64(1), "args": argparse.Namespace(lr=1)}, path)

    def made(*_: object) -> None:
        raise AssertionError("an object of the file was made")

    monkeypatch.setattr(np, "dtype", made)
    monkeypatch.setattr(argparse.Namespace, "__init__", made)
    checkpoints.read_weights(path, OWN, network(0.0))


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (lambda path: path.write_bytes(b""), "it is damaged or truncated"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n"), "it was not written by torch.save"),
        (
            lambda path: torch.save({"net": OfMyOwn()}, path),
            r"an object of \S*OfMyOwn, which only code from the file can create",
        ),
        (
            lambda path: torch.save(network(0.0), path),
            r"an object of torch\.nn\.modules\.\S+, which only code from the file",
        ),
        (lambda path: torch.jit.script(nn.Linear(1, 1)).save(path), "it is a TorchScript archive"),
        (
            lambda path: torch.save({"epoch": 3, "best": {"score": 1.0}}, path),
            r"expected tensors by name .*: epoch, best",
        ),
        (lambda path: torch.save([1, 2], path), r"expected tensors by name .*found: list"),
        (lambda path: cut(path), "it is damaged or truncated"),
    ],
)
def test_a_file_that_will_not_do_says_why_in_one_line(content, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.pth"
    content(path)
    with pytest.raises(WeightsError, match=cause) as caught:
        checkpoints.read_weights(path, OWN, network(0.0))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def cut(path: Path) -> None:
    torch.save(RAW, path)
    assert zipfile.is_zipfile(path)
    path.write_bytes(path.read_bytes()[:-200])


def test_safetensors_are_read(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "w.safetensors"
    safetensors.save_file(under("model."), path)
    assert checkpoints.read_weights(path, OWN, network(0.0))[0].keys() == RAW.keys()


def test_weights_that_do_not_fit_say_what_is_missing_foreign_and_misshapen() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = {"0.weight": torch.zeros(3, 9), "0.bias": torch.zeros(3), "head.weight": torch.zeros(1)}
    with pytest.raises(WeightsError) as caught:
        checkpoints.load_into(module, state, "net")
    message = str(caught.value)
    assert "missing: 1.bias, 1.weight" in message
    assert "not in the network: head.weight" in message
    assert "0.weight is [3, 9], expected [3, 2]" in message
