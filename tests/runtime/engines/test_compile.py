"""Engines: compiled for real by TensorRT-RTX, which needs no GPU for it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgebone.core import caches
from edgebone.core.bundle import open_bundle
from edgebone.core.errors import EngineError, MissingDependencyError, OutputError
from edgebone.core.machine import Machine
from edgebone.engines.openvino.compile import compile_with_openvino
from edgebone.engines.tensorrt import builder as building
from edgebone.engines.tensorrt import compat
from edgebone.engines.tensorrt.builder import compile_engine
from edgebone.engines.tensorrt.compile import cached_engine, compile_into_bundle
from edgebone.engines.tensorrt.provenance import differences, key_of, provenance_of
from edgebone.engines.tensorrt.settings import CompileSettings, Target, parse_target
from edgebone.engines.tensorrt.timing_cache import load_timing_cache, save_timing_cache
from support.bundles import colors_onnx, write_colors_bundle, write_meanwhile
from support.program import run_on_a_terminal

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
RTX = Target("tensorrt-rtx", ("SM86",))


def fingerprint(bundle: Path) -> str:
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(bundle.rglob("*")) if p.is_file())).hexdigest()


def run(arguments: list[object], largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("edgebone")
    limit = None if largest_file is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file,) * 2)
    return subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, check=False, preexec_fn=limit
    )


def graph(node: onnx.NodeProto, *constants: onnx.TensorProto, output: int = TensorProto.FLOAT) -> bytes:
    """A cast of the picture, and one operator on constants."""
    cast = helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT, name="cast")
    picture = helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 4, 4, 3])
    results = [helper.make_tensor_value_info("floats", TensorProto.FLOAT, [1, 4, 4, 3])]
    results.append(helper.make_tensor_value_info(node.output[0], output, None))
    made = helper.make_graph([cast, node], "g", [picture], results, list(constants))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def quantized_conv(zero_point: int = 0, kind: int = TensorProto.INT8, half: bool = False) -> bytes:
    """A convolution with a free batch, its input quantized; or one in FP16."""
    values = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float16 if half else np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT16 if half else TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["picture"], perm=[0, 3, 1, 2]),
        helper.make_node("QuantizeLinear", ["picture", "scale", "zero"], ["integers"], name="stem/quantize"),
        helper.make_node("DequantizeLinear", ["integers", "scale", "zero"], ["floats"], name="stem/dequantize"),
        helper.make_node("Conv", ["picture" if half else "floats", "weight"], ["features"], name="stem/conv"),
        helper.make_node("Cast", ["features"], ["out"], to=TensorProto.FLOAT),
    ]
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [2.0]),
        helper.make_tensor("zero", kind, [], [zero_point]),
        numpy_helper.from_array(values, "weight"),
    ]
    made = helper.make_graph(
        [node for node in nodes if not (half and "quantize" in node.name)],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 8, 6, 6])],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def of_picture(shape: list[object], *inputs: str) -> bytes:
    """The sum of inputs of one shape."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs]
    result = helper.make_tensor_value_info("o", TensorProto.FLOAT, shape)
    made = helper.make_graph([helper.make_node("Sum", list(inputs), ["o"])], "g", values, [result])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def test_an_engine_is_compiled_with_progress_for_a_dynamic_batch() -> None:
    seen: list[tuple[str, float]] = []
    made = compile_engine(
        colors_onnx((1, 4)), "colors", RTX, CompileSettings(), (1, 4), progress=lambda *step: seen.append(step)
    )
    assert len(made.content) > 1000
    assert made.seconds > 0
    assert seen
    assert all(0 <= share <= 1 for _, share in seen)


