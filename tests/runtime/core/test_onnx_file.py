"""What is an ONNX network that stands for itself, and what only has its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgebone.core import onnx_file
from edgebone.core.errors import BundleError
from edgebone.core.onnx_file import check_onnx
from support.bundles import as_onnxruntimes_own, as_openvino_ir, boxes_onnx, colors_onnx
from support.machine import needs

FLOAT = TensorProto.FLOAT


def external(name: str, location: str = "/etc/passwd") -> onnx.TensorProto:
    """A tensor whose bytes lie in another file."""
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def value(name: str, shape: list[int | str] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, [2] if shape is None else shape)


def model(*nodes: onnx.NodeProto, **parts: list[object]) -> onnx.ModelProto:
    """A network from ``x`` to ``y``."""
    graph = helper.make_graph(nodes or [helper.make_node("Relu", ["x"], ["y"])], "g", [value("x")], [value("y")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    for name, items in parts.items():
        getattr(made if hasattr(made, name) else made.graph, name).extend(items)
    return made


def branch(*nodes: onnx.NodeProto, **parts: list[object]) -> onnx.GraphProto:
    graph = helper.make_graph(nodes, "branch", [], [value("z")])
    for name, items in parts.items():
        getattr(graph, name).extend(items)
    return graph


def condition(then: onnx.GraphProto) -> onnx.ModelProto:
    """A network with a graph in it that reads what is outside of it."""
    other = branch(helper.make_node("Identity", ["x"], ["z"]))
    return model(
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    )


def nested(levels: int) -> onnx.ModelProto:
    graph = branch(helper.make_node("Identity", ["x"], ["z"]))
    for _ in range(levels):
        graph = branch(helper.make_node("If", ["c"], ["z"], then_branch=graph, else_branch=graph))
    return condition(graph)


@pytest.mark.parametrize(
    "made",
    [
        colors_onnx((1, 4)),
        boxes_onnx(),
        condition(branch(helper.make_node("Neg", ["x"], ["z"]))).SerializeToString(),
        model(initializer=[helper.make_tensor("empty", FLOAT, [0, 1000], [])]).SerializeToString(),
        model(initializer=[helper.make_tensor("halves", TensorProto.INT4, [3], [1, 2, 3])]).SerializeToString(),
        model(initializer=[helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b""])]).SerializeToString(),
        # A name may be given in each of two branches, and an initialiser may be an input's default.
        model(initializer=[numpy_helper.from_array(np.zeros(2, np.float32), "x")]).SerializeToString(),
        nested(onnx_file.GRAPH_NESTING - 2).SerializeToString(),
        model(value_info=[value("v", [-1, 2])]).SerializeToString(),
    ],
)  # fmt: skip
def test_a_network_that_stands_for_itself_is_taken(made: bytes) -> None:
    check_onnx(made, "it")


def function(*nodes: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("ours", "f", ["a"], ["b"], nodes, [helper.make_opsetid("", 18)])


def sparse() -> onnx.SparseTensorProto:
    values = helper.make_tensor("k", FLOAT, [1], [1.0])
    return helper.make_sparse_tensor(values, helper.make_tensor("i", TensorProto.INT64, [1], [0]), [1 << 40])


def training() -> onnx.ModelProto:
    made = model()
    made.training_info.add().initialization.initializer.append(external("k"))
    return made


def only_said() -> onnx.ModelProto:
    made = model(initializer=[external("k")])
    del made.graph.initializer[0].external_data[:]
    return made


def only_listed() -> onnx.ModelProto:
    made = model(initializer=[external("k")])
    made.graph.initializer[0].data_location = TensorProto.DEFAULT
    return made


ELSEWHERE: dict[str, Callable[[], onnx.ModelProto]] = {
    "initializer": lambda: model(initializer=[external("k")]),
    "attribute": lambda: model(helper.make_node("Constant", [], ["y"], value=external("k"))),
    "several": lambda: model(helper.make_node("Ours", [], ["y"], domain="d", them=[external("k")])),
    "graph in a graph": lambda: condition(
        branch(helper.make_node("Identity", ["k"], ["z"]), initializer=[external("k")])
    ),
    "function": lambda: model(functions=[function(helper.make_node("Constant", [], ["b"], value=external("k")))]),
    "only said": only_said,
    "only listed": only_listed,
}  # fmt: skip


@pytest.mark.parametrize("where", ELSEWHERE)
def test_tensors_in_files_of_their_own_are_refused_wherever_they_are(where: str) -> None:
    with pytest.raises(BundleError, match=r"^a\.onnx: .*external data.*import it again$"):
        check_onnx(ELSEWHERE[where]().SerializeToString(), "a.onnx")


def test_what_a_bundle_has_no_use_for_is_refused() -> None:
    refused = {
        "training information": training(),
        "sparse tensors": model(sparse_initializer=[sparse()]),
        "sparse tensors ": model(helper.make_node("Constant", [], ["y"], sparse_value=sparse())),
    }
    for words, made in refused.items():
        with pytest.raises(BundleError, match=words.strip()):
            check_onnx(made.SerializeToString(), "it")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            model(helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])),
            "a node reads 'b', which no earlier node outputs",
        ),
        (model(helper.make_node("Relu", ["y"], ["y"])), "a node reads 'y'"),
        (model(helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["y"])), "'y' is defined twice"),
        (condition(branch(helper.make_node("Neg", ["y"], ["z"]))), "a node reads 'y'"),
        (model(functions=[function(helper.make_node("Relu", ["x"], ["b"]))]), "a node reads 'x'"),
        (nested(onnx_file.GRAPH_NESTING), "nested more than 16 deep"),
        (model(value_info=[value("v", [1 << 20, "n", 1 << 20])]), "'v' declares 1099511627776 elements, more than"),
        (
            model(initializer=[TensorProto(name="k", data_type=FLOAT, dims=[1 << 31, 1 << 31], raw_data=b"1234")]),
            "tensor 'k' declares 4611686018427387904 elements but has fewer",
        ),
        (model(initializer=[TensorProto(name="k", data_type=FLOAT, dims=[-5], raw_data=b"1234")]), "'k' declares"),
    ],
)
def test_a_graph_that_no_engine_should_have_to_untangle_is_refused(made: onnx.ModelProto, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        check_onnx(made.SerializeToString(), "it")


def test_what_is_cut_off_or_goes_on_is_refused() -> None:
    whole = colors_onnx((1, 4))
    for end in range(len(whole)):
        with pytest.raises(BundleError, match="not a valid ONNX network for a bundle"):
            check_onnx(whole[:end], "it")
    for more in (b"\0", b"garbage", whole, bytes(1000), b"\xff" * 20):
        with pytest.raises(BundleError):
            check_onnx(whole + more, "it")


def test_a_field_in_an_unusual_spelling_is_seen_all_the_same() -> None:
    """Protobuf's numbers may be longer than they need be: what parsers take, the walk must not overlook."""
    whole = model(initializer=[external("k")])
    plain = whole.graph.initializer[0].SerializeToString()
    (entry,) = whole.graph.initializer[0].external_data
    data = entry.SerializeToString()
    spelt = bytes([13 << 3 | 2, len(data)]) + data
    assert spelt in plain
    # The same number in two bytes.
    longer = bytes([0x80 | 13 << 3 | 2, 0, len(data)]) + data
    tensor = plain.replace(spelt, longer)
    assert TensorProto.FromString(tensor) == whole.graph.initializer[0]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x")], [value("y")])
    body = graph.SerializeToString() + bytes([5 << 3 | 2, len(tensor)]) + tensor
    content = b"\x08\x08\x3a" + bytes([0x80 | len(body) & 0x7F, len(body) >> 7]) + body + b"\x42\x02\x10\x12"
    assert onnx.load_from_string(content).graph.initializer[0].external_data
    with pytest.raises(BundleError, match="external data"):
        check_onnx(content, "it")


def test_a_flood_of_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "GRAPH_FIELDS", 1000)
    made = model(*[helper.make_node("Relu", ["x"], [f"y{index}"]) for index in range(1000)])
    with pytest.raises(BundleError, match="more than 1000 fields"):
        check_onnx(made.SerializeToString(), "it")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(as_openvino_ir, marks=needs("openvino")),
        pytest.param(as_onnxruntimes_own, marks=needs("onnxruntime")),
    ],
)
def test_other_formats_are_refused_whatever_they_are_called(make: Callable[[Path], bytes], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a valid ONNX network"):
        check_onnx(make(tmp_path), "it")


@pytest.mark.parametrize(
    "content", [b"", b" ", b"node {}", b"{}", b"<net/>", b"ORTM", b"\x1c\0\0\0ORTM", bytes(9), b"PK"]
)
def test_what_is_no_network_at_all_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="not a valid ONNX network"):
        check_onnx(content, "it")
