"""Heads on a backbone: joined to its graph or detached, they answer what they answer alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import write_bundle
from edgebone.core.errors import BundleError, OutputError
from edgebone.core.head_file import HeadFile, head_bytes, parse_head, read_head
from edgebone.core.manifest import Accuracy, Head, Tap
from edgebone.core.tensors import TensorSpec
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.engines.tensorrt.builder import compile_engine
from edgebone.engines.tensorrt.settings import CompileSettings, Target
from edgebone_export import export
from edgebone_export.errors import ExportError
from edgebone_export.frame_input.add import add_frame_variants
from edgebone_export.heads.attach.artefact import make_artefact
from edgebone_export.heads.attach.attach import attach, bundle_head, detach
from edgebone_export.heads.attach.join import graph_with_taps
from edgebone_export.heads.features.features import pick
from edgebone_export.heads.features.fitted import Samples
from edgebone_export.heads.features.readings import Reading
from edgebone_export.heads.features.taps import find_taps, read_graph, taps_of
from edgebone_export.heads.fit.fit import fit
from edgebone_export.heads.fit.work import Settings
from edgebone_export.heads.vectors.embedding import fit_embedding
from edgebone_export.quantization import quantizer
from edgebone_export.quantization.quantizer import quantize
from support.bundles import COLORS, contents, write_meanwhile
from support.heads import changed, linear_head, saved
from support.networks import SIZE, SPEC, classifier, tinted_picture, write_network, write_pictures
from support.program import edgebone as program


def probabilities(bundle: Path, head: str, engine: str, pictures: Sequence[np.ndarray], **options: Any) -> np.ndarray:
    # What BF16 gives is another number, even where it is the same answer.
    with edgebone.load(bundle, engine=engine, **{"precision": "fp32", **options}) as model:
        results: list[Any] = model(list(pictures), heads=[head])
    return np.stack([result[head].probabilities for result in results])


def alone(bundle: Path, head: HeadFile, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """What the head says of what the backbone alone gives: float64 (n, classes), softmax in NumPy."""
    with open_bundle(bundle) as opened:
        content, specs = graph_with_taps(opened.read("onnx/fp32.onnx"), head.manifest.reads, "test")
    with edgebone.load(bundle, engine="onnxruntime") as model:
        least = model.new_buffer()
        inputs = []
        for picture in pictures:
            model.prepare([picture], least)
            inputs.append(least.copy())
    rows = []
    with OnnxRuntimeEngine(content) as backbone, OnnxRuntimeEngine(head.graph) as engine:
        for one in inputs:
            given = backbone.run({backbone.inputs[0].name: one})
            rows.append(engine.run({tap: given[spec.name] for tap, spec in specs.items()})["scores"][0])
    powers = np.exp(np.float64(rows) - np.max(rows, axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fingerprint(path: Path) -> str:
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file())).hexdigest()


@pytest.mark.parametrize("what", ["name", "graph"])
def test_a_head_that_is_attached_in_place_does_not_undo_what_others_wrote(
    network: Path, tmp_path: Path, what: str
) -> None:
    first, second = (attach(network, [linear_head(network, "fruit")], tmp_path / name).path for name in "ab")
    more = linear_head(network, "more")

    def meanwhile(path: Path) -> dict[str, Any]:
        return {"overwrite": True, "progress": lambda step: step == "write" and write_meanwhile(path, what)}

    with pytest.raises(OutputError, match="was changed by another process meanwhile"):
        attach(first, [more], first, **meanwhile(first))
    with pytest.raises(OutputError, match="was changed by another process meanwhile"):
        detach(second, ["fruit"], second, **meanwhile(second))
    for path in (first, second):
        with open_bundle(path) as opened:
            assert (opened.manifest.name, list(opened.manifest.heads)) == ("another", ["classification", "fruit"])


PICTURES = [tinted_picture(number) for number in range(6)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with a free batch. Shared: do not change it."""
    return write_network(tmp_path_factory.mktemp("attach") / "network.bundle", classifier(batch="batch"), (1, 4))


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.mark.parametrize("detached", [False, True], ids=["in the graph", "detached"])
def test_an_attached_head_answers_what_it_does_alone(
    network: Path, tmp_path: Path, engine: str, detached: bool
) -> None:
    heads = [
        linear_head(network, "fruit", labels=[f"fruit {n}" for n in range(20)], seed=1),
        linear_head(network, "place", ["features_s2", "features_s4"], seed=2),
        linear_head(network, "light", ["features_s4", "embedding"], seed=3),
    ]
    done = attach(network, heads, tmp_path / "b", detached=detached)
    assert done.heads == ("classification", "fruit", "place", "light")
    for head in heads:
        have = probabilities(done.path, head.manifest.name, engine, PICTURES)
        np.testing.assert_allclose(have, alone(network, head, PICTURES), atol=1e-4)
    before = probabilities(network, "classification", engine, PICTURES)
    np.testing.assert_allclose(probabilities(done.path, "classification", engine, PICTURES), before, atol=1e-5)
    with edgebone.load(done.path, engine=engine, precision="fp32") as model:
        answer: Any = model(PICTURES[0])
        assert list(answer) == list(done.heads)
        assert answer["fruit"].label.startswith("fruit ")
    checked = program("doctor", done.path)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout


