"""Decoders that other packages bring, installed as a user would install them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import Update, update_bundle
from edgebone.core.manifest import Head
from support import ROOT
from support.bundles import write_boxes_bundle
from support.pictures import GREEN, picture
from support.program import edgebone, page_commands, write_package

PAGE = ROOT / "docs" / "extending" / "decoder.md"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(picture(GREEN)[..., ::-1].copy()).save(path)
    return path


def write_bundle_of(path: Path, decoder: str, params: dict[str, object] | None = None) -> Path:
    """The network that finds colours, with its columns as PaddleDetection orders them, and a decoder of our choice."""
    write_boxes_bundle(path, "found")
    with open_bundle(path) as opened:
        file = opened.manifest.variants["fp32"].file
        labels = opened.manifest.heads["found"].labels
        graph = onnx.load_from_string(opened.read(file))
        golden = opened.manifest.golden.tensors
        recorded = dict(np.load(io.BytesIO(opened.read(golden))))
    recorded["boxes"] = recorded["boxes"][..., [5, 4, 0, 1, 2, 3]]
    tensors = io.BytesIO()
    np.savez(tensors, **recorded)
    graph.graph.initializer.append(helper.make_tensor("order", TensorProto.INT64, [6], [5, 4, 0, 1, 2, 3]))
    for node in graph.graph.node:
        for index, name in enumerate(node.output):
            if name == "boxes":
                node.output[index] = "ours"
    graph.graph.node.append(helper.make_node("Gather", ["ours", "order"], ["boxes"], axis=2))
    head = Head(decoder, ("boxes",), labels, params or {})
    files = {file: graph.SerializeToString(), golden: tensors.getvalue()}
    update_bundle(path, lambda now: Update(msgspec.structs.replace(now, heads={"found": head}), files))
    return path


def test_a_packages_decoder_reads_what_a_bundle_names(tmp_path: Path, photo: Path, installed: dict[str, str]) -> None:
    bundle = write_bundle_of(tmp_path / "b.bundle", "paddle@1")
    done = edgebone("run", bundle, photo, "--json", "--save", tmp_path / "seen", env=installed)
    assert done.returncode == 0, done.stderr
    (box,) = json.loads(done.stdout)["detections"]
    assert (box["label"], box["bbox"]) == ("green", [0, 0, 64, 48])
    assert box["score"] == pytest.approx(250 / 255, abs=0.01)
    # Its settings are a detector's, and so are its drawing, tracks, labels and figures.
    done = edgebone("run", bundle, photo, "--score", "0.999", env=installed)
    assert "nothing found" in done.stdout
    done = edgebone("label", bundle, photo, "-o", tmp_path / "data", env=installed)
    assert "1 pictures with detection by found" in done.stdout, done.stderr
    assert list((tmp_path / "seen").iterdir())


@pytest.mark.slow
def test_the_commands_of_the_page_import_a_network_with_the_decoder(tmp_path: Path, installed: dict[str, str]) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Reshape", ["means", "column"], ["scores"]),
        helper.make_node("Concat", ["classes", "scores", "corners"], ["rows"], axis=2),
    ]
    constants = [
        helper.make_tensor("column", TensorProto.INT64, [3], [1, 3, 1]),
        helper.make_tensor("classes", TensorProto.FLOAT, [1, 3, 1], [0, 1, 2]),
        helper.make_tensor("corners", TensorProto.FLOAT, [1, 3, 4], [0, 0, 32, 32] * 3),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [1, 3, 6])
    graph = helper.make_graph(nodes, "net", [images], [rows], constants)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "net.onnx"
    )
    Image.new("RGB", (64, 48), (0, 255, 0)).save(tmp_path / "photo.jpg")
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    lines = page_commands(PAGE)
    for arguments in lines:
        done = edgebone(*arguments, cwd=tmp_path, env=installed)
        assert done.returncode == 0, done.stderr
    assert done.stdout == "photo.jpg: 1 green (best 100.0 %)\n"
    done = edgebone(*lines[0][:3], "c.bundle", "--decoder", "paddle@2", cwd=tmp_path, env=installed)
    assert done.returncode == 8
    assert "no decoder paddle@2" in done.stderr


def test_a_decoder_that_nobody_brings_is_said_with_those_that_are_here(
    tmp_path: Path, photo: Path, installed: dict[str, str]
) -> None:
    bundle = write_bundle_of(tmp_path / "b.bundle", "paddle@1")
    done = edgebone("run", bundle, photo)
    assert done.returncode == 3
    assert "head found needs decoder paddle@1, this edgebone has anomaly@1, boxes@1" in done.stderr
    assert done.stderr.rstrip().endswith("install a newer edgebone, or the package that provides it")
    done = edgebone("run", write_bundle_of(tmp_path / "c.bundle", "paddle@2"), photo, env=installed)
    assert done.returncode == 3
    assert "yolox@1, paddle@1; install" in done.stderr


TOY = """
import msgspec, numpy as np
from edgebone.core.results import Embedding
from edgebone.decode.contract import DecoderSpec
from edgebone.tasks.embedding import EMBEDDING
class Params(msgspec.Struct): pass
def make(name, params, labels, outputs, size_hw):
    {make}
    def decode(tensors, geometry):
        return {decode}
    return decode
