from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgebone.core.manifest import Preprocess
from edgebone_export.errors import ExportError, ParityError
from edgebone_export.graphs.passes.contract import run_passes
from edgebone_export.graphs.passes.describe import Describe
from edgebone_export.graphs.passes.fold_constants import FoldConstants
from edgebone_export.graphs.passes.fold_normalization import FoldNormalization
from edgebone_export.graphs.passes.slim import Slim
from edgebone_export.graphs.passes.uint8_input import SCALE, SUBTRACT, Uint8Input
from edgebone_export.graphs.trace import Traced, trace
from edgebone_export.models.contract import Backbone, ModelRequest
from edgebone_export.models.registry import load_backbone
from edgebone_export.pictures import sample_pictures
from edgebone_export.proof.verify import Reference, check_graph, make_reference

PREPROCESS = Preprocess(
    mode="stretch",
    size_hw=(32, 32),
    interpolation="bilinear",
    antialias=True,
    color="rgb",
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
)


class Net(nn.Module):
    """A convolution with batch norm, a layer norm and a linear layer."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4, padding, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.layer_norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.norm(self.stem(images)))
        return self.head(self.layer_norm(maps.mean((2, 3))))


def prepare(padding: int = 0) -> tuple[Backbone, Traced, Reference]:
    torch.manual_seed(0)
    backbone = load_backbone(ModelRequest(Net(padding), weights="random", preprocess=PREPROCESS))
    reference = make_reference(backbone, sample_pictures(None)[0])
    return backbone, trace(backbone, (1, 1)), reference


def names(model: ir.Model) -> list[str]:
    return [str(node.name) for node in model.graph]


def types(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def checker(reference: Reference):
    return lambda model: check_graph(ir.to_proto(model).SerializeToString(), reference, (1, 1))


def all_passes(layer_norms: int = 1) -> list:
    return [
        FoldConstants(layer_norms),
        Slim(layer_norms),
        Uint8Input(PREPROCESS),
        FoldNormalization(),
        Describe({"edgebone.model": "net"}),
    ]


def test_every_pass_is_checked_and_the_graph_ends_up_with_uint8_in() -> None:
    _, traced, reference = prepare()
    model, records = run_passes(traced.model, all_passes(), checker(reference))
    assert [record.name for record in records] == [
        "trace", "fold constants", "slim", "uint8 input", "fold normalisation", "describe",
    ]  # fmt: skip
    assert all(record.checked.pictures == 8 for record in records)
    (images,) = model.graph.inputs
    assert images.dtype == ir.DataType.UINT8
    assert list(images.shape) == [1, 32, 32, 3]
    assert "BatchNormalization" not in types(model)
    assert types(model).count("LayerNormalization") == 1
    assert model.metadata_props["edgebone.model"] == "net"


@pytest.mark.parametrize(("padding", "left"), [(0, []), (2, [SUBTRACT])])
def test_normalisation_folds_whole_without_padding_and_keeps_its_offset_with_it(padding: int, left: list[str]) -> None:
    _, traced, reference = prepare(padding)
    model, _ = run_passes(traced.model, all_passes(), checker(reference))
    assert [name for name in names(model) if name in (SUBTRACT, SCALE)] == left


def test_folding_an_offset_into_a_padded_convolution_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgebone_export.graphs.passes import fold_normalization

    _, traced, reference = prepare(2)
    monkeypatch.setattr(fold_normalization, "_is_padded", lambda _: False)
    with pytest.raises(ParityError, match=r"fold normalisation \(after trace, .*\) broke the network: output logits"):
        run_passes(traced.model, all_passes(), checker(reference))


@dataclass(frozen=True)
class Scaler:
    """A pass with a mistake in it: multiplies a weight."""

    factor: float
    name: str = "scaler"

    def requires(self, model: ir.Model) -> None:
        pass

    def apply(self, model: ir.Model) -> ir.Model:
        for value in model.graph.initializers.values():
            if value.name == "module.head.weight" or (value.name or "").endswith("head.weight"):
                array = value.const_value.numpy() * np.float32(self.factor)
                value.const_value = ir.tensor(array, name=value.name)
        return model

    def ensures(self, model: ir.Model) -> None:
        pass


@pytest.mark.parametrize("factor", [1.01, 0.0, np.nan])
def test_a_pass_that_breaks_the_network_is_named_with_those_before_it(factor: float) -> None:
    _, traced, reference = prepare()
    with pytest.raises(ParityError, match=r"scaler \(after trace, fold constants\) broke the network: output logits"):
        run_passes(traced.model, [FoldConstants(1), Scaler(factor)], checker(reference))


def test_a_wrong_trace_is_noticed_before_any_pass() -> None:
    _, traced, reference = prepare()
    model = Scaler(2.0).apply(traced.model)
    with pytest.raises(ParityError, match=r"^trace broke the network"):
        run_passes(model, [], checker(reference))


def test_a_layer_norm_that_is_taken_apart_is_refused() -> None:
    _, traced, reference = prepare()
    with pytest.raises(ExportError, match=r"pass slim \(after trace\): the graph has 1 LayerNormalization nodes.* 2"):
        run_passes(traced.model, [Slim(2)], checker(reference))
    assert traced.layer_norms == 1


def test_uint8_input_requires_normalised_floats() -> None:
    _, traced, reference = prepare()
    once, _ = run_passes(traced.model, [Uint8Input(PREPROCESS)], checker(reference))
    # What takes bytes already stays as it is.
    before = len(once.graph)
    assert len(Uint8Input(PREPROCESS).apply(once).graph) == before
    once.graph.inputs[0].dtype = ir.DataType.INT32
    with pytest.raises(ExportError, match="expected one input float32"):
        Uint8Input(PREPROCESS).requires(once)


def test_wrong_normalisation_is_noticed() -> None:
    _, traced, reference = prepare()
    import msgspec

    other = msgspec.structs.replace(PREPROCESS, mean=(0.4, 0.5, 0.59))
    with pytest.raises(ParityError, match="uint8 input"):
        run_passes(traced.model, [Uint8Input(other)], checker(reference))


def test_a_network_that_answers_the_same_for_every_picture_proves_nothing() -> None:
    net = Net(0)
    nn.init.zeros_(net.head.weight)
    backbone = load_backbone(ModelRequest(net, preprocess=PREPROCESS))
    with pytest.raises(ExportError, match="would prove nothing"):
        make_reference(backbone, sample_pictures(None)[0])


def test_nan_weights_are_noticed_in_pytorch_already() -> None:
    net = Net(0)
    nn.init.constant_(net.head.bias, float("nan"))
    backbone = load_backbone(ModelRequest(net, preprocess=PREPROCESS))
    with pytest.raises(ExportError, match="PyTorch itself returns NaN"):
        make_reference(backbone, sample_pictures(None)[0])


def test_top1_agreement_counts_the_pictures_with_the_same_best_class() -> None:
    _, traced, reference = prepare()
    graph = ir.to_proto(traced.model).SerializeToString()
    assert check_graph(graph, reference, (1, 1)).top1_agreement == 1.0


def test_made_pictures_have_the_spectrum_of_photographs() -> None:
    pictures, _ = sample_pictures(None)
    assert len({picture.shape for picture in pictures}) >= 6
    for picture in pictures:
        grey = picture.mean(axis=2)
        power = np.abs(np.fft.rfft2(grey - grey.mean()))
        low, high = power[1:6, 1:6].mean(), power[40:80, 40:80].mean()
        assert low > 10 * high
        assert 25 < picture.std() < 100


def test_what_a_node_that_does_nothing_was_named_moves_to_the_one_before_it() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 18]>
        padded (float[1, 4, 8, 8] maps) => (float[1, 4, 1, 1] small, float[1, 8, 8, 8] both)
        <int64[8] none = {0, 0, 0, 0, 0, 0, 0, 0}>
        {
            first = Relu(maps)
            small = GlobalMaxPool(first)
            pad = Pad(first, none)
            both = Concat <axis = 1> (pad, pad)
        }
    """
    model = Slim(0).apply(ir.from_proto(onnx.parser.parse_model(text)))
    onnx.checker.check_model(ir.to_proto(model))
    assert [node.op_type for node in model.graph] == ["Relu", "GlobalMaxPool", "Concat"]


@pytest.mark.parametrize(
    ("outputs", "refused"), [("float[1,2,4,4] y", True), ("float[1,2,4,4] y, float[1,2,4,4] c", False)]
)
def test_a_batch_norm_behind_a_convolution_that_is_itself_an_output_stays(outputs: str, refused: bool) -> None:
    text = f"""
        <ir_version: 8, opset_import: ["": 18]>
        stem (float[1,2,4,4] x, float[2,2,1,1] w, float[2] scale, float[2] bias, float[2] mean, float[2] var)
            => ({outputs}) {{
            c = Conv(x, w)
            y = BatchNormalization(c, scale, bias, mean, var)
        }}
    """
    model = ir.from_proto(onnx.parser.parse_model(text))
    if refused:
        with pytest.raises(ExportError, match="BatchNormalization was left after"):
            Slim(0).ensures(model)
    else:
        Slim(0).ensures(model)