@pytest.mark.parametrize("batch", [(1, 1), (2, 2)])
def test_a_network_of_a_fixed_batch_and_an_older_opset_takes_heads(
    tmp_path: Path, engine: str, batch: tuple[int, int]
) -> None:
    path = write_fixed(tmp_path, batch[0])
    head = linear_head(path, "fruit")
    expected = probabilities_of_scores(path, head)
    for detached in (False, True):
        done = attach(path, [head], tmp_path / f"b{detached}", detached=detached)
        np.testing.assert_allclose(probabilities(done.path, "fruit", engine, PICTURES), expected, atol=1e-4)


def test_openvino_runs_a_detached_head_on_two_taps_of_a_fixed_batch(tmp_path: Path) -> None:
    path = write_fixed(tmp_path, 1)
    head = linear_head(path, "place", ["features_s2", "features_s4"])
    done = attach(path, [head], tmp_path / "b", detached=True)
    expected = probabilities_of_scores(path, head)
    np.testing.assert_allclose(probabilities(done.path, "place", "openvino", PICTURES), expected, atol=1e-4)


def write_fixed(folder: Path, batch: int) -> Path:
    """The network with a fixed batch: written with a free one, whose recording it keeps."""
    manifest, files = contents(write_network(folder / "free", classifier(batch="batch", opset=17), (1, 4)))
    files["onnx/fp32.onnx"] = _fixed(files["onnx/fp32.onnx"], batch)
    variant = msgspec.structs.replace(manifest.variants["fp32"], batch=(batch, batch))
    manifest = msgspec.structs.replace(
        manifest,
        input=TensorSpec("images", "uint8", (batch, SIZE, SIZE, 3)),
        outputs=(TensorSpec("logits", "float32", (batch, 4)),),
        variants={"fp32": variant},
    )
    return write_bundle(folder / "fixed", manifest, files)


def _fixed(content: bytes, batch: int) -> bytes:
    model = onnx.load_from_string(content)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return model.SerializeToString()


def probabilities_of_scores(path: Path, head: HeadFile) -> np.ndarray:
    """As `alone`, of the network in `write_fixed`."""
    return alone(path.with_name("free"), head, PICTURES)


