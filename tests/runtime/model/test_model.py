"""Models: one call for a path, an array, a frame or a list of these."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

import edgebone
from edgebone.core.bundle_writing import write_bundle
from edgebone.core.errors import BundleError, EngineError, NoEngineError, SourceError, TensorError
from edgebone.core.frame import Frame
from edgebone.core.manifest import Head
from edgebone.core.results import Classification, Embedding
from edgebone.core.tensors import TensorSpec
from support.bundles import contents, two_heads_bundle, write_colors_bundle
from support.pictures import BLUE, GREEN, RED, picture

MIX = [BLUE, GREEN, RED, RED, BLUE, GREEN, BLUE]
NAMES = ["blue", "green", "red", "red", "blue", "green", "blue"]


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


def test_a_picture_may_be_a_path_an_array_or_a_frame(colors_bundle: Path, engine: str, tmp_path: Path) -> None:
    image = picture(GREEN)
    path = tmp_path / "grün 1.png"
    Image.fromarray(image[..., ::-1].copy()).save(path)
    with edgebone.load(colors_bundle, engine=engine) as model:
        assert model.engine.name == engine
        wanted = model(image)
        assert wanted.label == "green"
        assert len(wanted.labels) == 3
        for same in (str(path), path, Frame(image, 0, 0, "x"), image[:, ::-1], np.asfortranarray(image)):
            assert np.array_equal(model(same).probabilities, wanted.probabilities)
        (listed,) = model([path])
        assert np.array_equal(listed.probabilities, wanted.probabilities)


def test_the_label_is_the_colours_not_the_swapped_one(colors_bundle: Path, engine: str) -> None:
    with edgebone.load(colors_bundle, engine=engine) as model:
        assert [model(picture(color)).label for color in (BLUE, GREEN, RED)] == ["blue", "green", "red"]


@pytest.mark.parametrize("batch", [(1, 1), (1, 4), (4, 4), (3, 8)])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_a_list_of_any_length_gives_a_result_each_in_order(
    tmp_path: Path, engine: str, batch: tuple[int, int], count: int
) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle", batch)
    pictures = [picture(color, (40 + n, 50 + 3 * n)) for n, color in enumerate(MIX[:count])]
    with edgebone.load(path, engine=engine) as model:
        assert model.max_batch == batch[1]
        results = model(pictures)
        assert [result.label for result in results] == NAMES[:count]
        for one, image in zip(results, pictures, strict=True):
            assert np.allclose(one.probabilities, model(image).probabilities, atol=1e-6)
        assert [result.label for result in model(tuple(pictures))] == NAMES[:count]


def test_a_list_may_mix_paths_arrays_and_frames(colors_batch_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(RED)[..., ::-1].copy()).save(tmp_path / "red.png")
    with edgebone.load(colors_batch_bundle) as model:
        found = model(
            [picture(BLUE), tmp_path / "red.png", Frame(picture(GREEN), 0, 0, "x"), str(tmp_path / "red.png")]
        )
    assert [result.label for result in found] == ["blue", "red", "green", "red"]


def test_two_heads_give_a_dict_of_results(tmp_path: Path, engine: str) -> None:
    with edgebone.load(two_heads_bundle(tmp_path / "two.bundle"), engine=engine) as model:
        for result in (model(picture(RED)), model([picture(RED)])[0], next(iter(model.stream([picture(RED)])))[1]):
            assert list(result) == ["classification", "colour"]
            assert isinstance(result["classification"], Classification)
            assert isinstance(result["colour"], Embedding)
            assert result["classification"].label == "red"
            assert np.allclose(result["colour"].vector, RED[::-1], atol=0.01)


def test_top_k_is_for_the_heads_that_have_it(tmp_path: Path) -> None:
    with edgebone.load(two_heads_bundle(tmp_path / "two.bundle"), top_k=1) as model:
        assert len(model(picture(RED))["classification"].labels) == 1


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (4, 4), (99, 4), (None, 3)])
def test_top_k_is_the_callers_or_the_bundles(colors_bundle: Path, top_k: int | None, count: int) -> None:
    with edgebone.load(colors_bundle, top_k=top_k) as model:
        assert len(model(picture(RED)).labels) == count


def test_a_model_may_be_called_from_many_threads(colors_batch_bundle: Path, engine: str) -> None:
    with edgebone.load(colors_batch_bundle, engine=engine) as model, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: model(picture(MIX[n % 7])).label, range(200)))
    assert found == [NAMES[n % 7] for n in range(200)]


def test_a_zip_bundle_runs_too(tmp_path: Path, engine: str) -> None:
    with edgebone.load(write_colors_bundle(tmp_path / "a.zip"), engine=engine, threads=1) as model:
        assert model(picture(BLUE)).label == "blue"


@pytest.mark.parametrize(
    "what",
    [None, 5, 1.5, {"a": 1}, object()],
    ids=lambda what: type(what).__name__,
)
def test_what_is_no_picture_is_refused(colors_bundle: Path, what: Any) -> None:
    with edgebone.load(colors_bundle) as model:
        for given in (what, [what]):
            with pytest.raises(TensorError, match=r"a picture must be a path, .* a tensor or a Frame, not"):
                model(given)


def test_arrays_that_are_no_pictures_are_refused(colors_bundle: Path) -> None:
    with edgebone.load(colors_bundle) as model:
        for shape, dtype in (((4, 4), "float32"), ((4, 4, 2), "uint8"), ((4, 4, 3), "float32"), ((0, 4, 3), "uint8")):
            with pytest.raises(TensorError, match="a picture must be uint8 of shape"):
                model(np.zeros(shape, dtype))
        assert model(picture(RED)).label == "red"


def test_a_file_that_cannot_be_read_is_named(colors_bundle: Path, tmp_path: Path) -> None:
    with edgebone.load(colors_bundle) as model:
        for given in (tmp_path / "missing.png", [picture(RED), tmp_path / "missing.png"]):
            with pytest.raises(SourceError, match=r"missing\.png: no such file"):
                model(given)


def test_a_closed_model_refuses_and_closes_again(colors_bundle: Path, tmp_path: Path) -> None:
    for path in (colors_bundle, write_colors_bundle(tmp_path / "a.zip")):
        with edgebone.load(path) as model:
            pass
        model.close()
        with pytest.raises(EngineError, match="closed"):
            model(picture(RED))


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"engine": "tpu"}, EngineError, "no engine tpu; choose auto"),
        ({"precision": "int3"}, EngineError, r"no precision int3; did you mean int8 or int4\? choose"),
        ({"precision": "int4"}, EngineError, "no variant for precision int4, only fp32 .fp32.; make one with"),
        ({"engine": "onnxruntime", "precision": "bf16"}, NoEngineError, "onnxruntime bf16: .*openvino supports bf16"),
        ({"engine": "onnxruntime-cuda"}, NoEngineError, "onnxruntime-cuda fp32: "),
        ({"top_k": 0}, BundleError, ">= 1 - at `.*top_k`"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(
    colors_bundle: Path, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        edgebone.load(colors_bundle, **settings)


def test_a_bundle_that_needs_another_decoder_is_refused_before_an_engine_opens(tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle", heads={"boxes": Head("detection@3", ("logits",))})
    with pytest.raises(BundleError, match=r"head boxes needs decoder detection@3.*install a newer edgebone"):
        edgebone.load(path)


def test_a_network_that_cannot_be_loaded_names_each_engine_in_one_line(tmp_path: Path) -> None:
    manifest, files = contents(write_colors_bundle(tmp_path / "a.bundle"))
    graph = onnx.load_model_from_string(files["onnx/fp32.onnx"])
    graph.graph.node[0].op_type = "NobodyKnowsIt"
    broken = write_bundle(tmp_path / "b.bundle", manifest, {**files, "onnx/fp32.onnx": graph.SerializeToString()})
    with pytest.raises(NoEngineError) as caught:
        edgebone.load(broken)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + len(edgebone.load(tmp_path / "a.bundle").choice.fits)
    assert all("cannot load the network" in line and "NobodyKnowsIt" in line for line in lines[1:])


def test_openvino_bf16_is_used_when_asked_for(colors_bundle: Path) -> None:
    pytest.importorskip("openvino")
    try:
        model = edgebone.load(colors_bundle, engine="openvino", precision="bf16")
    except NoEngineError as error:
        assert "BF16" in str(error)
        pytest.skip("this processor does not compute in BF16")
    with model:
        assert model.engine.precision == "bf16"
        assert model(picture(GREEN)).label == "green"


def with_output(path: Path, nodes: list[Any], shape: list[Any], constants: list[Any], spec: TensorSpec) -> Path:
    """The colour network for 1 to 4 pictures, whose ``logits`` further nodes make its output ``last`` of."""
    manifest, files = contents(write_colors_bundle(path.with_name(f"whole-{path.name}"), (1, 4)))
    graph = onnx.load_model_from_string(files["onnx/fp32.onnx"])
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(constants)
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_tensor_value_info("last", TensorProto.FLOAT, shape))
    manifest = msgspec.structs.replace(manifest, outputs=(spec,), heads={"raw": Head("raw@1", ("last",))})
    return write_bundle(path, manifest, {**files, "onnx/fp32.onnx": graph.SerializeToString()})


def test_outputs_without_a_row_for_each_picture_are_refused_in_one_line(tmp_path: Path, engine: str) -> None:
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    one_row = with_output(
        tmp_path / "one.bundle",
        [helper.make_node("ReduceMean", ["logits", "zero"], ["last"], keepdims=1)],
        [1, 4],
        [zero],
        TensorSpec("last", "float32", ("batch", 4)),
    )
    none = with_output(
        tmp_path / "none.bundle",
        [helper.make_node("Compress", ["logits", "never"], ["last"], axis=0)],
        ["rows", 4],
        [helper.make_tensor("never", TensorProto.BOOL, [1], [False])],
        TensorSpec("last", "float32", ("batch", 4)),
    )
    # Of the second one OpenVINO knows at once that it gives none, onnxruntime once it runs.
    for path, said in (
        (one_row, r"float32\[1,4\] for 4"),
        (none, r"(float32\[0,4\] for 4|shape \[0, 4\] for 1)"),
    ):
        with (
            pytest.raises(EngineError, match=f"last.*{said} pictures, not a row for each"),
            edgebone.load(path, engine=engine) as model,
        ):
            model(picture(RED))


def test_an_input_that_no_memory_holds_is_refused_in_one_line(colors_batch_bundle: Path) -> None:
    with edgebone.load(colors_batch_bundle) as model:
        for pictures in (10**12, 10**18, 10**30):
            with pytest.raises(EngineError, match=r"not enough memory for the network's input of 10+x32x32x3 bytes"):
                model.new_buffer(pictures)
