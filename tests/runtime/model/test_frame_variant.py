"""Frames that go into the graph as they are: when they do, and that nothing else changes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import Update, update_bundle
from edgebone.core.errors import BundleError, EngineError, OutputError, TensorError
from edgebone.core.frame import Frame, Planes
from edgebone.core.golden import read_golden
from edgebone.core.manifest import FrameVariant, parse_manifest
from edgebone.engines.opening import open_engine
from edgebone.engines.openvino.compile import compile_with_openvino
from edgebone.engines.select import candidates
from edgebone.engines.spec import Candidate
from edgebone.engines.table import this_machine
from edgebone.engines.tensorrt.compile import cached_engine, compile_into_bundle
from edgebone.engines.tensorrt.settings import Target
from edgebone.model import frame_engines
from edgebone.model.frame_engines import FrameEngines, size_and_layout
from edgebone.selftest import replay
from edgebone.sources import video_pixels
from edgebone.sources.video_pixels import pixels_of
from edgebone.tune.space import candidates_to_measure
from edgebone_export.frame_input.add import add_frame_variants
from edgebone_export.frame_input.proof import nv12_of
from edgebone_export.pictures import synthesize
from support.bundles import write_colors_bundle, write_meanwhile
from support.pictures import BLUE, GREEN, RED, picture

SIZE = (48, 64)
NAME = "fp32-48x64"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes a batch of 1 to 4, and frames of 48x64 as BGR and NV12, and of 90x120 as BGR. Shared: do not change it."""
    path = write_colors_bundle(tmp_path_factory.mktemp("frames") / "colors.bundle", (1, 4))
    add_frame_variants(path, [SIZE, (90, 120)])
    add_frame_variants(path, [SIZE], "nv12")
    return path


def frames(count: int, size_hw: tuple[int, int] = SIZE) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [synthesize(size_hw, rng) for _ in range(count)]


