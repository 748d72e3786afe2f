"""BF16 without being asked for: proved at export, tried again at load, and never where it changes an answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgebone as runtime
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import Update, update_bundle
from edgebone.core.machine import Machine
from edgebone.core.manifest import Agreement, Preprocess
from edgebone.engines.table import this_machine
from edgebone_export import export
from edgebone_export.heads.attach.attach import attach
from edgebone_export.importers.importer import HeadSpec, import_onnx
from edgebone_export.pictures import synthesize
from support.bundles import write_colors_bundle
from support.foreign import CELLS, HW, Foreign
from support.heads import linear_head
from support.machine import has_bf16
from support.networks import classifier, write_network
from support.program import edgebone

SPEC = Preprocess("stretch", (32, 32), "bilinear", True, "rgb", (0.5,) * 3, (0.25,) * 3)
PICTURE = synthesize((60, 90), np.random.default_rng(2))
LABELS = tuple("abcd")
native = pytest.mark.skipif(not has_bf16(), reason="this processor does not compute in BF16")
pytest.importorskip("openvino")


class Classifier(nn.Module):
    """A convolution and its mean, as four classes; one that goes through large numbers loses them in BF16."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 5, stride=4)
        self.last = nn.Conv2d(4, 4, 1, bias=False)
        with torch.no_grad():
            self.first.bias.fill_(offset)
            self.last.weight.copy_(8 * (torch.eye(4) - 0.25).reshape(4, 4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.first(images)).amax((2, 3))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    folder = tmp_path_factory.mktemp("reduced")

    def written(offset: float) -> Path:
        path = folder / f"{offset}.bundle"
        if not path.exists():
            export(Classifier(offset), path, preprocess=SPEC, labels=LABELS)
        return path

    return written


def bf16(bundle: Path) -> Agreement | None:
    with open_bundle(bundle) as opened:
        return opened.manifest.variants["fp32"].reduced.get("bf16")


def claiming(bundle: Path, **claim: Any) -> Path:
    """The bundle with another proof."""
    agreement = Agreement(**{"share": 1.0, "least": 1.0, "answers": 8, "pictures": 8, "by": "tests", **claim})

    def change(now: Any) -> Update:
        variant = msgspec.structs.replace(now.variants["fp32"], reduced={"bf16": agreement})
        return Update(msgspec.structs.replace(now, variants={"fp32": variant}))

    return update_bundle(bundle, change)


@native
def test_bf16_is_taken_by_itself_where_it_gives_the_same_answers(bundles: Callable[[float], Path]) -> None:
    sound = bundles(0.0)
    found = bf16(sound)
    assert found is not None
    assert found.holds
    assert found.by.startswith("openvino")
    with runtime.load(sound) as model, runtime.load(sound, precision="fp32") as full:
        assert (model.engine.name, model.engine.precision) == ("openvino", "bf16")
        assert full.engine.precision == "fp32"
        assert model(PICTURE).label == full(PICTURE).label
    with runtime.load(sound, precision="auto", engine="onnxruntime") as model:
        assert model.engine.precision == "fp32"
    said = edgebone("inspect", sound).stdout
    assert "bf16: FP32's answer in 100.00 % of" in said.replace("\n", " ")


@native
def test_fp32_stays_where_bf16_changes_an_answer(bundles: Callable[[float], Path]) -> None:
    fragile = bundles(3000.0)
    found = bf16(fragile)
    assert found is not None
    assert found.answers
    assert found.share < 1
    with runtime.load(fragile) as model:
        assert model.engine.precision == "fp32"
    with runtime.load(fragile, precision="bf16") as model:
        assert model.engine.precision == "bf16"


@native
def test_a_proof_that_does_not_hold_here_is_not_believed(tmp_path: Path) -> None:
    fragile = tmp_path / "fragile.bundle"
    export(Classifier(3000.0), fragile, preprocess=SPEC, labels=LABELS)
    claiming(fragile)
    with runtime.load(fragile) as model:
        assert model.engine.precision == "fp32"
        (said,) = model.failures
    assert said.startswith("openvino bf16: fails the golden sample: cosine must be")


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_elsewhere_the_rounding_is_emulated(
    offset: float, bundles: Callable[[float], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = msgspec.structs.replace(this_machine(), cpu_features=("avx2",))
    monkeypatch.setattr(Machine, "probe", lambda *_: machine)
    path = tmp_path / "b.bundle"
    export(Classifier(offset), path, preprocess=SPEC, labels=LABELS)
    found = bf16(path)
    assert found is not None
    assert found.by == "every value rounded, under onnxruntime"
    assert found.holds == (offset == 0)
    # This processor does not have it, whatever the bundle proves.
    with runtime.load(path) as model:
        assert model.engine.precision == "fp32"


@pytest.mark.parametrize("claim", [{"share": 0.98}, {"answers": 0, "share": 0.0, "least": 0.0}])
def test_a_proof_of_too_little_is_none(claim: dict[str, Any], tmp_path: Path) -> None:
    bundle = claiming(write_colors_bundle(tmp_path / "b.bundle"), **claim)
    with runtime.load(bundle) as model:
        assert model.engine.precision == "fp32"


def test_numbers_that_nothing_bounds_stay_in_fp32(tmp_path: Path) -> None:
    path = tmp_path / "b.bundle"
    export(Classifier(0.0), path, preprocess=SPEC, output_kind="raw")
    assert bf16(path) is None
    with runtime.load(path) as model:
        assert model.engine.precision == "fp32"


@native
@pytest.mark.parametrize("kind", ["boxes", "labels", "pixels"])
def test_every_kind_of_answer_has_its_own_bound(kind: str, tmp_path: Path) -> None:
    net = Foreign()
    if kind == "boxes":
        rows = net.node("Concat", net.boxes((HW[1], HW[0])), net.scores(3), axis=2)
        net.give(net.node("Transpose", rows, perm=[0, 2, 1]), (7, CELLS))
        head, least = HeadSpec("yolov8", labels=LABELS[:3]), 0.99
    elif kind == "labels":
        net.give(net.node("ReduceMean", net.cells(4, 6.0), axes=[1], keepdims=0), (4,))
        head, least = HeadSpec("multilabel", labels=LABELS), 1.0
    else:
        maps = net.node("Transpose", net.cells(3, 2.0), perm=[0, 2, 1])
        net.give(net.node("Reshape", maps, net.constant(np.array([0, 3, 8, 12], np.int64))), (3, 8, 12))
        head, least = HeadSpec("segmentation", labels=LABELS[:3]), 0.99
    import_onnx(net.save(tmp_path / "m.onnx"), tmp_path / "b", heads=head, preprocess="stretch")
    found = bf16(tmp_path / "b")
    assert found is not None
    assert (found.least, found.pictures) == (least, 8)
    assert found.answers > 8
    assert found.share > 0.9
    with runtime.load(tmp_path / "b") as model:
        assert model.engine.precision == ("bf16" if found.holds else "fp32")


def test_a_network_with_another_head_is_held_against_fp32_again(tmp_path: Path) -> None:
    path = write_network(tmp_path / "network.bundle", classifier(batch="batch"), (1, 4))
    for detached in (False, True):
        done = attach(
            path,
            [linear_head(path, "fruit")],
            tmp_path / f"{detached}.bundle",
            detached=detached,
            drop=["classification"],
        )
        with open_bundle(done.path) as opened:
            found = opened.manifest.variants["fp32"].reduced
        # What a detached head makes of fewer bits is not measured.
        assert list(found) == ([] if detached else ["bf16"])
        if not detached:
            assert found["bf16"].pictures == 8
            assert 0 < found["bf16"].answers <= 8
            assert found["bf16"].holds == (found["bf16"].share == 1)
