"""Small bundles of our own making, with real ONNX graphs in them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper

from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import Update, update_bundle, write_bundle
from edgebone.core.manifest import Golden, Head, Manifest, ModelInfo, Parity, Preprocess, Variant, Weights
from edgebone.core.tensors import TensorSpec
from edgebone.preprocess import preprocess
from support.pictures import GREEN, picture

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


WHOLE = (0, 0, 32, 32)


def boxes_onnx(corners: Sequence[Sequence[float]] = (WHOLE,) * 3) -> bytes:
    """A network that finds the picture's colours: a box a channel at these corners, its mean as the score."""
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
            helper.make_tensor("corners", TensorProto.FLOAT, [1, 3, 4], np.float32(corners).ravel()),
            helper.make_tensor("classes", TensorProto.FLOAT, [1, 3, 1], [0, 1, 2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_boxes_bundle(path: Path, *heads: str, corners: Sequence[Sequence[float]] = (WHOLE,) * 3) -> Path:
    """A bundle with the heads ``found`` (boxes) and ``areas`` (one class a pixel), or one of them alone."""
    image = picture(GREEN)
    spec = Preprocess("stretch", (32, 32), "nearest", False, "bgr", (0, 0, 0), (1, 1, 1))
    network_input = np.zeros((1, 32, 32, 3), np.uint8)
    preprocess(spec, image, network_input[0])
    shares = network_input.mean(axis=(1, 2)).reshape(1, 3, 1) / 255
    recorded = io.BytesIO()
    np.savez(
        recorded,
        input=network_input,
        boxes=np.concatenate([np.float32(corners)[None], shares, [[[0], [1], [2]]]], axis=2).astype(np.float32),
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
        "onnx/fp32.onnx": boxes_onnx(corners),
        "golden/image.png": cv2.imencode(".png", image)[1].tobytes(),
        "golden/tensors.npz": recorded.getvalue(),
    }
    return write_bundle(path, manifest, files)


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


def contents(bundle: Path) -> tuple[Any, dict[str, bytes]]:
    with open_bundle(bundle) as opened:
        return opened.manifest, {name: opened.read(name) for name in opened.manifest.files}


def two_heads_bundle(path: Path) -> Path:
    """The colour network with its mean colour as a second output, under a head of its own."""
    manifest, files = contents(write_colors_bundle(path.with_name("one-head.bundle")))
    graph = onnx.load_model_from_string(files["onnx/fp32.onnx"])
    graph.graph.output.append(helper.make_tensor_value_info("means", TensorProto.FLOAT, [1, 3]))
    import io

    golden = dict(np.load(io.BytesIO(files["golden/tensors.npz"])))
    recorded = io.BytesIO()
    np.savez(recorded, means=golden["input"].mean(axis=(1, 2), dtype=np.float32), **golden)
    files |= {"onnx/fp32.onnx": graph.SerializeToString(), "golden/tensors.npz": recorded.getvalue()}
    manifest = msgspec.structs.replace(
        manifest,
        outputs=(*manifest.outputs, TensorSpec("means", "float32", (1, 3))),
        heads={**manifest.heads, "colour": Head("embedding@1", ("means",))},
    )
    return write_bundle(path, manifest, files)


def tampered(path: Path, change: Callable[[dict[str, np.ndarray]], object], batch: tuple[int, int] = (1, 1)) -> Path:
    """A consistent bundle whose recording is another one."""
    manifest, files = contents(write_colors_bundle(path.with_name(f"good.{path.name}"), batch))
    tensors = dict(np.load(io.BytesIO(files["golden/tensors.npz"])))
    change(tensors)
    recorded = io.BytesIO()
    np.savez(recorded, **tensors)
    return write_bundle(path, manifest, {**files, "golden/tensors.npz": recorded.getvalue()})


def write_layout_bundle(path: Path) -> Path:
    """A network whose embedding is the picture's 8 × 8 thumbnail about its mean: 192 numbers."""
    manifest, files = contents(write_colors_bundle(path.with_name("colors.bundle"), (1, 4)))
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "cells"], ["split"]),
        helper.make_node("ReduceMean", ["split", "within"], ["thumbnail"], keepdims=0),
        helper.make_node("Reshape", ["thumbnail", "row"], ["rows"]),
        helper.make_node("ReduceMean", ["rows", "last"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["rows", "mean"], ["embedding"]),
    ]
    constants = {"cells": [-1, 8, 4, 8, 4, 3], "within": [2, 4], "row": [-1, 192], "last": [1]}
    graph = helper.make_graph(
        nodes,
        "layout",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 32, 32, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 192])],
        [helper.make_tensor(name, TensorProto.INT64, [len(value)], value) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    golden = dict(np.load(io.BytesIO(files["golden/tensors.npz"])))
    rows = golden["input"].reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4), dtype=np.float32).reshape(-1, 192)
    recorded = io.BytesIO()
    np.savez(recorded, input=golden["input"], embedding=rows - rows.mean(axis=1, keepdims=True))
    changed = msgspec.structs.replace(
        manifest,
        outputs=(TensorSpec("embedding", "float32", ("batch", 192)),),
        heads={"embedding": Head("embedding@1", ("embedding",))},
    )
    content = {**files, "onnx/fp32.onnx": model.SerializeToString(), "golden/tensors.npz": recorded.getvalue()}
    return write_bundle(path, changed, content)


def as_openvino_ir(tmp_path: Path) -> bytes:
    import openvino

    openvino.save_model(openvino.Core().read_model(colors_onnx((1, 1))), tmp_path / "net.xml")
    return (tmp_path / "net.xml").read_bytes()


def as_onnxruntimes_own(tmp_path: Path) -> bytes:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "net.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(colors_onnx((1, 1)), options, providers=["CPUExecutionProvider"])
    return (tmp_path / "net.ort").read_bytes()


def other_colors(path: Path) -> Path:
    """A bundle that calls the same colours by other names."""
    labels = ("azure", "lime", "rose", "none")
    head = Head("classification@1", ("logits",), labels, {"activation": "softmax", "top_k": 1})
    return write_colors_bundle(path, heads={"classification": head})
