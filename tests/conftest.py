"""Small bundles of our own making, with real ONNX graphs in them, and the real data where it is at hand."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import Update, update_bundle, write_bundle
from edgebone.core.manifest import Golden, Head, Manifest, ModelInfo, Parity, Preprocess, Variant, Weights
from edgebone.core.tensors import TensorSpec
from edgebone.preprocess import preprocess

LONGEST = (
    "test_fuzz.py",
    "test_readme.py",
    "test_detectors.py",
    "test_benchmarks.py",
    "test_exporter.py",
    "test_real_data.py",
)
SHARED = Path(__file__).parents[2] / "shared"
COLORS = ("blue", "green", "red", "traffic light ☂ 2")
COLORS_PREPROCESS = Preprocess(
    mode="crop",
    size_hw=(32, 32),
    interpolation="bilinear",
    antialias=True,
    color="rgb",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    resize=36,
)
# Mean R, G, B (0-255) to blue, green, red and the fourth class, which never wins.
COLOR_WEIGHTS = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]], np.float32) / 16


def colors_onnx(batch: tuple[int, int]) -> bytes:
    """A network that names the picture's colour: uint8 NHWC, mean over the pixels, one matrix."""
    size = batch[0] if batch[0] == batch[1] else "batch"
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [size, 32, 32, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [size, 4])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("weights", TensorProto.FLOAT, [3, 4], COLOR_WEIGHTS.ravel()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def colors_outputs(network_input: np.ndarray) -> np.ndarray:
    """The same in NumPy: uint8 (n, 32, 32, 3) RGB to float32 (n, 4)."""
    return network_input.astype(np.float32).mean(axis=(1, 2)) @ COLOR_WEIGHTS


def boxes_onnx() -> bytes:
    """A network that finds the picture's colours: a box of the whole picture a channel, its mean as the score."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        helper.make_node("Div", ["means", "byte"], ["shares"]),
        helper.make_node("Reshape", ["shares", "column"], ["scores"]),
        helper.make_node("Concat", ["corners", "scores", "classes"], ["boxes"], axis=2),
        helper.make_node("Transpose", ["floats"], ["classes_of_pixels"], perm=[0, 3, 1, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "boxes",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 32, 32, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 3, 6]),
            helper.make_tensor_value_info("classes_of_pixels", TensorProto.FLOAT, [1, 3, 32, 32]),
        ],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("byte", TensorProto.FLOAT, [1], [255]),
            helper.make_tensor("column", TensorProto.INT64, [3], [1, 3, 1]),
            helper.make_tensor("corners", TensorProto.FLOAT, [1, 3, 4], [0, 0, 32, 32] * 3),
            helper.make_tensor("classes", TensorProto.FLOAT, [1, 3, 1], [0, 1, 2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_boxes_bundle(path: Path, *heads: str) -> Path:
    """A bundle with the heads ``found`` (boxes) and ``areas`` (one class a pixel), or one of them alone."""
    image = picture(GREEN)
    spec = Preprocess("stretch", (32, 32), "nearest", False, "bgr", (0, 0, 0), (1, 1, 1))
    network_input = np.zeros((1, 32, 32, 3), np.uint8)
    preprocess(spec, image, network_input[0])
    shares = network_input.mean(axis=(1, 2)).reshape(1, 3, 1) / 255
    corners = np.broadcast_to(np.float32([0, 0, 32, 32]), (1, 3, 4))
    recorded = io.BytesIO()
    np.savez(
        recorded,
        input=network_input,
        boxes=np.concatenate([corners, shares, [[[0], [1], [2]]]], axis=2).astype(np.float32),
        classes_of_pixels=network_input.transpose(0, 3, 1, 2).astype(np.float32),
    )
    labels = COLORS[:3]
    known = {
        "found": Head("boxes@1", ("boxes",), labels, {"score": 0.3, "iou": 0.5}),
        "areas": Head("segmentation@1", ("classes_of_pixels",), labels),
    }
    manifest = Manifest(
        schema=1,
        name="boxes",
        created_by="edgebone tests",
        created_at="2026-01-01T00:00:00Z",
        model=ModelInfo("boxes", "tests", 0, Weights("fixed", "written by hand", "", "nothing to verify")),
        preprocess=spec,
        input=TensorSpec("images", "uint8", (1, 32, 32, 3)),
        outputs=(
            TensorSpec("boxes", "float32", (1, 3, 6)),
            TensorSpec("classes_of_pixels", "float32", (1, 3, 32, 32)),
        ),
        heads={name: known[name] for name in heads or known},
        variants={"fp32": Variant("onnx/fp32.onnx", "fp32", (1, 1), Parity(0.0, 0.0, 1.0, 1))},
        golden=Golden("golden/image.png", "golden/tensors.npz", 1e-3),
        files={},
    )
    files = {
        "onnx/fp32.onnx": boxes_onnx(),
        "golden/image.png": cv2.imencode(".png", image)[1].tobytes(),
        "golden/tensors.npz": recorded.getvalue(),
    }
    return write_bundle(path, manifest, files)


def picture(bgr: tuple[int, int, int], size_hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A picture of one colour."""
    return np.full((*size_hw, 3), bgr, np.uint8)


BLUE, GREEN, RED = (250, 10, 5), (10, 250, 5), (5, 10, 250)


def write_colors_bundle(path: Path, batch: tuple[int, int] = (1, 1), **changes: object) -> Path:
    """Write a bundle around the colour network; `changes` replace parts of its manifest."""
    image = picture(GREEN)
    network_input = np.zeros((1, 32, 32, 3), np.uint8)
    preprocess(COLORS_PREPROCESS, image, network_input[0])
    recorded = io.BytesIO()
    np.savez(recorded, input=network_input, logits=colors_outputs(network_input))
    size = batch[0] if batch[0] == batch[1] else "batch"
    parts: dict[str, object] = {
        "schema": 1,
        "name": "colors",
        "created_by": "edgebone tests",
        "created_at": "2026-01-01T00:00:00Z",
        "model": ModelInfo("colors", "tests", 12, Weights("fixed", "written by hand", "", "nothing to verify")),
        "preprocess": COLORS_PREPROCESS,
        "input": TensorSpec("images", "uint8", (size, 32, 32, 3)),
        "outputs": (TensorSpec("logits", "float32", (size, 4)),),
        "heads": {
            "classification": Head("classification@1", ("logits",), COLORS, {"activation": "softmax", "top_k": 3})
        },
        "variants": {"fp32": Variant("onnx/fp32.onnx", "fp32", batch, Parity(0.0, 0.0, 1.0, 1, 1.0))},
        "golden": Golden("golden/image.png", "golden/tensors.npz", 1e-3),
        "files": {},
    }
    files = {
        "onnx/fp32.onnx": colors_onnx(batch),
        "golden/image.png": cv2.imencode(".png", image)[1].tobytes(),
        "golden/tensors.npz": recorded.getvalue(),
    }
    return write_bundle(path, Manifest(**{**parts, **changes}), files)  # type: ignore[arg-type]


def write_meanwhile(bundle: Path, what: str) -> None:
    """What another process may do while a command works on a bundle: change its ``name`` or its FP32 ``graph``."""
    with open_bundle(bundle) as opened:
        file = opened.manifest.variants["fp32"].file
        graph = onnx.load_from_string(opened.read(file))
    graph.producer_name = "another process"
    add = {file: graph.SerializeToString()} if what == "graph" else {}
    update_bundle(bundle, lambda now: Update(msgspec.structs.replace(now, name="another"), add))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, they would keep one of two cores busy while the other waits."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def colors_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a static batch of one. Shared: do not change it."""
    return write_colors_bundle(tmp_path_factory.mktemp("bundles") / "colors.bundle")


@pytest.fixture(scope="session")
def colors_batch_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network with a batch of 1 to 4. Shared: do not change it."""
    return write_colors_bundle(tmp_path_factory.mktemp("bundles") / "colors-batch.bundle", (1, 4))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data beside the checkout; tests that want it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data in ../shared, which is not here")
    return SHARED


def write_video(path: Path, colors: list[tuple[int, int, int]], fps: float = 25.0) -> Path:
    """A small video, one colour a frame."""
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    assert writer.isOpened()
    for color in colors:
        writer.write(picture(color))
    writer.release()
    return path