def logits(model: edgebone.Model, images: list[np.ndarray]) -> np.ndarray:
    """What the host's way gives."""
    return model.run(model.prepare(images)).network["logits"]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the frame variants that are opened from here on."""
    opened: list[str] = []

    def opening(bundle: Any, candidate: Candidate) -> Any:
        opened.append(candidate.variant)
        return open_engine(bundle, candidate)

    monkeypatch.setattr(frame_engines, "open_engine", opening)
    return opened


# When they do


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_on_the_cpu_frames_go_into_the_graph_only_when_asked(
    engine: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = counted(monkeypatch)
    with edgebone.load(bundle, engine=engine) as model:
        assert not model.takes_frame(SIZE)
        assert model(picture(RED)).label == "red"
    with edgebone.load(bundle, engine=engine, frame_in_graph=False) as model:
        assert not model.takes_frame(SIZE)
    assert opened == []
    with edgebone.load(bundle, engine=engine, frame_in_graph=True) as model:
        assert [model(picture(color)).label for color in (BLUE, GREEN, RED)] == ["blue", "green", "red"]
        assert model.takes_frame(SIZE)
        assert opened == [NAME]


def test_on_a_gpu_they_do_unless_it_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Candidate] = []

    def opening(bundle: Any, candidate: Candidate) -> Any:
        seen.append(candidate)
        return open_engine(bundle, Candidate("onnxruntime", "fp32", candidate.variant))

    monkeypatch.setattr(frame_engines, "open_engine", opening)
    with open_bundle(bundle) as opened:
        ordinary = Candidate("onnxruntime-cuda", "fp32", "fp32", threads=2)
        for wanted, takes in ((None, True), (True, True), (False, False)):
            engines = FrameEngines(opened, ordinary, wanted)
            assert (engines.get(SIZE, "bgr") is not None) is takes
            engines.close()
        # Of another variant, the network is another one.
        other = FrameEngines(opened, Candidate("onnxruntime-cuda", "int8", "int8"), None)
        assert other.get(SIZE, "bgr") is None
    assert seen == [Candidate("onnxruntime-cuda", "fp32", NAME, threads=2)] * 2


def test_only_frames_of_that_very_size_and_layout_do(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = counted(monkeypatch)
    with edgebone.load(bundle, engine="onnxruntime", frame_in_graph=True) as model:
        assert [model.takes_frame(size) for size in ((48, 65), (64, 48), (0, 0))] == [False] * 3
        assert not model.takes_frame((90, 120), "nv12")
        assert model(picture(GREEN, (50, 70))).label == "green"
        assert opened == []
        assert model(Frame(picture(GREEN, (90, 120)), 0, 0, "camera")).label == "green"
        assert opened == ["fp32-90x120"]
        # Of several sizes, they share one run by the host's way.
        assert [result.label for result in model([picture(RED), picture(BLUE, (90, 120))])] == ["red", "blue"]
        with pytest.raises(TensorError, match="dtype float32"):
            model.run(model.prepare([picture(RED).astype(np.float32)]))


def test_a_bundle_without_frame_variants_says_how_to_add_one(colors_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"variant fp32 takes no frames; add .*edgebone add-frame .*--frame"):
        edgebone.load(colors_bundle, engine="onnxruntime", frame_in_graph=True)
    with edgebone.load(colors_bundle, engine="onnxruntime") as model:
        assert not model.takes_frame(SIZE)


def test_what_an_array_is_shows_in_its_shape() -> None:
    assert size_and_layout((48, 64, 3)) == (SIZE, "bgr")
    assert size_and_layout((72, 64)) == (SIZE, "nv12")
    assert size_and_layout((73, 64)) == size_and_layout((5,)) == ((0, 0), "bgr")


# That nothing else changes


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_outputs_and_results_are_those_of_the_hosts_way(engine: str, bundle: Path) -> None:
    images = frames(4)
    with edgebone.load(bundle, engine=engine) as model:
        want, geometries = logits(model, images), model.prepare(images).geometries
        theirs = model([*images, images[0]])
    with edgebone.load(bundle, engine=engine, frame_in_graph=True) as model:
        prepared = model.prepare(images)
        assert (prepared.feed.shape, prepared.geometries) == ((4, *SIZE, 3), geometries)
        np.testing.assert_allclose(model.run(prepared).network["logits"], want, atol=1e-3)
        single = model.start(model.prepare(images[:1])).result().network
        np.testing.assert_allclose(single["logits"], want[:1], atol=1e-3)
        ours = model([*images, images[0]])
    assert [result.label for result in ours] == [result.label for result in theirs]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)


def test_nv12_is_what_its_bgr_is(bundle: Path) -> None:
    (image,) = frames(1)
    frame = nv12_of(image)
    with edgebone.load(bundle, engine="onnxruntime", frame_in_graph=True) as model:
        assert model.takes_frame(SIZE, "nv12")
        np.testing.assert_allclose(
            logits(model, [frame]), logits(model, [cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12)]), atol=0.02
        )
        assert model(nv12_of(picture(BLUE))).label == "blue"


def test_a_static_batch_is_filled_up(tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "colors.bundle", (3, 3))
    add_frame_variants(path, [SIZE])
    with edgebone.load(path, engine="onnxruntime", frame_in_graph=True) as model:
        images = [picture(color) for color in (RED, BLUE, GREEN, RED)]
        assert [result.label for result in model(images)] == ["red", "blue", "green", "red"]


def test_a_single_frame_is_not_copied(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (image,) = frames(1)
    with edgebone.load(bundle, engine="onnxruntime", frame_in_graph=True) as model:
        prepared = model.prepare([image])
        assert np.shares_memory(prepared.feed, image)
        assert prepared.engine is not model.engine


def test_threads_that_come_first_together_open_one_engine(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = counted(monkeypatch)
    start = threading.Barrier(4)
    (image,) = frames(1)
    with edgebone.load(bundle, engine="onnxruntime", frame_in_graph=True) as model:

        def look(_: int) -> np.ndarray:
            start.wait()
            return logits(model, [image])

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(look, range(4)))
    assert opened == [NAME]
    assert all(np.array_equal(result, results[0]) for result in results)


# Faults


def test_an_engine_that_does_not_open_leaves_the_hosts_way(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def failing(bundle: Any, candidate: Candidate) -> Any:
        tries.append(candidate.variant)
        raise EngineError("out of memory")

    monkeypatch.setattr(frame_engines, "open_engine", failing)
    with edgebone.load(bundle, engine="onnxruntime", frame_in_graph=True) as model:
        assert model.failures == ()
        assert [model(picture(RED)).label for _ in range(3)] == ["red"] * 3
        assert not model.takes_frame(SIZE)
        assert model.failures == ("frames of 64x48 bgr into the graph: out of memory",)
    assert tries == [NAME]


def test_closing_frees_every_engine(bundle: Path) -> None:
    model = edgebone.load(bundle, engine="onnxruntime", frame_in_graph=True)
    assert model.takes_frame(SIZE)
    prepared = model.prepare(frames(1))
    model.close()
    with pytest.raises(EngineError, match="closed"):
        model.run(prepared)
    assert not model.takes_frame(SIZE)


def test_frame_variants_go_into_the_bundle_as_it_is_now(tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "colors.bundle")
    add_frame_variants(path, [SIZE], progress=lambda step: write_meanwhile(path, "name") if step == "write" else None)
    with open_bundle(path) as opened:
        assert (opened.manifest.name, list(opened.manifest.frame_variants)) == ("another", [NAME])
    with pytest.raises(OutputError, match="was changed by another process meanwhile"):
        add_frame_variants(
            path, [(90, 120)], progress=lambda step: write_meanwhile(path, "graph") if step == "write" else None
        )
    with open_bundle(path) as opened:
        assert list(opened.manifest.frame_variants) == [NAME]


def test_a_file_that_is_not_the_manifests_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "colors.bundle", (1, 4))
    add_frame_variants(path, [SIZE])
    network = (path / "onnx/fp32.onnx").read_bytes()
    update_bundle(path, lambda now: Update(now, {f"onnx/{NAME}.onnx": network}))
    with (
        open_bundle(path) as opened,
        pytest.raises(EngineError, match=r"has images: uint8\[batch,32,32,3\], its manifest says .*48,64,3"),
    ):
        open_engine(opened, Candidate("onnxruntime", "fp32", NAME))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variant": "int8"}, r"frame variant fp32-48x64 is of variant int8, the bundle has \['fp32'\]"),
        ({"file": "onnx/gone.onnx"}, r"uses onnx/gone.onnx but does not list its hash"),
        ({"size_hw": [47, 64], "layout": "nv12"}, r"a nv12 frame cannot have size \[47, 64\]"),
        ({"size_hw": [0, 64]}, r">= 1 - at `\$\.frame_variants"),
        ({"layout": "rgb"}, r"Invalid enum value 'rgb'"),
    ],
)
def test_a_manifest_with_a_wrong_frame_variant_is_refused(change: dict[str, object], words: str, bundle: Path) -> None:
    manifest = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    manifest["frame_variants"][NAME].update(change)
    with pytest.raises(BundleError, match=words):
        parse_manifest(msgspec.json.encode(manifest), "x")


def test_names_are_of_one_kind_and_older_manifests_have_none(bundle: Path) -> None:
    manifest = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    manifest["frame_variants"]["fp32"] = manifest["frame_variants"].pop(NAME)
    with pytest.raises(BundleError, match="fp32 is a variant and a frame variant"):
        parse_manifest(msgspec.json.encode(manifest), "x")
    del manifest["frame_variants"]
    assert parse_manifest(msgspec.json.encode(manifest), "x").frame_variants == {}


# Everything else in the bundle


def test_a_frame_variant_is_never_chosen_as_an_ordinary_one(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        manifest = opened.manifest
        assert {item.variant for item in candidates(manifest)} == {"fp32"}
        assert {item.variant for item in candidates_to_measure(manifest, this_machine(), "latency")[0]} == {"fp32"}
        sample = read_golden(opened)
        assert replay(opened, sample, Candidate("onnxruntime", "fp32", "fp32")).passed
        assert manifest.chosen_graphs([], "x") == ["fp32", *manifest.frame_variants]
        assert manifest.graph(NAME).batch == (1, 4)
        assert manifest.input_of(f"{NAME}-nv12").shape == ("batch", 72, 64)
        assert isinstance(manifest.frame_variants[NAME], FrameVariant)


def test_frame_variants_are_compiled_with_the_others(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write_colors_bundle(tmp_path / "colors.bundle")
    add_frame_variants(path, [SIZE])
    target = Target("tensorrt-rtx", ("SM86",))
    results = compile_into_bundle(str(path), target)
    assert [(result.variant, result.reason) for result in results] == [("fp32", "compiled"), (NAME, "compiled")]
    with open_bundle(path) as opened:
        engines = {engine.variant: engine.file for engine in opened.manifest.engines.values()}
        assert cached_engine(opened, NAME, target) == opened.read(engines[NAME])
    # Made anew, it needs another engine.
    add_frame_variants(path, [SIZE])
    with open_bundle(path) as opened:
        assert [engine.variant for engine in opened.manifest.engines.values()] == ["fp32"]
    warmed = compile_with_openvino(str(path), [NAME])
    assert {item.candidate.variant for item in warmed} == {NAME}


# Streams


def write_video(path: Path, images: list[np.ndarray]) -> Path:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(path, "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        stream.bit_rate = 10**7
        for image in images:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_stream_gives_a_videos_frames_to_the_graph_as_the_decoder_left_them(
    engine: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.avi", [picture(color) for color in (RED, GREEN, BLUE)] + frames(3))
    with edgebone.load(bundle, engine=engine) as model:
        theirs = [result for _, result in model.stream(path)]
    opened = counted(monkeypatch)
    convert = video_pixels.to_bgr
    converted: list[object] = []

    def counting(frame: Any, corners: Any) -> np.ndarray:
        converted.append(frame)
        return convert(frame, corners)

    monkeypatch.setattr(video_pixels, "to_bgr", counting)
    with edgebone.load(bundle, engine=engine, frame_in_graph=True) as model:
        seen = list(model.stream(path))
        assert (opened, converted) == ([f"{NAME}-nv12"], [])
        # Whoever draws asks for BGR, and gets it.
        assert seen[0][0].size_hw == SIZE
        assert np.abs(seen[0][0].image.astype(int) - RED).max() < 12
        cut = [frame.image.shape for frame, _ in model.stream(path, roi_xyxy=(0, 0, 32, 32))]
        assert cut == [(32, 32, 3)] * 6
    assert len(converted) == 1 + 6
    assert [result.label for _, result in seen] == [result.label for result in theirs]
    for (_, ours), host in zip(seen, theirs, strict=True):
        np.testing.assert_allclose(ours.confidence, host.confidence, atol=0.03)


def test_a_videos_frames_are_nv12_only_where_that_is_the_same_picture(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    frame = av.VideoFrame.from_ndarray(picture(RED), "bgr24").reformat(format="yuv420p")
    assert isinstance(pixels_of(frame), Planes)
    turned = (0, 1, -1, 0)
    assert not isinstance(pixels_of(frame, turned), Planes)
    for name, value in (("colorspace", 1), ("color_range", 2)):
        other = frame.reformat(format="yuv420p")
        setattr(other, name, value)
        assert not isinstance(pixels_of(other), Planes), name
    odd = av.VideoFrame.from_ndarray(picture(RED, (47, 63)), "bgr24")
    assert not isinstance(pixels_of(odd.reformat(format="yuv420p")), Planes)
    assert not isinstance(pixels_of(frame.reformat(format="yuv444p")), Planes)


def test_frames_of_a_pipeline_reach_the_graph_as_nv12(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = counted(monkeypatch)
    shown = [nv12_of(picture(color)) for color in (RED, BLUE)]

    def never() -> np.ndarray:
        pytest.fail("converted")

    made = [Frame(Planes(SIZE, lambda own=own: own, never), index, 0, "csi:0") for index, own in enumerate(shown)]
    with edgebone.load(bundle, engine="onnxruntime", frame_in_graph=True) as model:
        assert [result.label for _, result in model.stream(made)] == ["red", "blue"]
    assert opened == [f"{NAME}-nv12"]
