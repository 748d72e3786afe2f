"""Preprocessing inside the graph: does the network see the picture that the host would have made?"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import pytest

from edgebone.cli.options import Size
from edgebone.core.bundle import open_bundle
from edgebone.core.errors import SourceError
from edgebone.core.manifest import FrameLayout, Preprocess
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.engines.tensorrt.builder import compile_engine
from edgebone.engines.tensorrt.settings import CompileSettings, Target
from edgebone.preprocess import preprocess
from edgebone_export.cli.import_onnx import import_onnx
from edgebone_export.errors import ExportError, ParityError
from edgebone_export.frame_input import add, graph
from edgebone_export.frame_input.add import add_frame_variants
from edgebone_export.frame_input.graft import preprocessing_alone
from edgebone_export.frame_input.proof import bgr_of, nv12_of
from edgebone_export.frame_input.resampling import Taps, pillow_taps
from edgebone_export.pictures import synthesize
from edgebone_export.quantization import quantizer
from edgebone_export.quantization.quantizer import quantize
from support.bundles import write_colors_bundle
from support.foreign import Foreign
from support.networks import classifier, write_network, write_pictures

RNG = np.random.default_rng(3)
FILTERS = (
    [(name, True) for name in ("nearest", "box", "bilinear", "bicubic", "lanczos")]
    + [(name, False) for name in ("nearest", "bilinear", "bicubic")]
)  # fmt: skip
# Wide and tall, odd, shrunk much more one way, enlarged, of a single pixel, and of the network's own size.
SIZES = [(120, 202), (90, 60), (333, 40), (17, 23), (1, 1), (64, 64)]
PREPARATIONS = {
    "crop": {"mode": "crop", "size_hw": (56, 64), "resize": 72},
    "crop with black around it": {"mode": "crop", "size_hw": (64, 64), "resize": (50, 41)},
    "letterbox": {"mode": "letterbox", "size_hw": (48, 80), "pad_value": (1, 2, 250)},
    "letterbox at the top": {"mode": "letterbox", "size_hw": (41, 67), "anchor": "top_left", "rounding": "down"},
    "stretch": {"mode": "stretch", "size_hw": (64, 64)},
}


def spec(name: str, filter_: str = "bilinear", antialias: bool = False, color: str = "rgb") -> Preprocess:
    parts = {"interpolation": filter_, "antialias": antialias, "color": color, "mean": (0, 0, 0), "std": (1, 1, 1)}
    return msgspec.convert({**parts, **PREPARATIONS[name]}, Preprocess)


def host(spec: Preprocess, image_bgr: np.ndarray) -> np.ndarray:
    out = np.zeros((*spec.size_hw, 3), np.uint8)
    preprocess(spec, image_bgr, out)
    return out


def in_graph(spec: Preprocess, frame: np.ndarray, size_hw: tuple[int, int], layout: FrameLayout = "bgr") -> np.ndarray:
    with OnnxRuntimeEngine(preprocessing_alone(spec, size_hw, layout)) as engine:
        return engine.run({"frame": frame[None]})["network_input"][0]


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(np.int16) - b)


def fingerprint(bundle: Path) -> str:
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(bundle.rglob("*")) if p.is_file())).hexdigest()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("edgebone")
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, check=False)


# The picture


@pytest.mark.parametrize("size_hw", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("name", PREPARATIONS)
def test_the_graph_sees_what_the_host_makes_within_one_step(name: str, size_hw: tuple[int, int]) -> None:
    # Noise, and black beside white: what is rounded or cut otherwise shows there first.
    noise = RNG.integers(0, 256, (*size_hw, 3), np.uint8)
    for filter_, antialias in FILTERS:
        for color, frame in (("rgb", noise), ("bgr", (noise > 127).astype(np.uint8) * 255)):
            wanted = spec(name, filter_, antialias, color)
            steps = apart(in_graph(wanted, frame, size_hw), host(wanted, frame))
            # Only OpenCV's sums lose bits on their way, in its own order.
            assert steps.max() <= (0 if antialias or filter_ == "nearest" else 1), (filter_, antialias, color)


@pytest.mark.parametrize(("filter_", "antialias"), FILTERS)
def test_pictures_are_the_same_but_for_rare_pixels(filter_: str, antialias: bool) -> None:
    frame = synthesize((240, 426), RNG)
    for name in PREPARATIONS:
        wanted = spec(name, filter_, antialias)
        steps = apart(in_graph(wanted, frame, (240, 426)), host(wanted, frame))
        assert np.mean(steps > 0) < (0.05 if (filter_, antialias) == ("bicubic", False) else 0.003), name


@pytest.mark.parametrize("name", PREPARATIONS)
def test_nv12_becomes_what_opencv_and_the_host_make_of_it_within_two_steps(name: str) -> None:
    for size_hw in ((120, 202), (90, 60), (2, 2)):
        noise = RNG.integers(0, 256, (size_hw[0] * 3 // 2, size_hw[1]), np.uint8)
        for frame in (noise, nv12_of(synthesize((120, 202), RNG)) if size_hw == (120, 202) else noise):
            for filter_, antialias in FILTERS:
                wanted = spec(name, filter_, antialias)
                bgr = cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12)
                steps = apart(in_graph(wanted, frame, size_hw, "nv12"), host(wanted, bgr))
                assert steps.max() <= 2, (filter_, antialias)
                # Of four pixels, one that is off is seen all over.
                most = 0.1 if (filter_, antialias) == ("bicubic", False) or size_hw == (2, 2) else 0.005
                assert np.mean(steps > 0) < most, (filter_, antialias)


def test_nv12_keeps_a_pictures_colours_on_its_way_there_and_back() -> None:
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:, :24], picture[:, 24:] = (200, 60, 30), (20, 90, 220)
    frame = nv12_of(picture)
    assert frame.shape == (48, 48)
    assert apart(bgr_of(frame, "nv12"), picture).max() <= 4
    assert apart(in_graph(spec("stretch", "nearest"), frame, (32, 48), "nv12")[0, 0], [30, 60, 200]).max() <= 4


def test_real_photographs_at_camera_size(shared: Path) -> None:
    capture = cv2.VideoCapture(str(shared / "data" / "driving" / "solidWhiteRight.mp4"))
    _, frame = capture.read()
    capture.release()
    frame = cv2.resize(frame, (1920, 1080), interpolation=cv2.INTER_CUBIC)
    yolo = Preprocess("letterbox", (640, 640), "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1))
    imagenet = Preprocess("crop", (224, 224), "bicubic", True, "rgb", (0, 0, 0), (1, 1, 1), resize=256)
    for wanted in (yolo, imagenet):
        steps = apart(in_graph(wanted, frame, (1080, 1920)), host(wanted, frame))
        assert steps.max() <= (0 if wanted.antialias else 1)
        assert np.mean(steps > 0) < 0.002


# The variant


def test_a_frame_variant_has_the_very_network_and_its_proof(tmp_path: Path) -> None:
    bundle = write_network(tmp_path / "net.bundle", classifier(batch="batch"), (1, 4))
    with open_bundle(bundle) as opened:
        before = opened.manifest
    seen: list[str] = []
    sizes = [(90, 160), (160, 90), (90, 160)]
    added = add_frame_variants(bundle, sizes, samples=write_pictures(tmp_path / "p", 2), progress=seen.append)
    assert list(added) == ["fp32-90x160", "fp32-160x90"]
    assert any(line.startswith("fp32-160x90: ") for line in seen)
    with open_bundle(bundle) as opened:
        after = opened.manifest
        content = opened.read("onnx/fp32-90x160.onnx")
        ordinary = onnx.load_from_string(opened.read("onnx/fp32.onnx"))
    assert after.variants == before.variants
    assert after.frame_variants == added
    for item in added.values():
        assert item.input_steps <= 1
        # The recorded picture, two of the user's, and noise.
        assert item.frames == item.parity.pictures == 4
        assert item.parity.cosine > 0.9999
    merged = onnx.load_from_string(content)
    assert [node for node in merged.graph.node if not node.name.startswith("frame_input/")][1:] == list(
        ordinary.graph.node
    )[1:]
    dims = [dim.dim_param or dim.dim_value for dim in merged.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 90, 160, 3]
    frames = RNG.integers(0, 256, (3, 90, 160, 3), np.uint8)
    with OnnxRuntimeEngine(content) as engine, OnnxRuntimeEngine(ordinary.SerializeToString()) as plain:
        inputs = np.stack([host(before.preprocess, frame) for frame in frames])
        want = plain.run({"images": inputs})["logits"]
        assert np.abs(engine.run({"images": frames})["logits"] - want).max() < 0.02 * np.abs(want).max()


def test_every_form_of_a_network_takes_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizer, "speedup", lambda *_: 2.0)
    bundle = write_network(tmp_path / "net.bundle", classifier())
    asked = (("int8", "onnxruntime"), ("int8", "tensorrt"), ("fp16", "tensorrt"))
    quantize(bundle, write_pictures(tmp_path / "photos", 8), variants=asked, max_drop=100, method="minmax")
    names = ["fp32", "int8-onnxruntime", "int8-tensorrt", "fp16"]
    added = add_frame_variants(bundle, [(48, 64)], "nv12", variants=names)
    assert list(added) == [f"{name}-48x64-nv12" for name in names]
    for item in added.values():
        assert item.parity is None or item.parity.cosine > 0.99
    assert all(added[f"{name}-48x64-nv12"].parity for name in names[:3])
    # What is quantized anew takes its frame variants along: they would have the old network.
    quantize(bundle, tmp_path / "photos", variants=asked[:1], max_drop=100, method="minmax")
    with open_bundle(bundle) as opened:
        left = opened.manifest.frame_variants
        assert set(left) == {name for name in added if not name.startswith("int8-onnxruntime")}
        assert "onnx/int8-onnxruntime-48x64-nv12.onnx" not in opened.manifest.files


@pytest.mark.parametrize("layout", ["bgr", "nv12"])
def test_tensorrt_takes_the_graph(layout: FrameLayout, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    for name, antialias in (("letterbox", False), ("crop", True)):
        bundle = write_network(tmp_path / name, classifier(batch="batch"), (1, 4))
        changed = spec(name, "bilinear", antialias)
        changed = msgspec.structs.replace(changed, size_hw=(32, 32))
        content = add.with_frame_input(
            (bundle / "onnx" / "fp32.onnx").read_bytes(), changed, (1080, 1920), layout, "the bundle"
        )
        made = compile_engine(content, "frames", Target("tensorrt-rtx", ("SM86",)), CompileSettings(), (1, 4))
        assert len(made.content) > 1000


def test_a_graph_that_sees_another_picture_is_refused_and_the_bundle_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_colors_bundle(tmp_path / "colors.bundle")
    before = fingerprint(bundle)

    def one_pixel_off(interpolation: object, window: object) -> Taps:
        taps = pillow_taps(interpolation, window)  # type: ignore[arg-type]
        return Taps(np.maximum(taps.index - 1, 0), taps.weight)

    monkeypatch.setattr(graph, "pillow_taps", one_pixel_off)
    with pytest.raises(ParityError, match=r"frames of 90x120: its preprocessing differs .* by up to \d+ steps"):
        add_frame_variants(bundle, [(90, 120)])
    assert fingerprint(bundle) == before


def test_another_network_behind_the_preprocessing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_network(tmp_path / "net.bundle", classifier())
    other = classifier(seed=9)
    graft = add.with_frame_input
    monkeypatch.setattr(add, "with_frame_input", lambda _, *rest: graft(other, *rest))
    with pytest.raises(ParityError, match=r"fp32-48x64: .*its network's outputs differ from the variant's: cosine"):
        add_frame_variants(bundle, [(48, 64)])


def test_a_frame_variant_is_made_anew_in_place_of_the_old_one(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "colors.zip")
    add_frame_variants(bundle, [(48, 64)])
    add_frame_variants(bundle, [(48, 64), (50, 64)], "nv12")
    add_frame_variants(bundle, [(48, 64)])
    with open_bundle(bundle) as opened:
        assert sorted(opened.manifest.frame_variants) == ["fp32-48x64", "fp32-48x64-nv12", "fp32-50x64-nv12"]


@pytest.mark.parametrize(
    ("size_hw", "layout", "words"),
    [
        ((0, 64), "bgr", r"a frame must be 1x1 to 16384x16384 pixels, found 64x0"),
        ((48, 16385), "bgr", r"found 16385x48"),
        ((48, 63), "nv12", r"an NV12 frame must have even sides.* found 63x48"),
    ],
)
def test_a_size_that_no_frame_has_is_refused(
    size_hw: tuple[int, int], layout: FrameLayout, words: str, colors_bundle: Path
) -> None:
    with pytest.raises(ExportError, match=words):
        add_frame_variants(colors_bundle, [size_hw], layout)


def test_a_variant_that_is_not_there_and_pictures_that_are_not_there_are_named(colors_bundle: Path) -> None:
    with pytest.raises(ExportError, match=r"no variant int8; the bundle has fp32"):
        add_frame_variants(colors_bundle, [(48, 64)], variants=["int8"])
    with pytest.raises(SourceError, match="nowhere"):
        add_frame_variants(colors_bundle, [(48, 64)], samples="nowhere")


# The command line


@pytest.mark.parametrize(
    "wrong", [["--frame", "64x0"], ["--frame", "large"], ["--frame", "99999x8"], ["--frame", "9x8", "--nv12"], []]
)
def test_a_wrong_frame_on_the_command_line_changes_nothing(wrong: list[str], colors_bundle: Path) -> None:
    done = run("add-frame", colors_bundle, *wrong)
    assert done.returncode == 2
    assert "frame" in done.stderr
    assert "Traceback" not in done.stderr


def test_add_frame_says_what_it_proved_and_inspect_shows_it(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "colors.bundle")
    done = run("add-frame", bundle, "--frame", "64x48", "--frame", "120x90")
    assert done.returncode == 0, done.stderr
    assert [line.split(";")[0] for line in done.stdout.splitlines()] == [
        "fp32-48x64: 64 wide, 48 high, bgr",
        "fp32-90x120: 120 wide, 90 high, bgr",
    ]
    assert "edgebone: frames are 120 wide, 90 high\n" in done.stderr
    quiet = run("add-frame", bundle, "--frame", "64x48", "--nv12", "--json")
    assert "wide" not in quiet.stderr
    as_json = json.loads(quiet.stdout)
    assert as_json["fp32-48x64-nv12"]["input_steps"] <= 2
    shown = run("inspect", bundle)
    assert shown.returncode == 0
    assert "fp32-90x120: takes frames 120 wide, 90 high, bgr, network of fp32" in shown.stdout


def test_import_adds_frames_to_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Foreign(opset=11)
    net.give(net.cells(4, 1.0), (96, 4))
    file = net.save(tmp_path / "net.onnx")
    import_onnx(file, tmp_path / "b", ["raw"], preprocess="ultralytics", frame=[Size(90, 160)])
    said = capsys.readouterr()
    assert "fp32-90x160: 160 wide, 90 high, bgr; input at most" in said.out
    assert "edgebone: frames are 160 wide, 90 high\n" in said.err
    with open_bundle(tmp_path / "b") as opened:
        assert opened.manifest.frame_variants["fp32-90x160"].parity is not None
