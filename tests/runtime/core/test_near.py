"""Names that nothing has are answered with those that are near."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgebone
from edgebone.core.errors import BundleError, EngineError
from edgebone.core.near import did_you_mean, near
from support.bundles import write_boxes_bundle


@pytest.mark.parametrize(
    ("said", "meant"),
    [("mobilnet_v2", ["mobilenet_v2"]), ("MobileNet-V2", ["mobilenet_v2"]), ("resnet5O", ["resnet50"]), ("xyz", [])],
)
def test_near_names_are_found_whatever_the_capitals_and_dashes(said: str, meant: list[str]) -> None:
    assert near(said, ("mobilenet_v2", "resnet50", "vit_b_16"), most=1) == meant


def test_nothing_is_said_where_no_name_is_near() -> None:
    assert did_you_mean("banana", ("yolox", "detr")) == ""


def test_engines_precisions_heads_and_classes_have_near_names(colors_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no engine openvno; did you mean openvino\? choose auto"):
        edgebone.load(colors_bundle, engine="openvno")
    with pytest.raises(EngineError, match="no precision fp-32; did you mean fp32"):
        edgebone.load(colors_bundle, precision="fp-32")
    with edgebone.load(write_boxes_bundle(tmp_path / "boxes.bundle")) as model:
        with pytest.raises(BundleError, match="no head fund; did you mean found"):
            model([], heads=["fund"])
        with pytest.raises(BundleError, match="no class 'gren'; did you mean green"):
            model([], classes=["gren"])
