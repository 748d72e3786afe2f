"""Fewer bits under an accuracy budget: what comes into the bundle, what does not, and what is said."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from tensorrt_rtx_build import build

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import Update, update_bundle
from edgebone.core.errors import EngineError, OutputError, SourceError
from edgebone.core.manifest import Plan
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.evaluate.evaluation_set import read_evaluation
from edgebone.evaluate.rehearsal import Rehearsal, Score
from edgebone_export.errors import ExportError
from edgebone_export.graphs.edit import float_activations, prepare
from edgebone_export.quantization import quantizer
from edgebone_export.quantization.calibration import read_calibration
from edgebone_export.quantization.casts import LEAST_OPSET, find_half_layers, lower_to_half, simulate_half
from edgebone_export.quantization.dialects import ONNXRUNTIME, TENSORRT, Dialect
from edgebone_export.quantization.emulation import emulate_dialect
from edgebone_export.quantization.layers import find_layers
from edgebone_export.quantization.observe import Observed, observe
from edgebone_export.quantization.quantizer import quantize
from edgebone_export.quantization.ranges import METHODS, find_range
from edgebone_export.quantization.recipes import RECIPES, QdqRecipe, Source, make_recipe
from edgebone_export.quantization.search import Found, NotFound, search
from edgebone_export.quantization.stem import integer_stem
from support.bundles import write_boxes_bundle, write_meanwhile
from support.networks import Net, classifier, transformer, write_network, write_pictures
from support.pictures import GREEN, write_video

INT8 = (("int8", "onnxruntime"),)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_network(tmp_path / "net.bundle", classifier())


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """These networks are too small to gain from anything: what is tested is not the guard."""
    monkeypatch.setattr(quantizer, "speedup", lambda *_: 2.0)


def fingerprint(bundle: Path) -> str:
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(bundle.rglob("*")) if p.is_file())).hexdigest()


def source(content: bytes, photos: Path, **changes: object) -> Source:
    from support.networks import SPEC

    parts: dict[str, object] = {
        "content": content,
        "where": "the bundle",
        "calibration": read_calibration(photos, SPEC, 16),
        "batch": (1, 1),
        "method": "minmax",
        "progress": lambda _: None,
    }
    return Source(**{**parts, **changes})  # type: ignore[arg-type]


def run(arguments: list[object]) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("edgebone")
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, check=False)


def zero_points(content: bytes) -> dict[str, np.ndarray]:
    graph = onnx.load_from_string(content).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {
        node.name: constants[node.input[2]]
        for node in graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2
    }


# What comes into the bundle


@pytest.mark.usefixtures("fast")
def test_variants_that_hold_the_budget_come_into_the_bundle_with_their_figures(bundle: Path, photos: Path) -> None:
    asked = (("int8", "onnxruntime"), ("int8", "openvino"), ("int8", "tensorrt"), ("fp16", "tensorrt"))
    outcomes = quantize(bundle, photos, variants=asked, max_drop=15)
    assert [outcome.name for outcome in outcomes if outcome.kept] == [
        "int8-onnxruntime", "int8-openvino", "int8-tensorrt", "fp16",
    ]  # fmt: skip
    with open_bundle(bundle) as opened:
        variants = opened.manifest.variants
    assert set(variants) == {"fp32", "int8-onnxruntime", "int8-openvino", "int8-tensorrt", "fp16"}
    for outcome in outcomes:
        accuracy, record = variants[outcome.name].accuracy, variants[outcome.name].quantization
        assert accuracy is not None
        assert record is not None
        assert accuracy == outcome.accuracy
        assert (accuracy.metric, accuracy.fp32, accuracy.pictures) == ("agreement", 100.0, 24)
        assert 85 <= accuracy.value == accuracy.agreement <= 100
        assert record.calibration_pictures == 24
        assert (variants[outcome.name].parity.top1_agreement or 0) >= 0.75
    shown = run(["inspect", bundle]).stdout
    assert "int8-onnxruntime: int8 for onnxruntime" in shown
    assert "agreement" in shown


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_quantized_variant_is_run_checked_and_measured_like_any(bundle: Path, photos: Path, engine: str) -> None:
    quantize(bundle, photos, variants=(("int8", engine),), max_drop=15)
    picture = str(next(photos.iterdir()))
    with edgebone.load(bundle, precision="int8") as model, edgebone.load(bundle, precision="fp32") as plain:
        assert (model.engine.name, model.engine.precision, model.candidate.variant) == (
            engine,
            "int8",
            f"int8-{engine}",
        )
        assert np.abs(model(picture).probabilities - plain(picture).probabilities).max() < 0.15  # type: ignore[union-attr]
    checked = run(["doctor", bundle, "--json"])
    assert checked.returncode == 0, checked.stderr
    replays = {(item["engine"], item["precision"]): item for item in json.loads(checked.stdout)["replays"]}
    # It is held against what it answered itself when it was made, not against FP32.
    assert replays[engine, "int8"]["passed"]
    assert replays[engine, "int8"]["cosine"] > 0.999


@pytest.mark.usefixtures("fast")
def test_whoever_listens_to_nncf_is_left_as_it_was(bundle: Path, photos: Path) -> None:
    pytest.importorskip("nncf")
    listener = logging.NullHandler()
    logging.getLogger("nncf").addHandler(listener)
    quantize(bundle, photos, variants=(("int8", "openvino"),), max_drop=15)
    logging.getLogger("nncf").removeHandler(listener)
    assert listener.level == logging.NOTSET


@pytest.mark.slow
def test_nncf_reports_to_nobody(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    program = "import edgebone_export, nncf"
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    # Not within pytest, where it does not do so anyway. It keeps who it reports as in the home folder.
    command = [sys.executable, "-c", program]
    subprocess.run(command, env={**environment, "HOME": str(tmp_path)}, check=True, capture_output=True)
    assert not (tmp_path / "intel").exists()


@pytest.mark.usefixtures("fast")
def test_labels_are_counted_where_there_are_some(bundle: Path, photos: Path) -> None:
    with edgebone.load(bundle) as model:
        rows = [f"{path.name},{model(str(path)).class_id[0]}" for path in sorted(photos.glob("*.png"))]  # type: ignore[union-attr]
    labels = photos / "own-labels.csv"
    labels.write_text("\n".join(["file,class_index", *rows]))
    (outcome,) = quantize(bundle, photos, labels, variants=INT8, max_drop=20)
    assert outcome.accuracy is not None
    assert (outcome.accuracy.metric, outcome.accuracy.fp32) == ("top-1", 100.0)
    # The labels are FP32's own answers, so that both count the same.
    assert outcome.accuracy.value == pytest.approx(outcome.accuracy.agreement)


@pytest.mark.usefixtures("fast")
def test_variants_go_into_the_bundle_as_it_is_now(bundle: Path, photos: Path) -> None:
    for what, failure in (("name", None), ("graph", "was changed by another process meanwhile")):
        with contextlib.nullcontext() if failure is None else pytest.raises(OutputError, match=failure):
            quantize(
                bundle, photos, variants=INT8, max_drop=15, method="minmax",
                progress=lambda step, what=what: write_meanwhile(bundle, what) if step == "write" else None,
            )  # fmt: skip
        with open_bundle(bundle) as opened:
            assert (opened.manifest.name, sorted(opened.manifest.variants)) == ("another", ["fp32", "int8-onnxruntime"])


@pytest.mark.usefixtures("fast")
def test_a_variant_that_is_made_again_replaces_the_first_and_what_was_made_of_it(bundle: Path, photos: Path) -> None:
    quantize(bundle, photos, variants=INT8, max_drop=15, method="minmax")
    plan = Plan(
        "here", "latency", "onnxruntime", "int8-onnxruntime", "int8", "latency", None, None, 1, 1, 2, 2, None, "now"
    )  # fmt: skip
    kept = msgspec.structs.replace(plan, variant="fp32", precision="fp32")
    plans = {"0" * 16: plan, "1" * 16: kept}
    update_bundle(bundle, lambda now: Update(msgspec.structs.replace(now, plans=plans)))
    quantize(bundle, photos, variants=INT8, max_drop=15, method="percentile")
    with open_bundle(bundle) as opened:
        record = opened.manifest.variants["int8-onnxruntime"].quantization
        assert record is not None
        assert record.method == "percentile"
        assert list(opened.manifest.plans.values()) == [kept]


# The gate


def test_what_is_not_faster_is_not_kept(bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizer, "speedup", lambda *_: 0.9)
    before = fingerprint(bundle)
    (outcome,) = quantize(bundle, photos, variants=INT8, max_drop=100)
    assert not outcome.kept
    assert "0.90x as fast as FP32 on onnxruntime" in outcome.reason
    assert fingerprint(bundle) == before


@pytest.mark.usefixtures("fast")
def test_the_layer_that_breaks_is_found_and_left_in_fp32(tmp_path: Path, photos: Path) -> None:
    bundle = write_network(tmp_path / "net.bundle", classifier(outlier=True))
    recipe = make_recipe(source(classifier(outlier=True), photos), "int8", "tensorrt")
    assert next(iter(recipe.costs())) == "spoiled"
    (outcome,) = quantize(bundle, photos, variants=(("int8", "tensorrt"),), max_drop=10)
    assert outcome.kept, outcome.reason
    assert "spoiled" in outcome.fp32_layers
    assert len(outcome.fp32_layers) < 3


@pytest.mark.usefixtures("fast")
def test_where_the_budget_cannot_hold_the_costliest_layers_are_named_and_nothing_changes(
    tmp_path: Path, photos: Path
) -> None:
    bundle = write_network(tmp_path / "net.bundle", classifier(outlier=True))
    before = fingerprint(bundle)
    done = run(["quantize", bundle, "--calibrate", photos, "--target", "onnxruntime", "--max-drop", 0])
    if done.returncode == 0:
        pytest.fail(f"a budget of nothing held: {done.stdout}")
    assert done.returncode == 8
    assert "points of agreement with every layer lowered, but the budget is 0" in done.stdout
    assert "spoiled (" in done.stdout
    assert "no variant was added; the bundle is as it was" in done.stderr
    assert fingerprint(bundle) == before


class Fake:
    """A recipe with ten layers, of which some cost points each."""

    name, precision, dialect, engines, method, proof, timed = "fake", "int8", "x", ("x",), "minmax", "x", False

    def __init__(self, costs: dict[str, float]) -> None:
        self._costs = costs
        self.tried: list[int] = []

    @property
    def layers(self) -> list[str]:
        return list(self._costs)

    def make(self, kept: object) -> bytes:
        self.tried.append(len(kept))  # type: ignore[arg-type]
        return b""

    def open(self, content: bytes, kept: object) -> object:
        return _Opened(sum(cost for name, cost in self._costs.items() if name not in kept))  # type: ignore[operator]

    def costs(self) -> dict[str, float]:
        return dict(sorted(self._costs.items(), key=lambda item: -item[1]))


class _Opened:
    def __init__(self, lost: float) -> None:
        self.lost = lost

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Rehearsal:
    baseline = Score(80.0, 100.0)

    class data:
        metric = "top-1"

    def score(self, engine: _Opened) -> Score:
        return Score(80.0 - engine.lost, 90.0)


@settings(max_examples=60, deadline=None)
@given(costs=st.lists(st.floats(0, 5), min_size=1, max_size=40), budget=st.floats(0, 10))
def test_the_search_keeps_few_layers_and_never_gives_what_breaks_the_budget(costs: list[float], budget: float) -> None:
    recipe = Fake({f"layer_{index}": cost for index, cost in enumerate(costs)})
    found = search(recipe, _Rehearsal(), budget)  # type: ignore[arg-type]
    assert len(recipe.tried) <= 14
    order = list(recipe.costs().values())
    least = next(number for number in range(len(order) + 1) if sum(order[number:]) <= budget + 1e-9)
    if isinstance(found, Found):
        assert 80 - found.score.value <= budget + 1e-6
        assert least <= len(found.kept) <= max(least + 1, least * 1.2 + 1)
    else:
        assert isinstance(found, NotFound)
        # Most of the layers would have had to stay.
        assert least > len(order) * 0.375


# Dialects


def test_onnxruntimes_dialect_becomes_integer_kernels(photos: Path, tmp_path: Path) -> None:
    import onnxruntime

    content = make_recipe(source(classifier(), photos), "int8", "onnxruntime").make(())
    kinds = {array.dtype for array in zero_points(content).values()}
    assert np.dtype(np.uint8) in kinds
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    fused = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert fused.count("QLinearConv") == 4
    assert "Conv" not in fused
    # The picture's bytes go into the first kernel as they are.
    assert "Cast" not in fused
    assert "Sub" not in fused


def test_tensorrts_dialect_has_only_int8_zero_points_of_0_and_no_quantized_bias(photos: Path) -> None:
    content = make_recipe(source(classifier(), photos), "int8", "tensorrt").make(())
    found = zero_points(content)
    assert found
    for name, array in found.items():
        assert array.dtype == np.int8, name
        assert not array.any(), name
    graph = onnx.load_from_string(content).graph
    made = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "Conv":
            assert made[node.input[0]].op_type == made[node.input[1]].op_type == "DequantizeLinear"
            assert node.input[2] not in made
    (addition,) = [node for node in graph.node if node.op_type == "Add"]
    kinds = sorted(made[name].op_type for name in addition.input)
    # The branch is rounded; what the convolution before the addition gives is not.
    assert kinds == ["Conv", "DequantizeLinear"]


@pytest.mark.parametrize(("precision", "target"), RECIPES)
def test_every_variant_computes_nearly_the_same(precision: str, target: str, photos: Path) -> None:
    content = transformer() if precision in ("fp8", "int4") else classifier()
    recipe = make_recipe(source(content, photos), precision, target)
    inputs = read_calibration(photos, _spec(), 8).inputs
    lowered = recipe.make(())
    noise = signal = 0.0
    with OnnxRuntimeEngine(content) as plain, recipe.open(lowered, ()) as engine:
        for one in inputs:
            want, have = (each.run({"images": one[None]})["logits"] for each in (plain, engine))
            noise, signal = noise + np.square(have - want).sum(), signal + np.square(want).sum()
    assert 0 < noise / signal < {"fp16": 1e-3, "bf16": 0.02, "int8": 0.1, "fp8": 0.1, "int4": 0.9}[precision]


def _spec() -> object:
    from support.networks import SPEC

    return SPEC


@pytest.mark.parametrize(("precision", "target"), [pair for pair in RECIPES if pair[1] == "tensorrt"])
def test_tensorrt_rtx_compiles_every_variant_for_it(precision: str, target: str, photos: Path, tmp_path: Path) -> None:
    content = transformer() if precision in ("fp8", "int4") else classifier()
    path = tmp_path / "lowered.onnx"
    path.write_bytes(make_recipe(source(content, photos), precision, target).make(()))
    assert build(str(path), "SM89").size_bytes > 1000


def test_a_precision_that_a_target_does_not_have_is_refused_with_those_that_do(bundle: Path, photos: Path) -> None:
    with pytest.raises(EngineError, match="onnxruntime does not support fp8; these do: tensorrt"):
        make_recipe(source(classifier(), photos), "fp8", "onnxruntime")
    done = run(["quantize", bundle, "--calibrate", photos, "--precision", "int3"])
    assert done.returncode == 8
    assert "no variant int3; choose from int8 for onnxruntime, int8 for openvino" in done.stderr


def test_matrix_products_on_maps_with_channels_last_are_corrected_by_the_right_mean(photos: Path) -> None:
    net = Net()
    value = net.op("Transpose", [net.conv(net.picture(), 3, 12, stride=4, name="first")], perm=[0, 2, 3, 1])
    value = net.op("MatMul", [value, net.const(net.rng.normal(size=(12, 4)).astype(np.float32))], "matrix")
    value = net.op("Add", [value, net.const(np.ones(4, np.float32))], "bias")
    net.nodes.append(onnx.helper.make_node("ReduceMean", [value], ["logits"], axes=[1, 2], keepdims=0, name="mean"))
    net.opset = 17
    content = net.bytes({"logits": (4,)})
    corrected = make_recipe(source(content, photos), "int8", "tensorrt").make(())
    (addition,) = [node for node in onnx.load_from_string(corrected).graph.node if node.name == "bias"]
    assert "matrix_bias" in addition.input
    assert min(cosines(corrected, content, photos)) > 0.999


def test_an_older_opset_is_raised(photos: Path) -> None:
    net = Net(opset=11)
    value = net.picture()
    value = net.op("Relu", [net.conv(value, 3, 8, name="first")])
    value = net.conv(value, 8, 4, name="second")
    net.nodes.append(onnx.helper.make_node("ReduceMean", [value], ["logits"], axes=[2, 3], keepdims=0, name="mean"))
    recipe = make_recipe(source(net.bytes({"logits": (4,)}), photos), "int8", "onnxruntime")
    assert onnx.load_from_string(recipe.make(())).opset_import[0].version >= 13


def test_the_mean_is_taken_into_the_first_layer_exactly_but_for_the_border(photos: Path) -> None:
    net = Net()
    net.nodes.append(
        onnx.helper.make_node(
            "Conv",
            [net.picture(), net.const(net.rng.normal(size=(4, 3, 3, 3)).astype(np.float32))],
            ["maps"],
            name="first",
            pads=[1, 1, 1, 1],
        )
    )
    proto = prepare(net.bytes({"maps": (4, 32, 32)}), "x")
    stem = integer_stem(proto)
    one = read_calibration(photos, _spec(), 1).inputs  # type: ignore[arg-type]
    with OnnxRuntimeEngine(proto.SerializeToString()) as a, OnnxRuntimeEngine(stem.proto.SerializeToString()) as b:
        want, have = (engine.run({"images": one})["maps"] for engine in (a, b))
    assert np.abs(want - have)[..., 1:-1, 1:-1].max() < 1e-3
    assert 0 < np.abs(want - have).max() < 150


def test_coordinates_between_two_stages_keep_their_bits(photos: Path) -> None:
    net = Net(opset=16)
    features = net.op("Relu", [net.conv(net.picture(), 3, 8, stride=2, name="features")])
    places = net.op("Transpose", [net.conv(features, 8, 2, stride=2, name="places", scale=0.01)], perm=[0, 2, 3, 1])
    places = net.op("Mul", [places, net.op("Add", [places, net.const(np.float32(2))], "shifted")], "scaled")
    sampled = net.op("GridSample", [features, places], "sampled")
    value = net.op("Relu", [net.conv(sampled, 8, 8, name="second")], "second_relu")
    value = net.conv(value, 8, 4, name="third")
    net.nodes.append(onnx.helper.make_node("ReduceMean", [value], ["logits"], axes=[2, 3], keepdims=0, name="mean"))
    content = net.bytes({"logits": (4,)})
    for precision, target in (("int8", "onnxruntime"), ("int8", "tensorrt"), ("fp16", "tensorrt")):
        layers = set(make_recipe(source(content, photos), precision, target).layers)
        assert {"features", "places", "second", "third"} <= layers
        assert not layers & {"shifted", "scaled"}, (precision, target)


# Half precision


def half(content: bytes, photos: Path, precision: str = "fp16") -> tuple[onnx.ModelProto, list[str], dict[str, str]]:
    proto = prepare(content, "x", LEAST_OPSET[precision])
    inputs = read_calibration(photos, _spec(), 8).inputs  # type: ignore[arg-type]
    observed = observe(proto, float_activations(proto), inputs)
    low, reasons = find_half_layers(proto, observed, precision)
    return proto, low, reasons


def cosines(have: bytes, want: bytes, photos: Path) -> list[float]:
    inputs = read_calibration(photos, _spec(), 16).inputs  # type: ignore[arg-type]
    found = []
    with OnnxRuntimeEngine(have, as_written=True) as a, OnnxRuntimeEngine(want) as b:
        for one in inputs:
            x, y = (engine.run({"images": one[None]})["logits"][0].astype(np.float64) for engine in (a, b))
            found.append(float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) if np.isfinite(x).all() else 0.0)
    return found


def test_a_layer_norm_in_single_operators_survives_fp16_where_rounding_all_would_destroy_it(photos: Path) -> None:
    content = transformer(scale=60)
    proto, low, reasons = half(content, photos)
    inputs = read_calibration(photos, _spec(), 8).inputs  # type: ignore[arg-type]
    seen = observe(proto, ["centered_out", "square_out"], inputs)
    # The premise: what is squared is larger than what FP16 can square.
    assert max(-seen["centered_out"].low, seen["centered_out"].high) > 1400
    assert seen["square_out"].high > 65504
    everything = [node.name for node in proto.graph.node if node.op_type not in ("Cast", "Reshape")]
    assert min(cosines(simulate_half(proto, everything, "fp16"), content, photos)) < 0.9
    assert min(cosines(simulate_half(proto, low, "fp16"), content, photos)) >= 0.999
    assert "square" not in low
    assert "variance" not in low
    assert {"matrix_0", "matrix_1", "head"} <= set(low)
    assert "reaches" in reasons["variance"]


def test_what_must_stay_in_fp32_is_measured_not_listed(photos: Path) -> None:
    _, small, _ = half(transformer(scale=0.5), photos)
    _, large, reasons = half(transformer(scale=20000), photos)
    assert {"centered", "patches"} <= set(small)
    assert "patches" not in large
    assert "above FP16's 65504" in reasons["patches"]


def test_operators_without_a_bf16_kernel_stay_in_fp32_so_that_the_rest_compiles(photos: Path, tmp_path: Path) -> None:
    net = Net()
    value = net.op("HardSwish", [net.conv(net.picture(), 3, 8, stride=2, name="first")], "swish")
    kernel = net.const(net.rng.normal(size=(8, 4, 2, 2)).astype(np.float32))
    value = net.op("ConvTranspose", [value, kernel], "up", strides=[2, 2])
    value = net.conv(value, 4, 4, name="last")
    net.nodes.append(onnx.helper.make_node("ReduceMean", [value], ["logits"], axes=[2, 3], keepdims=0, name="mean"))
    net.opset = 17
    recipe = make_recipe(source(net.bytes({"logits": (4,)}), photos), "bf16", "tensorrt")
    assert {"first", "last"} <= set(recipe.layers)
    assert not {"swish", "up"} & set(recipe.layers)
    (tmp_path / "bf16.onnx").write_bytes(recipe.make(()))
    assert build(str(tmp_path / "bf16.onnx"), "SM89").size_bytes


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_in_the_graph_and_its_inputs_and_outputs_stay(photos: Path, precision: str) -> None:
    proto, low, _ = half(classifier(), photos, precision)
    lowered = ir.from_proto(onnx.load_from_string(lower_to_half(proto, low, precision)))
    want = ir.DataType.FLOAT16 if precision == "fp16" else ir.DataType.BFLOAT16
    for node in lowered.graph:
        if node.op_type == "Conv":
            assert node.inputs[1].dtype == want  # type: ignore[union-attr]
    assert lowered.graph.inputs[0].dtype == ir.DataType.UINT8
    assert lowered.graph.outputs[0].dtype == ir.DataType.FLOAT
    assert lowered.graph.outputs[0].name == "logits"
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    # Weights in FP32 are gone with the operators that read them.
    assert len(ir.to_proto(lowered).SerializeToString()) < 0.7 * len(proto.SerializeToString())


def test_onnxruntime_reads_the_fp16_graph_and_agrees_with_its_emulation(photos: Path) -> None:
    proto, low, _ = half(classifier(), photos)
    inputs = read_calibration(photos, _spec(), 4).inputs  # type: ignore[arg-type]
    real, emulated = lower_to_half(proto, low, "fp16"), simulate_half(proto, low, "fp16")
    with OnnxRuntimeEngine(real) as a, OnnxRuntimeEngine(emulated, as_written=True) as b:
        for one in inputs:
            x, y = (engine.run({"images": one[None]})["logits"] for engine in (a, b))
            assert np.abs(x - y).max() < 0.02 * np.abs(y).max()


# Ranges and emulation


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=200),
    method=st.sampled_from(METHODS),
)
def test_a_range_lies_within_what_was_seen_and_holds_0(values: list[float], method: str) -> None:
    sample = np.array(values, np.float32)
    seen = Observed(float(sample.min()), float(sample.max()), sample, np.zeros(1), np.zeros(1))
    low, high = find_range(seen, method)  # type: ignore[arg-type]
    assert min(seen.low, 0) - 1e-3 <= low <= 0 <= high <= max(seen.high, 0) + 1e-3


def test_outliers_are_clipped_by_all_but_minmax() -> None:
    rng = np.random.default_rng(0)
    sample = np.append(rng.normal(size=100_000), [500.0]).astype(np.float32)
    seen = Observed(float(sample.min()), 500.0, sample, np.zeros(1), np.zeros(1))
    assert find_range(seen, "minmax")[1] == 500
    assert find_range(seen, "percentile")[1] < 6
    assert find_range(seen, "entropy")[1] < 100
    assert find_range(seen, "mse")[1] < 500


@pytest.mark.parametrize("dialect", [ONNXRUNTIME, TENSORRT])
def test_the_emulation_costs_nothing_when_off_and_what_the_variant_costs_when_on(
    dialect: Dialect, photos: Path
) -> None:
    recipe = QdqRecipe(source(classifier(), photos, method="percentile"), dialect)
    proto = prepare(classifier(), "x")
    stem = integer_stem(proto)
    proto = stem.proto if dialect.outputs else proto
    inputs = read_calibration(photos, _spec(), 8).inputs  # type: ignore[arg-type]
    ranges = {
        name: find_range(item, "percentile") for name, item in observe(proto, float_activations(proto), inputs).items()
    }
    ranges |= stem.ranges if dialect.outputs else {}
    layers = find_layers(ir.from_proto(proto), dialect, set(ranges), stem.nodes if dialect.outputs else ())
    emulation = emulate_dialect(proto, layers, dialect, ranges, inputs)
    assert emulation.error(()) == 0
    alone = emulation.each()
    assert 0 < max(alone.values()) <= emulation.error(set(alone)) * 1.5
    with OnnxRuntimeEngine(classifier()) as plain, recipe.open(recipe.make(()), ()) as lowered:
        noise = signal = 0.0
        for one in inputs:
            want, have = (engine.run({"images": one[None]})["logits"] for engine in (plain, lowered))
            noise, signal = noise + np.square(have - want).sum(), signal + np.square(want).sum()
    assert 0.05 < (noise / signal) / emulation.error(set(alone)) < 5


# What calibration is made from, and bad input


def test_calibration_takes_folders_labels_and_videos(tmp_path: Path, photos: Path) -> None:
    spec = _spec()
    nested = write_pictures(tmp_path / "deep" / "er", 5)
    assert read_calibration(nested.parent, spec, 5).inputs.shape == (5, 32, 32, 3)  # type: ignore[arg-type]
    csv = photos / "some.csv"
    csv.write_text("file,class_index\n000.png,0\n001.png,1\n")
    assert len(read_calibration(csv, spec, 2).inputs) == 2  # type: ignore[arg-type]
    video = write_video(tmp_path / "v.mp4", [(20 * index, 255 - 20 * index, 9) for index in range(12)])
    frames = read_calibration(video, spec, 4).inputs  # type: ignore[arg-type]
    assert len(frames) == 4
    # Spread from the first frame to the last, not the first four.
    assert frames[0].mean(axis=(0, 1))[1] - frames[-1].mean(axis=(0, 1))[1] > 150


def test_fewer_pictures_than_asked_are_said(photos: Path) -> None:
    said: list[str] = []
    found = read_calibration(photos, _spec(), 100, said.append)  # type: ignore[arg-type]
    assert len(found.inputs) == 24
    assert "found 24 calibration pictures, not the 100 requested" in said[0]


def test_pictures_that_cannot_be_read_are_left_out_and_said(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "p", 20)
    (folder / "005.png").write_bytes(b"no picture")
    said: list[str] = []
    assert len(read_calibration(folder, _spec(), 20, said.append).inputs) == 19  # type: ignore[arg-type]
    assert "1 of 20 calibration pictures cannot be read" in said[0]
    assert "005.png" in said[1]
    for path in folder.iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(SourceError, match="none of its 20 pictures can be read, so calibration is not possible"):
        read_calibration(folder, _spec(), 20)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 4, "quantization needs pictures to measure on: pass --calibrate DIR"),
        (["--calibrate", "nothing-here"], 4, "nothing-here: no such file or folder"),
        (["--calibrate", "empty"], 4, "empty: no pictures in it"),
        (["--calibrate", "photos", "--eval", "nothing-here"], 4, "nothing-here: no such file or folder"),
        (["--calibrate", "photos", "--head", "tail"], 3, "there is no head tail"),
        (["--calibrate", "photos", "--method", "guess"], 2, "'guess' is not one of auto, minmax"),
    ],
)
def test_bad_input_gives_one_line_and_leaves_the_bundle_alone(
    arguments: list[str], code: int, message: str, bundle: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"photos": str(photos), "empty": str(tmp_path / "empty")}
    before = fingerprint(bundle)
    done = run(["quantize", bundle, *(places.get(word, word) for word in arguments)])
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert fingerprint(bundle) == before


@pytest.mark.usefixtures("fast")
def test_a_graph_that_is_quantized_already_is_refused(tmp_path: Path, photos: Path) -> None:
    content = make_recipe(source(classifier(), photos), "int8", "tensorrt").make(())
    bundle = write_network(tmp_path / "q.bundle", content)
    with pytest.raises(ExportError, match=r"already quantized \(it contains DequantizeLinear, QuantizeLinear\)"):
        quantize(bundle, photos, variants=INT8)


def test_a_network_that_computes_nan_is_refused_with_the_node(photos: Path) -> None:
    net = Net()
    value = net.op("Sqrt", [net.conv(net.picture(), 3, 4, name="first")], "root")
    net.nodes.append(onnx.helper.make_node("ReduceMean", [value], ["logits"], axes=[2, 3], keepdims=0, name="mean"))
    net.opset = 17
    with pytest.raises(ExportError, match=r"computes NaN or infinity .* by node root \(Sqrt\)"):
        make_recipe(source(net.bytes({"logits": (4,)}), photos), "int8", "onnxruntime").make(())


def test_activations_that_never_change_are_said_and_survive(photos: Path) -> None:
    net = Net()
    dead = net.op("Relu", [net.conv(net.picture(), 3, 4, name="first", scale=0.0)])
    value = net.conv(net.op("Mul", [dead, net.const(np.float32(0))], "zero"), 4, 4, name="second")
    net.nodes.append(onnx.helper.make_node("ReduceMean", [value], ["logits"], axes=[2, 3], keepdims=0, name="mean"))
    net.opset = 17
    said: list[str] = []
    content = net.bytes({"logits": (4,)})
    recipe = make_recipe(source(content, photos, progress=said.append), "int8", "onnxruntime")
    lowered = recipe.make(())
    assert any("never change over the calibration pictures" in line for line in said)
    assert min(cosines(lowered, content, photos)) > 0.99


def test_a_network_without_anything_to_lower_is_refused(tmp_path: Path, photos: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "boxes.bundle")
    with pytest.raises(ExportError, match="no operator of the network can be lowered to int8-tensorrt"):
        quantize(bundle, photos, variants=(("int8", "tensorrt"),))


# The evaluation set


def test_what_a_folder_holds_says_what_is_counted(tmp_path: Path, photos: Path, bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        manifest = opened.manifest
    assert read_evaluation(photos, manifest).metric == "agreement"
    labelled = write_pictures(tmp_path / "labelled" / "blue", 3).parent
    assert read_evaluation(labelled, manifest).metric == "top-1"
    listed = write_pictures(tmp_path / "listed", 3)
    (listed / "labels.csv").write_text("file,class_index\n000.png,2\n")
    found = read_evaluation(listed, manifest)
    assert (found.metric, len(found.pictures)) == ("top-1", 1)


def test_every_head_counts_towards_agreement(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "boxes.bundle")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, color in enumerate([GREEN, (250, 10, 5), (5, 10, 250)]):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((40, 40, 3), color, np.uint8))
    with open_bundle(bundle) as opened, OnnxRuntimeEngine(opened.read("onnx/fp32.onnx")) as engine:
        rehearsal = Rehearsal(opened.manifest, read_evaluation(folder, opened.manifest), engine)
        assert rehearsal.score(engine) == Score(100.0, 100.0)

        class Wrong:
            """Swaps the classes of pixels in every picture, and no box."""

            inputs = engine.inputs

            def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                outputs = engine.run(feeds)
                return {**outputs, "classes_of_pixels": outputs["classes_of_pixels"][:, ::-1]}

        score = rehearsal.score(Wrong())  # type: ignore[arg-type]
        assert score.agreement < 50


def test_the_command_prints_json(bundle: Path, photos: Path) -> None:
    done = run(
        [
            "quantize",
            bundle,
            "--calibrate",
            photos,
            "--target",
            "tensorrt",
            "--max-drop",
            15,
            "--pictures",
            16,
            "--json",
        ]
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert (found["name"], found["kept"]) == ("int8-tensorrt", True)
    assert found["speedup"] is None