def test_an_operator_that_the_target_lacks_is_named_with_its_node_and_module() -> None:
    matrix = helper.make_tensor("m", TensorProto.FLOAT, [1, 2, 2], [0.0] * 4)
    node = helper.make_node("Det", ["m"], ["o"], name="head.boxes/node_det")
    with pytest.raises(
        EngineError,
        match=r"the bundle: tensorrt-rtx does not support node head.boxes/node_det \(Det\), of the PyTorch module "
        r"head.boxes: .*; onnxruntime and openvino run it",
    ):
        compile_engine(graph(node, matrix), "the bundle", RTX, CompileSettings())


def test_an_operator_that_fails_in_the_build_is_named_too() -> None:
    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], name=f"head/node_{output}", **attributes)

    nodes = [
        node("Cast", ["images"], "floats", to=TensorProto.FLOAT),
        node("Transpose", ["floats"], "boxes", perm=[0, 2, 1]),
        node("ReduceMax", ["floats", "axis"], "scores"),
        node("NonMaxSuppression", ["boxes", "scores", "most"], "kept"),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in (("axis", 1), ("most", 9))
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 4, 20])],
        [helper.make_tensor_value_info("kept", TensorProto.INT64, ["n", 3])],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    # TensorRT-RTX reads it, and finds only in the build that it has no kernel; a TensorRT that has one compiles it.
    with pytest.raises(
        EngineError,
        match=r"the bundle: tensorrt-rtx cannot compile node head/node_kept \(NMS\), of the PyTorch module head: .*; "
        r"onnxruntime and openvino run it",
    ):
        compile_engine(model.SerializeToString(), "the bundle", RTX, CompileSettings())


@pytest.mark.parametrize("half", [True, False])
def test_half_precision_and_symmetric_integers_are_compiled_for_a_dynamic_batch(half: bool) -> None:
    assert compile_engine(quantized_conv(half=half), "the bundle", RTX, CompileSettings(), (1, 4)).content


@pytest.mark.parametrize(
    ("zero_point", "kind"), [(0, TensorProto.UINT8), (128, TensorProto.UINT8), (5, TensorProto.INT8)]
)
def test_integers_that_it_would_compute_otherwise_are_refused(zero_point: int, kind: int) -> None:
    # TensorRT reads uint8 with a zero-point of 0 as int8, and warns: what is above 127 would be cut off.
    with pytest.raises(EngineError, match="edgebone quantize BUNDLE --target tensorrt"):
        compile_engine(quantized_conv(zero_point, kind), "the bundle", RTX, CompileSettings(), (1, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (of_picture([1, 4], "a", "b"), "it has 2 inputs, expected one"),
        (b"", "it has 0 inputs, expected one"),
        (of_picture(["batch", "height", 4], "a"), r"a \[-1, -1, 4\] has free axes besides the batch"),
    ],
    ids=["two", "none", "free height"],
)
def test_inputs_that_are_no_pictures_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        compile_engine(content, "the bundle", RTX, CompileSettings(), (1, 4))


def test_a_workspace_that_is_too_small_is_said() -> None:
    with pytest.raises(EngineError, match=r"workspace limit.*; a larger --workspace, or none, may help"):
        compile_engine(quantized_conv(half=True), "the bundle", RTX, CompileSettings(workspace_mb=1), (1, 4))


def test_a_machine_without_a_driver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Log:
        ERROR, INTERNAL_ERROR, WARNING = range(3)

    def none(logger: Any) -> None:
        # What TensorRT does there, through pybind11.
        logger.log(Log.WARNING, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(building, "import_tensorrt", lambda _: SimpleNamespace(ILogger=Log, Builder=none))
    with pytest.raises(EngineError, match=r"tensorrt cannot start: CUDA initialization failure.* needs an NVIDIA GPU"):
        compile_engine(b"", "the bundle", Target("tensorrt"), CompileSettings())


def test_asymmetric_integers_are_refused_with_the_way_out() -> None:
    constants = [
        helper.make_tensor("w", TensorProto.UINT8, [2, 2], [1, 2, 3, 4]),
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("z", TensorProto.UINT8, [], [7]),
    ]
    node = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["o"], name="weights")
    with pytest.raises(
        EngineError, match="int8 only with a zero-point of 0: edgebone quantize BUNDLE --target tensorrt"
    ):
        compile_engine(graph(node, *constants), "the bundle", RTX, CompileSettings())