SPEC = DecoderSpec("{name}", EMBEDDING, Params, make)
"""


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ({"name": "other@1"}, 3, ", not a DecoderSpec named toy@1; update the package"),
        ({"entry": "NOTHING"}, 3, "cannot be loaded: module 'toy' has no attribute 'NOTHING'; update the package"),
        ({"make": "raise RuntimeError('no licence\\nand more')"}, 3, "fails: no licence and more"),
        ({"decode": "tensors[0].nothing"}, 5, "fails: 'numpy.ndarray' object has no attribute 'nothing'"),
        ({"decode": "'a cat'"}, 5, "fails: it returned str, not Embedding"),
    ],
    ids=["renamed", "nameless", "make", "decode", "another result"],
)
def test_a_faulty_decoder_is_one_line_that_names_the_package(
    tmp_path: Path, photo: Path, what: dict[str, str], code: int, said: str
) -> None:
    parts = {"name": "toy@1", "make": "pass", "decode": "Embedding(np.ones(3, np.float32))", "entry": "SPEC", **what}
    entries = {"decoders": {"toy@1": f"toy:{parts['entry']}"}}
    env = write_package(tmp_path / "packages", "toy-decoders", entries, toy=TOY.format(**parts))
    done = edgebone("run", write_bundle_of(tmp_path / "b.bundle", "toy@1"), photo, env=env)
    assert (done.returncode, done.stdout) == (code, "")
    lines = [line for line in done.stderr.splitlines() if not line.startswith("0 frames")]
    assert len(lines) == 1, done.stderr
    assert "decoder toy@1 of the package toy-decoders " in lines[0]
    assert said in lines[0]


def test_a_package_does_not_replace_a_decoder_of_edgebone_and_is_not_looked_for(tmp_path: Path, photo: Path) -> None:
    thief = "open(__file__ + '.imported', 'w').close()"
    env = write_package(tmp_path / "packages", "thief", {"decoders": {"boxes@1": "toy:SPEC"}}, toy=thief)
    bundle = write_boxes_bundle(tmp_path / "b.bundle", "found")
    program = (
        "import sys, importlib.metadata as metadata, edgebone\n"
        "real, asked = metadata.entry_points, []\n"
        "metadata.entry_points = lambda **by: asked.append(by['group']) or real(**by)\n"
        "with edgebone.load(sys.argv[1]) as model:\n"
        "    print(model(sys.argv[2]).labels, 'edgebone.decoders' in asked)\n"
    )
    command = [sys.executable, "-c", program, str(bundle), str(photo)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stdout == "('green',) False\n"
    assert not (tmp_path / "packages" / "toy.py.imported").exists()