def test_taps_follow_the_weights_and_no_names() -> None:
    def taps(content: bytes) -> dict[str, Tap]:
        head = Head("classification@1", ("logits",), COLORS)
        return find_taps(read_graph(onnx.load_from_string(content)), SPEC.size_hw, {"classification": head})

    content = classifier(batch="batch")
    first = taps(content)
    assert {name: tap.shape for name, tap in first.items()} == {
        "features_s2": (16, 16, 16),
        "features_s4": (32, 8, 8),
        "embedding": (32,),
    }
    prints = {name: tap.fingerprint for name, tap in first.items()}
    renamed = ir.from_proto(onnx.load_from_string(content))
    for number, node in enumerate(renamed.graph):
        node.name = f"n{number}"
        if not node.outputs[0].is_graph_output():
            node.outputs[0].name = f"v{number}"
    again = taps(ir.to_proto(renamed).SerializeToString())
    assert again != first
    assert {name: tap.fingerprint for name, tap in again.items()} == prints
    # One weight of the layer before the vector: the finer maps are still the same.
    altered = onnx.load_from_string(content)
    wide = next(node for node in altered.graph.node if node.name == "wide")
    bias = next(tensor for tensor in altered.graph.initializer if tensor.name == wide.input[2])
    array = numpy_helper.to_array(bias).copy()
    array[0] += 1e-6 * abs(array[0])
    bias.CopyFrom(numpy_helper.from_array(array, bias.name))
    other = {name: tap.fingerprint for name, tap in taps(altered.SerializeToString()).items()}
    assert {name for name in prints if other[name] == prints[name]} == {"features_s2"}


