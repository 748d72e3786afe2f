"""The examples in docstrings do what they say, on small files in the places of the real ones."""

from __future__ import annotations

import doctest
import importlib
import json
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from edgebone.core.bundle_writing import Update, update_bundle
from edgebone.core.manifest import Head
from support import ROOT
from support.bundles import write_boxes_bundle, write_colors_bundle
from support.pictures import GREEN, picture, write_video

FILES = {
    ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
    for root in (ROOT / "runtime", ROOT / "export")
    for path in root.rglob("*.py")
}
TEXTS = {name: text for name, path in FILES.items() if ">>>" in (text := path.read_text())}
SLOW = {"edgebone_export"}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder, with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    labels = ("sofa", "tabby", "car", "dog")
    head = Head("classification@1", ("logits",), labels, {"activation": "softmax"})
    write_colors_bundle(tmp_path / "mobilenet_v2.bundle", heads={"classification": head})
    write_boxes_bundle(tmp_path / "yolox.bundle", "found")

    def named(now):  # type: ignore[no-untyped-def]
        found = msgspec.structs.replace(now.heads["found"], labels=("bicycle", "person", "dog"))
        return Update(msgspec.structs.replace(now, heads={"found": found}))

    update_bundle(tmp_path / "yolox.bundle", named)
    write_video(tmp_path / "street.mp4", [GREEN] * 5)
    for name in ("photo.jpg", "shelf.jpg"):
        Image.fromarray(picture(GREEN, (96, 128))[..., ::-1]).save(tmp_path / name)
    door = {"name": "door", "polygon": [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]}
    (tmp_path / "zones.json").write_text(json.dumps({"schema": 1, "zones": [door]}))
    top = {"name": "top", "xyxy": [0, 0, 1, 0.5], "columns": 2, "expected": [{"product": "milk"}]}
    (tmp_path / "shelf.json").write_text(json.dumps({"schema": 1, "agree": 1, "looks": 1, "zones": [top]}))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in sorted(TEXTS)]
)
@pytest.mark.usefixtures("files")
def test_examples_in_docstrings_do_what_they_say(name: str) -> None:
    if name.startswith(("edgebone.pipeline", "edgebone.vision")):
        pytest.importorskip("supervision")
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


def test_no_example_in_a_docstring_is_skipped() -> None:
    assert TEXTS
    assert not [name for name, text in TEXTS.items() if "doctest: +SKIP" in text]
