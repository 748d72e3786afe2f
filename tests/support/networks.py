"""Small networks with the parts that fewer bits break, as bundles with pictures to look at."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgebone.core.bundle_writing import write_bundle
from edgebone.core.manifest import Golden, Head, Manifest, ModelInfo, Parity, Preprocess, Variant, Weights
from edgebone.core.tensors import TensorSpec
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.preprocess import preprocess
from edgebone_export.pictures import synthesize
from support.bundles import COLORS

SIZE = 32
SPEC = Preprocess("stretch", (SIZE, SIZE), "bilinear", True, "rgb", (0.48, 0.45, 0.4), (0.25, 0.25, 0.25))
MEAN = np.array([122.4, 114.75, 102.0], np.float32).reshape(1, 3, 1, 1)


class Net:
    """Writes a network operator by operator."""

    def __init__(self, seed: int = 0, opset: int = 18, batch: int | str = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.opset = opset
        self.batch = batch

    def op(self, op_type: str, inputs: list[str], name: str = "", **attributes: object) -> str:
        name = name or f"{op_type.lower()}_{len(self.nodes)}"
        output = f"{name}_out"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name, **attributes))
        return output

    def const(self, array: np.ndarray, name: str = "") -> str:
        name = name or f"const_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def picture(self) -> str:
        """From the uint8 picture to floats around 0, as an export begins."""
        floats = self.op("Cast", ["images"], "normalize_cast", to=TensorProto.FLOAT)
        turned = self.op("Transpose", [floats], "normalize_transpose", perm=[0, 3, 1, 2])
        return self.op("Sub", [turned, self.const(MEAN)], "normalize_subtract")

    def conv(
        self, value: str, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, name: str = "", group: int = 1,
        scale: np.ndarray | float = 1.0,
    ) -> str:  # fmt: skip
        weight = self.rng.normal(size=(outputs, inputs // group, kernel, kernel)) / np.sqrt(inputs / group) / kernel
        weight = (weight * np.asarray(scale).reshape(-1, 1, 1, 1)).astype(np.float32)
        bias = self.rng.normal(size=outputs).astype(np.float32)
        pads = [kernel // 2] * 4
        parts = [value, self.const(weight), self.const(bias)]
        return self.op("Conv", parts, name, pads=pads, strides=[stride, stride], group=group)

    def bytes(self, outputs: dict[str, tuple[int, ...]]) -> bytes:
        values = [helper.make_tensor_value_info(k, TensorProto.FLOAT, [self.batch, *v]) for k, v in outputs.items()]
        picture = helper.make_tensor_value_info("images", TensorProto.UINT8, [self.batch, SIZE, SIZE, 3])
        graph = helper.make_graph(self.nodes, "net", [picture], values, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def classifier(seed: int = 0, *, outlier: bool = False, opset: int = 18, batch: int | str = 1) -> bytes:
    """Convolutions with ReLU, a depthwise one, a residual addition, pooling and a matrix: logits of four classes.

    ``outlier`` gives the convolution ``spoiled`` one input channel that is thousands of times as large as the others,
    which eight bits then round to nothing.
    """
    net = Net(seed, opset, batch)
    value = net.picture()
    value = net.op("Relu", [net.conv(value, 3, 16, stride=2, name="stem", scale=0.05)])
    value = net.op(
        "Clip",
        [net.conv(value, 16, 16, name="depthwise", group=16), net.const(np.float32(0)), net.const(np.float32(6))],
    )
    before = value
    value = net.conv(value, 16, 16, name="inside")
    value = net.op("Add", [value, before], "residual")
    if outlier:
        factors = np.ones(16)
        factors[3] = 4000.0
        value = net.op("Relu", [net.conv(value, 16, 16, kernel=1, name="spoiling", scale=factors)])
        weight = net.rng.normal(size=(16, 16, 1, 1)).astype(np.float32)
        weight[:, 3] /= 40000.0
        value = net.op(
            "Relu", [net.op("Conv", [value, net.const(weight), net.const(np.zeros(16, np.float32))], "spoiled")]
        )
    value = net.op("Relu", [net.conv(value, 16, 32, stride=2, name="wide")])
    value = net.op("GlobalAveragePool", [value])
    value = net.op("Flatten", [value])
    return _with_head(net, value, 32)


def transformer(scale: float = 1.0, opset: int = 17) -> bytes:
    """Patches, a layer norm written out in single operators, a matrix product with SiLU, and a mean over the patches.

    ``scale`` multiplies what goes into the layer norm: squared, 1400 is more than FP16 can hold.
    """
    net = Net(1, opset)
    width, tokens = 128, (SIZE // 8) ** 2
    value = net.picture()
    weight = (net.rng.normal(size=(width, 3, 8, 8)) * scale / 50).astype(np.float32)
    value = net.op(
        "Conv", [value, net.const(weight), net.const(np.zeros(width, np.float32))], "patches", strides=[8, 8]
    )
    value = net.op("Reshape", [value, net.const(np.array([1, width, tokens]))])
    value = net.op("Transpose", [value], perm=[0, 2, 1])
    mean = net.op("ReduceMean", [value], "mean", axes=[-1])
    centered = net.op("Sub", [value, mean], "centered")
    square = net.op("Pow", [centered, net.const(np.float32(2))], "square")
    variance = net.op("ReduceMean", [square], "variance", axes=[-1])
    deviation = net.op("Sqrt", [net.op("Add", [variance, net.const(np.float32(1e-6))], "epsilon")], "deviation")
    value = net.op("Div", [centered, deviation], "normalized")
    for index in range(2):
        matrix = (net.rng.normal(size=(width, width)) / np.sqrt(width)).astype(np.float32)
        hidden = net.op("MatMul", [value, net.const(matrix)], f"matrix_{index}")
        hidden = net.op("Add", [hidden, net.const(net.rng.normal(size=width).astype(np.float32))])
        value = net.op("Mul", [hidden, net.op("Sigmoid", [hidden])])
    value = net.op("ReduceMean", [value], axes=[1], keepdims=0)
    return _with_head(net, value, width)


def _with_head(net: Net, value: str, width: int) -> bytes:
    """Four logits, each of which is the largest for some pictures: otherwise agreement would say nothing."""
    weight = net.rng.normal(size=(4, width)).astype(np.float32)
    spread, middle = np.ones(4, np.float32), np.zeros(4, np.float32)
    names = (f"head_weight_{width}", f"head_bias_{width}")
    head = helper.make_node("Gemm", [value, *names], ["logits"], name="head", transB=1)
    net.nodes.append(head)
    for _ in range(2):
        net.weights = [tensor for tensor in net.weights if tensor.name not in names]
        net.const(weight / spread[:, None], names[0])
        net.const(-middle / spread, names[1])
        content = net.bytes({"logits": (4,)})
        inputs = np.zeros((16, SIZE, SIZE, 3), np.uint8)
        for index, out in enumerate(inputs):
            preprocess(SPEC, tinted_picture(index), out)
        with OnnxRuntimeEngine(content) as engine:
            logits = np.concatenate([engine.run({"images": one[None]})["logits"] for one in inputs])
        middle, spread = logits.mean(axis=0), logits.std(axis=0)
    return content


def write_network(path: Path, content: bytes, batch: tuple[int, int] = (1, 1)) -> Path:
    """A bundle around a network that gives logits of four classes."""
    image = synthesize((48, 64), np.random.default_rng(5))
    network_input = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    preprocess(SPEC, image, network_input[0])
    with OnnxRuntimeEngine(content) as engine:
        recorded = io.BytesIO()
        np.savez(recorded, input=network_input, **engine.run({"images": network_input}))
    size = batch[0] if batch[0] == batch[1] else "batch"
    manifest = Manifest(
        schema=1,
        name="network",
        created_by="edgebone tests",
        created_at="2026-01-01T00:00:00Z",
        model=ModelInfo("network", "tests", 0, Weights("random", "made by the tests", "", "nothing to verify")),
        preprocess=SPEC,
        input=TensorSpec("images", "uint8", (size, SIZE, SIZE, 3)),
        outputs=(TensorSpec("logits", "float32", (size, 4)),),
        heads={"classification": Head("classification@1", ("logits",), COLORS, {"activation": "softmax", "top_k": 3})},
        variants={"fp32": Variant("onnx/fp32.onnx", "fp32", batch, Parity(0.0, 0.0, 1.0, 1, 1.0))},
        golden=Golden("golden/image.png", "golden/tensors.npz", 1e-3),
        files={},
    )
    files = {
        "onnx/fp32.onnx": content,
        "golden/image.png": cv2.imencode(".png", image)[1].tobytes(),
        "golden/tensors.npz": recorded.getvalue(),
    }
    return write_bundle(path, manifest, files)


def write_pictures(folder: Path, count: int = 24) -> Path:
    """Pictures that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        assert cv2.imwrite(str(folder / f"{index:03}.png"), tinted_picture(index))
    return folder


def tinted_picture(index: int) -> np.ndarray:
    """One of endlessly many pictures, each in a colour of its own."""
    rng = np.random.default_rng(index)
    tint = rng.uniform(0.3, 1.0, 3)
    return (synthesize((48, 64), rng) * tint).astype(np.uint8)