REFUSED: dict[str, tuple[Callable[[HeadFile, Path], HeadFile], str]] = {
    "another backbone": (
        lambda head, folder: linear_head(write_network(folder / "other", classifier(seed=9, batch="batch")), "fruit"),
        "fruit.head: the head does not fit .*: it was fitted on another backbone: network with weights random, "
        "whose embedding has the fingerprint [0-9a-f]{12}…, not [0-9a-f]{12}…",
    ),
    "another preprocessing": (
        lambda head, _: changed(
            head,
            backbone=msgspec.structs.replace(
                head.manifest.backbone, preprocess=msgspec.structs.replace(SPEC, interpolation="nearest")
            ),
        ),
        "fitted with another preprocessing: interpolation nearest instead of bilinear",
    ),
    "other channels": (
        lambda head, _: changed(
            head, reads={"embedding": msgspec.structs.replace(head.manifest.reads["embedding"], shape=(1280,))}
        ),
        r"it reads embedding of shape \[1280\], the backbone has \[32\]",
    ),
    "a tap that is not there": (
        lambda head, _: changed(head, reads={"features_s32": head.manifest.reads["embedding"]}),
        "it reads features_s32, the backbone has embedding, features_s2, features_s4",
    ),
    "a name that is taken": (
        lambda head, _: changed(head, name="classification"),
        r"already has a head classification; rename the new one \(NAME=fruit.head\)",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_head_that_does_not_go_with_the_backbone_is_refused(network: Path, tmp_path: Path, kind: str) -> None:
    make, message = REFUSED[kind]
    head = make(linear_head(network, "fruit"), tmp_path)
    for detached in (False, True):
        with pytest.raises(ExportError, match=message):
            attach(network, [head], tmp_path / "b", detached=detached)
    assert not (tmp_path / "b").exists()


def test_the_program_says_what_is_wrong_in_one_line(network: Path, tmp_path: Path) -> None:
    good = saved(linear_head(network, "fruit"), tmp_path)
    (tmp_path / "foreign").mkdir()
    foreign = saved(REFUSED["another backbone"][0](linear_head(network, "fruit"), tmp_path), tmp_path / "foreign")
    broken = tmp_path / "broken.head"
    broken.write_bytes(good.read_bytes()[:-40])
    out = tmp_path / "b"
    cases = [
        (["attach", network, foreign, "-o", out], 8, "it was fitted on another backbone"),
        (["attach", network, f"classification={good}", "-o", out], 8, "already has a head classification"),
        (["attach", network, broken, "-o", out], 3, "not a head"),
        (["attach", network, f"a/b={good}", "-o", out], 3, "a head's name has at most 64 letters, digits"),
        (["detach", network, "classification", "-o", out], 8, "no head would be left"),
    ]
    before = sorted(path.name for path in tmp_path.iterdir())
    for arguments, code, message in cases:
        done = program(*arguments)
        lines = done.stderr.strip().splitlines()
        assert (done.returncode, done.stdout, len(lines)) == (code, "", 1), done.stderr
        assert message in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_exists_is_replaced_only_where_that_is_asked_for(network: Path, tmp_path: Path) -> None:
    head = linear_head(network, "fruit")
    path = attach(network, [head], tmp_path / "b").path
    with pytest.raises(OutputError, match="exists"):
        attach(path, {"second": head}, path)
    # A bundle may be replaced by itself with a head more.
    assert attach(path, {"second": head}, path, overwrite=True).heads == ("classification", "fruit", "second")
    have = [probabilities(path, name, "onnxruntime", PICTURES) for name in ("fruit", "second")]
    np.testing.assert_array_equal(*have)


@pytest.mark.parametrize("detached", [False, True], ids=["in the graph", "detached"])
def test_a_head_comes_off_as_it_was_put_on(network: Path, tmp_path: Path, detached: bool) -> None:
    heads = [saved(linear_head(network, name, seed=seed), tmp_path) for seed, name in enumerate(("fruit", "place"))]
    both = attach(network, heads, tmp_path / "both", detached=detached).path
    folder = tmp_path / "taken off"
    left = detach(both, ["fruit"], tmp_path / "left", save=folder)
    assert left.heads == ("classification", "place")
    assert (folder / "fruit.head").read_bytes() == heads[0].read_bytes()
    with open_bundle(left.path) as opened:
        assert "heads/fruit.head" not in opened.manifest.files
        assert taps_of(opened).keys() == {"features_s2", "features_s4", "embedding"}
    again = attach(left.path, [folder / "fruit.head"], tmp_path / "again", detached=detached).path
    for name in ("classification", "fruit", "place"):
        have = probabilities(again, name, "onnxruntime", PICTURES)
        np.testing.assert_allclose(have, probabilities(both, name, "onnxruntime", PICTURES), atol=1e-6)
    with open_bundle(network) as first, open_bundle(detach(left.path, ["place"], tmp_path / "bare").path) as bare:
        assert bare.manifest.outputs == first.manifest.outputs
        have, wanted = (onnx.load_from_string(item.read("onnx/fp32.onnx")).graph.node for item in (bare, first))
        assert [node.op_type for node in have] == [node.op_type for node in wanted]


def test_a_head_is_as_readable_as_any_file(network: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    both = attach(network, [linear_head(network, "fruit")], tmp_path / "both").path
    detach(both, ["fruit"], tmp_path / "left", save=tmp_path)
    assert (tmp_path / "fruit.head").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_heads_are_named_once_and_nothing_is_written_where_one_is_in_the_way(network: Path, tmp_path: Path) -> None:
    heads = [saved(linear_head(network, name, seed=seed), tmp_path) for seed, name in enumerate(("fruit", "place"))]
    both = attach(network, heads, tmp_path / "both").path
    left = detach(both, ["fruit", "fruit"], tmp_path / "left", save=tmp_path / "once")
    assert left.heads == ("classification", "place")
    (tmp_path / "twice").mkdir()
    (tmp_path / "twice" / "place.head").write_bytes(b"")
    with pytest.raises(OutputError, match=r"place\.head exists"):
        detach(both, ["fruit", "place"], tmp_path / "none", save=tmp_path / "twice")
    assert not (tmp_path / "twice" / "fruit.head").exists()
    assert not (tmp_path / "none").exists()
    with pytest.raises(ExportError, match=r"no head frut; did you mean fruit\? it has classification, fruit, place"):
        attach(both, [linear_head(network, "more")], tmp_path / "none", drop=["frut"])


def test_the_networks_own_head_may_go_and_others_stay(network: Path, tmp_path: Path, engine: str) -> None:
    head = linear_head(network, "fruit")
    joined = attach(network, [head], tmp_path / "joined").path
    with pytest.raises(ExportError, match="head classification is the network's own, so it has no artefact"):
        detach(joined, ["classification"], tmp_path / "b", save=tmp_path / "folder")
    with pytest.raises(ExportError, match="no head would be left"):
        detach(joined, ["fruit", "classification"], tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "folder").exists()
    alone_left = detach(joined, ["classification"], tmp_path / "b").path
    dropped = attach(network, [head], tmp_path / "c", detached=True, drop=["classification"]).path
    for path in (alone_left, dropped):
        assert program("doctor", path).returncode == 0
        with edgebone.load(path, engine=engine, precision="fp32") as model:
            results: list[Any] = model(PICTURES)
        have = np.stack([result.probabilities for result in results])
        np.testing.assert_allclose(have, alone(network, head, PICTURES), atol=1e-4)


@pytest.mark.parametrize("detached", [False, True], ids=["in the graph", "detached"])
@pytest.mark.parametrize("was_detached", [False, True], ids=["was in the graph", "was detached"])
def test_a_head_is_replaced_by_another_of_its_name(
    network: Path, tmp_path: Path, detached: bool, was_detached: bool
) -> None:
    old, new = linear_head(network, "fruit", seed=1), linear_head(network, "fruit", labels=("x", "y"), seed=2)
    before = attach(network, [old], tmp_path / "before", detached=was_detached).path
    after = attach(before, [new], tmp_path / "after", detached=detached, drop=["fruit"]).path
    assert program("doctor", after).returncode == 0
    have = probabilities(after, "fruit", "onnxruntime", PICTURES)
    np.testing.assert_allclose(have, alone(network, new, PICTURES), atol=1e-4)
    with open_bundle(after) as opened:
        assert bundle_head(opened, "fruit").manifest.head.labels == ("x", "y")


def test_heads_in_the_graph_and_detached_heads_live_in_one_bundle(network: Path, tmp_path: Path, engine: str) -> None:
    fruit, place = linear_head(network, "fruit", seed=1), linear_head(network, "place", ["features_s4"], seed=2)
    mixed = attach(attach(network, [fruit], tmp_path / "a", detached=True).path, [place], tmp_path / "b").path
    for head in (fruit, place):
        have = probabilities(mixed, head.manifest.name, engine, PICTURES)
        np.testing.assert_allclose(have, alone(network, head, PICTURES), atol=1e-4)
    # The tap goes with the last head that reads it detached.
    with open_bundle(detach(mixed, ["fruit"], tmp_path / "c").path) as opened:
        assert [spec.name for spec in opened.manifest.outputs] == ["logits", "place/scores"]
        assert not any(tap.output for tap in opened.manifest.taps.values())


def test_a_damaged_head_is_refused(network: Path, tmp_path: Path) -> None:
    good = saved(linear_head(network, "fruit"), tmp_path).read_bytes()
    whole = parse_head(good, "x")
    bad = tmp_path / "bad.head"
    for place in range(0, len(good), 7):
        for flip in (0x01, 0x80, 0xFF):
            bad.write_bytes(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
            try:
                found = read_head(bad)
            except BundleError as error:
                assert str(error).startswith(f"{bad}: ")
            else:
                # Nothing but a date or a flag of the archive was hit.
                assert (found.manifest, found.graph) == (whole.manifest, whole.graph)
    for length in (0, 1, 30, len(good) // 2, len(good) - 1):
        bad.write_bytes(good[:length])
        with pytest.raises(BundleError, match="not a head"):
            read_head(bad)
    for content in (b"something else", cv2.imencode(".png", PICTURES[0])[1].tobytes()):
        bad.write_bytes(content)
        with pytest.raises(BundleError, match="not a head"):
            read_head(bad)
    bad.write_bytes(head_bytes(msgspec.structs.replace(whole.manifest, schema=2), whole.graph))
    with pytest.raises(BundleError, match="the head has schema 2, this edgebone reads 1; fit it again"):
        read_head(bad)


def test_frame_variants_are_made_anew_with_the_heads(network: Path, tmp_path: Path, engine: str) -> None:
    path = write_bundle(tmp_path / "frames", *contents(network))
    add_frame_variants(path, [(48, 64)])
    head = linear_head(path, "fruit", ["features_s4", "embedding"])
    for detached in (False, True):
        done = attach(path, [head], tmp_path / f"b{detached}", detached=detached).path
        by_host = probabilities(done, "fruit", engine, PICTURES)
        with edgebone.load(done, engine=engine, precision="fp32", frame_in_graph=True) as model:
            assert model.takes_frame((48, 64))
        in_graph = probabilities(done, "fruit", engine, PICTURES, frame_in_graph=True)
        np.testing.assert_allclose(in_graph, by_host, atol=2e-2)
        assert program("doctor", done).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("detached", [False, True], ids=["in the graph", "detached"])
def test_heads_go_with_a_variant_of_fewer_bits(
    network: Path, tmp_path: Path, detached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer, "speedup", lambda *_: 2.0)
    photos = write_pictures(tmp_path / "photos")
    path = write_bundle(tmp_path / "q", *contents(network))
    quantize(path, photos, variants=[("int8", "onnxruntime")], max_drop=100, pictures=24)
    head = linear_head(path, "fruit")
    done = attach(path, [head], tmp_path / "b", detached=detached)
    assert done.left_out == {}
    expected = alone(network, head, PICTURES)
    have = probabilities(done.path, "fruit", "onnxruntime", PICTURES, precision="int8")
    assert np.abs(have - expected).max() < 0.2
    assert np.abs(have - expected).max() > 0
    checked = program("doctor", done.path)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_what_was_counted_goes_with_the_head_and_is_counted_anew_by_a_fit(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer, "speedup", lambda *_: 2.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos = write_pictures(tmp_path / "photos")
    path = write_bundle(tmp_path / "q", *contents(network))
    quantize(path, photos, variants=[("int8", "onnxruntime"), ("fp16", "tensorrt")], max_drop=100, pictures=24)

    def accuracies(bundle: Path) -> dict[str, Accuracy | None]:
        with open_bundle(bundle) as opened:
            return {name: item.accuracy for name, item in opened.manifest.variants.items() if name != "fp32"}

    before = accuracies(path)
    assert len(before) == 2
    assert None not in before.values()
    more = attach(path, [linear_head(path, "fruit")], tmp_path / "more").path
    assert accuracies(more) == before
    assert set(accuracies(detach(more, ["classification"], tmp_path / "less").path).values()) == {None}
    rows = [f"{file},{number % 3}" for number, file in enumerate(sorted(map(str, photos.iterdir())))]
    (tmp_path / "numbers.csv").write_text("\n".join(["file,value", *rows]))
    done = fit(path, tmp_path / "numbers.csv", tmp_path / "fitted", Settings("regression"), max_drop=100)
    counted = accuracies(done.path)
    # TensorRT's is run by no engine here: it stays, and says nothing of the new head.
    (tensorrt,) = [name for name in before if "fp16" in name]
    assert counted.pop(tensorrt) is None
    (found,) = counted.values()
    assert found is not None
    assert found.metric == "agreement"
    assert 0 < found.drop < 100
    steps: list[str] = []
    strict = fit(
        path, tmp_path / "numbers.csv", tmp_path / "strict", Settings("regression"), max_drop=0, progress=steps.append
    )
    assert set(accuracies(strict.path)) == {tensorrt}
    assert any("is omitted" in step for step in steps)


@pytest.mark.slow
def test_a_bundle_with_heads_gets_a_variant_of_fewer_bits_and_a_head_more(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer, "speedup", lambda *_: 2.0)
    photos = write_pictures(tmp_path / "photos")
    head = linear_head(network, "fruit")
    path = attach(network, [head], tmp_path / "b").path
    quantize(path, photos, variants=[("int8", "onnxruntime")], max_drop=100, pictures=24, head="classification")
    done = attach(path, {"second": head}, tmp_path / "second")
    assert done.left_out == {}
    # The first head's own matrix has fewer bits, too.
    two = [probabilities(done.path, key, "onnxruntime", PICTURES, precision="int8") for key in ("fruit", "second")]
    np.testing.assert_allclose(*two, atol=0.05)
    assert program("doctor", done.path).returncode == 0


@pytest.mark.slow
def test_a_bundle_with_a_detached_head_gets_a_variant_of_fewer_bits(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer, "speedup", lambda *_: 2.0)
    path = attach(network, [linear_head(network, "fruit")], tmp_path / "b", detached=True).path
    photos = write_pictures(tmp_path / "photos")
    quantize(path, photos, variants=[("int8", "onnxruntime")], max_drop=100, pictures=24, head="classification")
    done = program("doctor", path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("detached", [False, True])
def test_an_embedding_that_reads_the_embedding_is_attached(network: Path, tmp_path: Path, detached: bool) -> None:
    with open_bundle(network) as opened:
        taps, candidate = taps_of(opened), pick(opened, "onnxruntime", None)
        x = np.random.default_rng(0).normal(size=(40, taps["embedding"].shape[0])).astype(np.float32)
        fitted = fit_embedding(Samples(x, np.repeat([0, 1], 20), np.arange(40)), ["a", "b"])
        head = make_artefact("alike", fitted, opened, taps, [Reading("embedding", "none")], candidate)
    done = attach(network, [head], tmp_path / "b", detached=detached)
    with edgebone.load(done.path, engine="onnxruntime") as model:
        found = model(PICTURES[0])["alike"]
    assert np.linalg.norm(found.vector) == pytest.approx(1, abs=1e-5)


def test_tensorrt_rtx_compiles_the_joined_graph(network: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    heads = [linear_head(network, "fruit"), linear_head(network, "place", ["features_s2", "features_s4"])]
    done = attach(network, heads, tmp_path / "b")
    with open_bundle(done.path) as opened:
        content = opened.read("onnx/fp32.onnx")
    made = compile_engine(content, "joined", Target("tensorrt-rtx", ("SM86",)), CompileSettings(), (1, 4))
    assert len(made.content) > 1000


def test_triton_serves_one_graph(network: Path, tmp_path: Path) -> None:
    head = linear_head(network, "fruit")
    detached = attach(network, [head], tmp_path / "detached", detached=True).path
    done = program("export-triton", detached, "-o", tmp_path / "models")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (3, 1), done.stderr
    assert "head fruit is detached, and Triton serves one graph" in done.stderr
    assert not (tmp_path / "models").exists()
    done = program("export-triton", attach(network, [head], tmp_path / "b").path, "-o", tmp_path / "models")
    assert done.returncode == 0, done.stderr
    assert "fruit/scores" in next((tmp_path / "models").rglob("config.pbtxt")).read_text()


@pytest.mark.slow
def test_a_mobilenet_has_a_vector_and_maps_of_each_stride(tmp_path: Path, exported: Callable[..., Path]) -> None:
    """And two exports of the same weights take each other's heads."""
    settings: dict[str, Any] = {"weights": "random", "size_hw": (96, 96), "batch": (1, 4)}
    paths = [exported("mobilenet_v3_small", **settings), tmp_path / "b"]
    export("mobilenet_v3_small", paths[1], **settings)
    with open_bundle(paths[0]) as first, open_bundle(paths[1]) as second:
        taps = taps_of(first)
        assert taps == taps_of(second)
    shapes = {name: tap.shape for name, tap in taps.items()}
    assert list(shapes)[-1] == "embedding"
    assert shapes["embedding"] == (1024,)
    assert {key: value[1:] for key, value in shapes.items() if key != "embedding"} == {
        f"features_s{stride}": (96 // stride, 96 // stride) for stride in (2, 4, 8, 16, 32)
    }
    head = linear_head(paths[0], "fruit", ["features_s8", "features_s32", "embedding"])
    done = attach(paths[1], [head], tmp_path / "c").path
    for engine in ("onnxruntime", "openvino"):
        have = probabilities(done, "fruit", engine, PICTURES[:2])
        np.testing.assert_allclose(have, alone(paths[0], head, PICTURES[:2]), atol=1e-4)