def test_what_is_no_onnx_and_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(EngineError, match=r"tensorrt-rtx cannot read it|does not support"):
        compile_engine(b"no network", "the bundle", RTX, CompileSettings())
    with pytest.raises(EngineError, match="TensorRT rejects a batch of 4 to 2"):
        compile_engine(colors_onnx((1, 4)), "the bundle", RTX, CompileSettings(), (4, 2))


def test_a_callback_that_fails_is_heard() -> None:
    def fails(phase: str, share: float) -> None:
        raise ZeroDivisionError("from the callback")

    with pytest.raises(ZeroDivisionError, match="from the callback"):
        compile_engine(colors_onnx((1, 1)), "the bundle", RTX, CompileSettings(), progress=fails)


# Into the bundle


def test_engines_go_into_the_bundle_and_are_made_again_only_when_something_differs(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    (first,) = compile_into_bundle(str(bundle), RTX)
    assert first.reason == "compiled"
    before = fingerprint(bundle)
    (same,) = compile_into_bundle(str(bundle), RTX)
    assert same.reason == "up to date"
    assert fingerprint(bundle) == before
    (again,) = compile_into_bundle(str(bundle), RTX, CompileSettings(level=1))
    assert again.reason == "compiled again: level was None, is 1"
    compile_into_bundle(str(bundle), Target("tensorrt-rtx", ("SM89",)))
    with open_bundle(bundle) as opened:
        engines = opened.manifest.engines
        assert sorted(item.provenance["gpu"] for item in engines.values()) == ["SM86", "SM89"]
        for key, item in engines.items():
            assert item.file == f"engines/{key}/engine"
            assert key == key_of(item.provenance)
            assert len(opened.read(item.file)) == item.size_bytes
            assert item.provenance["onnx_sha256"] == opened.manifest.files["onnx/fp32.onnx"].sha256
    assert "fp32 for tensorrt-rtx" in run(["inspect", bundle]).stdout


def test_what_others_write_meanwhile_is_kept(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    compile_into_bundle(str(bundle), Target("tensorrt-rtx", ("SM89",)))

    compile_into_bundle(str(bundle), RTX, progress=lambda *_: write_meanwhile(bundle, "name"))
    with open_bundle(bundle) as opened:
        assert opened.manifest.name == "another"
        assert sorted(item.provenance["gpu"] for item in opened.manifest.engines.values()) == ["SM86", "SM89"]


def test_an_engine_of_a_graph_that_was_replaced_meanwhile_is_not_written(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    with pytest.raises(OutputError, match="was changed by another process meanwhile"):
        compile_into_bundle(str(bundle), RTX, progress=lambda *_: write_meanwhile(bundle, "graph"))
    with open_bundle(bundle) as opened:
        assert (opened.manifest.name, opened.manifest.engines) == ("another", {})


def test_a_full_disk_leaves_the_bundle_alone(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    before = fingerprint(bundle)
    done = run(["compile", bundle, "--target", "tensorrt-rtx:sm86"], largest_file=100_000)
    assert (done.returncode, "b.bundle cannot be written" in done.stderr) == (7, True), done.stderr
    assert fingerprint(bundle) == before
    assert list(tmp_path.iterdir()) == [bundle]


def test_any_difference_gives_another_key() -> None:
    machine = Machine.probe()
    base = provenance_of(trt, "a", RTX, CompileSettings(), (1, 4), machine)
    others = [
        provenance_of(trt, "b", RTX, CompileSettings(), (1, 4), machine),
        provenance_of(trt, "a", Target("tensorrt-rtx"), CompileSettings(), (1, 4), machine),
        provenance_of(trt, "a", RTX, CompileSettings(), (1, 8), machine),
        provenance_of(SimpleNamespace(__version__="9"), "a", RTX, CompileSettings(), (1, 4), machine),
        *(
            provenance_of(trt, "a", RTX, settings, (1, 4), machine)
            for settings in (
                CompileSettings(workspace_mb=1), CompileSettings(level=2), CompileSettings(version_compatible=True),
                CompileSettings(hardware="ampere-plus"), CompileSettings(dla_core=0),
            )
        ),
    ]  # fmt: skip
    here = Target("tensorrt")
    devices = [
        provenance_of(trt, "a", here, CompileSettings(), (1, 1), _with(machine, **change))
        for change in ({}, {"gpus": ("RTX 4090",)}, {"driver": "580.1"}, {"l4t": "36.4"}, {"arch": "aarch64"})
    ]
    keys = [key_of(item) for item in (base, *others, *devices)]
    assert len(set(keys)) == len(keys)
    assert differences(base, others[0]) == ["onnx_sha256 was a, is b"]
    assert differences(base, base) == []


def _with(machine: Machine, **changes: Any) -> Machine:
    return msgspec.structs.replace(machine, **changes)


def test_what_cannot_be_compiled_leaves_the_bundle_alone(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    before = fingerprint(bundle)
    for target, code, message in (
        ("tensorrt-rtx:sm99", 5, "does not know sm99, only sm"),
        ("tensorrt-rtx:ampere", 5, "a compute capability is written sm86, not 'ampere'"),
        ("tensorrt:sm86", 5, "tensorrt compiles only for this device"),
        ("cuda", 5, "there is no target cuda; choose tensorrt, tensorrt-rtx, openvino"),
        ("tensorrt-rtx:sm86 --hardware ampere-plus", 5, "no hardware compatibility ampere-plus; name the GPUs, as"),
        ("tensorrt-rtx:sm86 --level 6", 2, "--level"),
        (f"tensorrt-rtx:sm86 --timing-cache {tmp_path}", 2, "--timing-cache"),
        ("openvino --level 3", 2, "openvino takes"),
    ):
        done = run(["compile", bundle, "--target", *target.split()])
        assert "Traceback" not in done.stderr
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    if not Machine.probe().gpus:
        done = run(["compile", bundle, "--target", "tensorrt-rtx"])
        assert "this machine has no GPU to compile for: name one, as in --target tensorrt-rtx:sm86" in done.stderr
    done = run(["compile", bundle, "--target", "tensorrt-rtx:sm86", "--dla", "0"])
    assert (done.returncode, "has no DLA" in done.stderr) == (5, True), done.stderr
    done = run(["compile", bundle, "--target", "tensorrt-rtx:sm86", "--variant", "int8"])
    assert "there is no variant int8; there are fp32" in done.stderr
    assert run(["compile", tmp_path / "no.bundle", "--target", "tensorrt-rtx:sm86"]).returncode == 3
    assert fingerprint(bundle) == before


def test_tensorrt_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "edgebone\[tensorrt\]"'):
        compat.import_tensorrt(Target("tensorrt"))


def test_the_command_says_what_it_made(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle.zip")
    done = run(["compile", bundle, "--target", "tensorrt-rtx:sm86", "--level", "0", "--workspace", "64"])
    assert done.returncode == 0, done.stderr
    assert done.stderr == "edgebone: compiling fp32 for tensorrt-rtx:sm86\n"
    assert re.search(r"fp32 for tensorrt-rtx:sm86: compiled, [\d.]+ s, [\d.]+ MB, engines/\w{16}/engine", done.stdout)
    again = run(["compile", bundle, "--target", "tensorrt-rtx:sm86", "--level", "0", "--workspace", "64", "--json"])
    assert json.loads(again.stdout)[0]["reason"] == "up to date"


def test_openvino_is_compiled_into_the_users_cache(
    colors_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = compile_with_openvino(str(colors_bundle))
    # What is kept is the network as it was read: it serves every precision.
    assert not first[0].was_there
    assert list((tmp_path / "edgebone" / "openvino").iterdir())
    assert all(item.was_there for item in compile_with_openvino(str(colors_bundle)))
    assert "compiled for this machine" not in run_on_a_terminal("run", colors_bundle, "synthetic://64x48@30?frames=1")
    # One that is damaged costs time, nothing else.
    for path in (tmp_path / "edgebone" / "openvino").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    done = run(["run", colors_bundle, "synthetic://64x48@30?frames=3", "--engine", "openvino"])
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "edgebone")
    shown = run_on_a_terminal("run", colors_bundle, "synthetic://64x48@30?frames=1", "--engine", "openvino")
    assert f"compiled for this machine at first use; cached in {tmp_path}" in shown


# At first use


def _take(arguments: tuple[str, str]) -> tuple[float, int, bool]:
    bundle, folder = arguments
    said: list[str] = []
    with open_bundle(bundle) as opened:
        content = cached_engine(opened, "fp32", RTX, folder=Path(folder), notice=said.append)
    return time.monotonic(), len(content), bool(said)


def test_at_first_use_an_engine_is_compiled_once_and_kept(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(_take, [(str(bundle), str(tmp_path / "cache"))] * 2)
    # One of two processes compiles, and says so; the other one waits, and takes it.
    assert sorted(said for _, _, said in found) == [False, True]
    assert len({size for _, size, _ in found}) == 1
    assert not _take((str(bundle), str(tmp_path / "cache")))[2]
    compile_into_bundle(str(bundle), RTX)
    assert not _take((str(bundle), str(tmp_path / "other")))[2]


def test_an_engine_in_the_cache_that_is_damaged_or_anothers_is_not_taken(tmp_path: Path) -> None:
    first, second = write_colors_bundle(tmp_path / "a.bundle"), write_colors_bundle(tmp_path / "b.bundle", (1, 4))
    content = {path: engine_of(path, tmp_path) for path in (first, second)}
    a, b = (path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock")
    whole = a.read_bytes()
    for planted in (b"code", b"", whole[:-1], bytes([*whole[:-1], whole[-1] ^ 1]), b.read_bytes()):
        a.write_bytes(planted)
        for path, good in content.items():
            assert engine_of(path, tmp_path) == good
        assert a.read_bytes() == whole


def engine_of(bundle: Path, folder: Path) -> bytes:
    """The engine's bytes; the compiler gives the same for the same network."""
    with open_bundle(bundle) as opened:
        return cached_engine(opened, "fp32", RTX, folder=folder / "cache")


def test_an_engine_that_cannot_be_kept_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes, durable: bool) -> None:
        raise OSError(28, "No space left on device")

    bundle = write_colors_bundle(tmp_path / "b.bundle")
    monkeypatch.setattr(caches, "write_whole", full)
    said: list[str] = []
    with open_bundle(bundle) as opened:
        assert cached_engine(opened, "fp32", RTX, folder=tmp_path / "cache", notice=said.append)
    assert "the disk is full" in said[-1]
    assert said[-1].endswith("it will be compiled again")


def test_ctrl_c_ends_a_build_and_leaves_the_bundle_alone(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "b.bundle")
    before = fingerprint(bundle)
    slow = tmp_path / "slow.py"
    # The build itself is too short here to be hit: its first step is held up.
    slow.write_text(
        "import sys, time\nfrom edgebone.cli import main\nimport edgebone.engines.tensorrt.builder as builder\n"
        "made = builder._monitor\n"
        "def monitor(build, progress):\n"
        "    def wait(phase, share):\n"
        "        print('begun', flush=True)\n        time.sleep(0.3)\n"
        "    return made(build, wait)\n"
        "builder._monitor = monitor\n"
        f"sys.argv = ['edgebone', 'compile', {str(bundle)!r}, '--target', 'tensorrt-rtx:sm86']\nmain()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(slow)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    # Nothing else: a process that does not wait for its builder aborts in it.
    assert errors.splitlines()[-1] == "edgebone: interrupted"
    assert "FATAL" not in errors
    assert fingerprint(bundle) == before


# The timing cache, and TensorRT 10 and 11, which are not here


class Cache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def combine(self, other: Cache, ignore: bool) -> bool:
        self.content += b"+" + other.content
        return True

    def serialize(self) -> bytes:
        return self.content


class Config:
    """Records what is set, as TensorRT 10's configuration has it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.profiling_verbosity = self.builder_optimization_level = self.hardware_compatibility_level = None
        self.default_device_type = self.DLA_core = None
        self.cache: Cache | None = None

    def set_flag(self, flag: str) -> None:
        self.calls.append(("set", flag))

    def clear_flag(self, flag: str) -> None:
        self.calls.append(("clear", flag))

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.calls.append((pool, size))

    def create_timing_cache(self, content: bytes) -> Cache | None:
        return None if content == b"damaged" else Cache(content)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return cache.content != b"another version"

    def get_timing_cache(self) -> Cache | None:
        return self.cache


def tensorrt(major: int) -> SimpleNamespace:
    flags = ["TF32", "VERSION_COMPATIBLE", "GPU_FALLBACK"] + (["FP16", "INT8"] if major == 10 else [])
    names = lambda *words: SimpleNamespace(**{word: word for word in words})  # noqa: E731
    creation = {10: {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}, 11: {}}[major]
    return SimpleNamespace(
        __version__=f"{major}.3",
        BuilderFlag=names(*flags),
        NetworkDefinitionCreationFlag=SimpleNamespace(**creation),
        MemoryPoolType=names("WORKSPACE"),
        ProfilingVerbosity=names("DETAILED"),
        HardwareCompatibilityLevel=names("NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"),
        DeviceType=names("GPU", "DLA"),
    )


@pytest.mark.parametrize(("major", "flags"), [(10, 2), (11, 0)])
def test_networks_are_strongly_typed_in_every_version(major: int, flags: int) -> None:
    assert compat.network_flags(tensorrt(major)) == flags


@pytest.mark.parametrize("major", [10, 11])
def test_everything_asked_for_is_set(major: int) -> None:
    config = Config()
    settings = CompileSettings(64, 5, True, "ampere-plus", 1)
    compat.configure(tensorrt(major), SimpleNamespace(num_DLA_cores=2), config, Target("tensorrt"), settings)
    assert config.calls == [
        ("clear", "TF32"), ("WORKSPACE", 64 << 20), ("set", "VERSION_COMPATIBLE"), ("set", "GPU_FALLBACK"),
    ]  # fmt: skip
    assert (config.builder_optimization_level, config.hardware_compatibility_level) == (5, "AMPERE_PLUS")
    assert (config.default_device_type, config.DLA_core, config.profiling_verbosity) == ("DLA", 1, "DETAILED")


def test_what_a_device_or_version_lacks_is_said() -> None:
    bare = tensorrt(11)
    del bare.BuilderFlag.VERSION_COMPATIBLE, bare.HardwareCompatibilityLevel
    target = Target("tensorrt")
    for settings, message in (
        (CompileSettings(version_compatible=True), "has no version compatibility"),
        (CompileSettings(hardware="ampere-plus"), "has no hardware compatibility ampere-plus"),
        (CompileSettings(dla_core=2), "has 2 DLA cores"),
    ):
        with pytest.raises(EngineError, match=message):
            compat.configure(bare, SimpleNamespace(num_DLA_cores=2), Config(), target, settings)
    for wrong in ({"level": 6}, {"workspace_mb": 0}, {"hardware": "volta"}, {"dla_core": -1}):
        with pytest.raises(EngineError):
            replace(CompileSettings(), **wrong)


@pytest.mark.parametrize("what", ["damaged", "another version", "a flipped bit", "a FIFO"])
def test_a_timing_cache_that_does_not_fit_is_set_aside_and_said(what: str, tmp_path: Path) -> None:
    path = tmp_path / "t.cache"
    config = Config()
    if what == "a FIFO":
        os.mkfifo(path)
    else:
        config.cache = Cache(what.encode())
        save_timing_cache(config, path)
    if what == "a flipped bit":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    said: list[str] = []
    config = Config()
    load_timing_cache(config, path, said.append)
    assert "of another version or damaged; it was renamed to t.cache.old and is replaced" in said[0]
    assert (tmp_path / "t.cache.old").exists()
    assert config.cache is not None
    assert config.cache.content == b""


def test_what_two_builds_measured_is_merged(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "t.cache"
    config = Config()
    load_timing_cache(config, path, print)
    config.cache = Cache(b"theirs")
    save_timing_cache(config, path)
    config.cache = Cache(b"mine")
    save_timing_cache(config, path)
    load_timing_cache(config, path, print)
    assert config.cache is not None
    assert config.cache.content == b"mine+theirs"


def test_a_timing_cache_is_written_by_a_real_build(tmp_path: Path) -> None:
    path = tmp_path / "t.cache"
    compile_engine(colors_onnx((1, 1)), "colors", RTX, CompileSettings(), timing_cache=path)
    compile_engine(colors_onnx((1, 1)), "colors", RTX, CompileSettings(), timing_cache=path)
    assert path.is_file()


def test_a_timing_cache_that_cannot_be_saved_costs_no_engine(tmp_path: Path) -> None:
    path = tmp_path / "t.cache"
    said: list[str] = []
    made = compile_engine(
        colors_onnx((1, 1)), "colors", RTX, CompileSettings(), timing_cache=path,
        progress=lambda _, __: path.mkdir(exist_ok=True), notice=said.append,
    )  # fmt: skip
    assert made.content
    assert said[-1].startswith(f"{path} cannot be written")
    assert said[-1].endswith("; the engine is kept")


def test_every_name_that_is_used_is_one_of_tensorrts() -> None:
    found = [Path(folder) / "tensorrt_bindings" / "tensorrt.pyi" for folder in sys.path]
    stubs = next((path for path in found if path.is_file()), None)
    if stubs is None:
        pytest.skip("tensorrt-stubs is not installed (make test installs it)")
    text = stubs.read_text()
    folder = Path(compat.__file__).parent
    source = "".join((folder / name).read_text() for name in ("compat.py", "builder.py", "timing_cache.py"))
    used = set(re.findall(r"\btrt\.(?:\w+\.)*(\w+)", source)) | set(
        re.findall(r"\b(?:config|builder|parser|network|profile|error|value|cache|layer)\.(\w+)", source)
    )
    ours = {"name", "strip", "is_set", "capabilities", "shape", "content"}
    # TensorRT-RTX's own, which compiles for GPUs that are not here; a module's version is in no stub.
    rtx = {"ComputeCapability", "num_compute_capabilities", "set_compute_capability", "__version__"}
    missing = {name for name in used - ours - rtx if not re.search(rf"\b{re.escape(name)}\b", text)}
    assert {"build_serialized_network", "create_network", "progress_monitor"} <= used
    assert not missing
    assert all(hasattr(trt, name) or any(hasattr(x, name) for x in (trt.IBuilderConfig,)) for name in rtx)


def test_targets_are_read() -> None:
    assert parse_target("tensorrt-rtx:sm86,SM89") == Target("tensorrt-rtx", ("SM86", "SM89"))
    assert str(parse_target("tensorrt-rtx:sm86")) == "tensorrt-rtx:sm86"
