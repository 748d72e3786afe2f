"""Which engine is chosen, on machines made up for the purpose."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import onnx
import pytest

from edgebone.core.bundle import Bundle, open_bundle
from edgebone.core.bundle_writing import write_bundle
from edgebone.core.errors import EngineError, NoEngineError
from edgebone.core.machine import Machine
from edgebone.core.manifest import Parity, Variant
from edgebone.core.tensors import TensorSpec
from edgebone.engines.opening import open_engine, open_first, open_model
from edgebone.engines.select import candidates, check, choose
from edgebone.engines.spec import Candidate, Fit, Reject
from edgebone.engines.table import names, this_machine
from edgebone.engines.tensorrt import engine as tensorrt_engine
from edgebone.engines.tensorrt import plan as tensorrt_plan
from edgebone.engines.tensorrt.settings import Target
from support.bundles import colors_onnx, write_colors_bundle
from support.cuda_double import CudaDouble, TensorRTDouble, make_plan
from support.machine import needs
from support.pictures import GREEN, picture

BOTH = {"onnxruntime": "1.20", "openvino": "2025.0"}
X86 = Machine(
    system="Linux 6.1", arch="x86_64", cpu="Xeon", cores=2, cpu_features=("avx2", "avx512f"), memory_gb=8.0,
    gpus=(), driver="", jetson="", l4t="", python="3.11", packages=BOTH, onnxruntime_providers=(),
)  # fmt: skip


def like(**changes: object) -> Machine:
    return msgspec.structs.replace(X86, **changes)


ARM = like(arch="aarch64", cpu="Cortex-A76", cpu_features=("asimd",))
AMX = like(cpu_features=("avx512f", "avx512_bf16", "amx_bf16"))
GPU = like(gpus=("NVIDIA RTX A2000",), onnxruntime_providers=("cuda", "tensorrt"))
NVIDIA = {"tensorrt": "10.13", "tensorrt_rtx": "1.7", "cuda.bindings": "13.0"}
TENSORRT = msgspec.structs.replace(GPU, packages={**BOTH, **NVIDIA})
JETSON = like(
    arch="aarch64", jetson="NVIDIA Jetson Orin Nano", l4t="36.4.0", packages={"onnxruntime": "1.19"},
    onnxruntime_providers=("cuda",),
)  # fmt: skip
JETPACK = msgspec.structs.replace(JETSON, packages={"onnxruntime": "1.19", **NVIDIA})


def options(engine: str = "auto", precision: str = "fp32") -> list[Candidate]:
    wanted = names() if engine == "auto" else (engine,)
    return [Candidate(name, precision, "fp32") for name in wanted]


@pytest.mark.parametrize(
    ("machine", "order"),
    [
        (X86, ["openvino", "onnxruntime"]),
        (ARM, ["onnxruntime", "openvino"]),
        (GPU, ["onnxruntime-cuda", "openvino", "onnxruntime"]),
        (TENSORRT, ["tensorrt", "tensorrt-rtx", "onnxruntime-tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime"]),
        (JETSON, ["onnxruntime-cuda", "onnxruntime"]),
        (JETPACK, ["tensorrt", "onnxruntime-cuda", "onnxruntime"]),
        (like(packages={"onnxruntime": "1.20"}), ["onnxruntime"]),
        (like(packages={"openvino": "2025.0"}), ["openvino"]),
    ],
    ids=["x86", "arm", "gpu", "gpu with tensorrt", "jetson", "jetpack", "onnxruntime only", "openvino only"],
)
def test_the_best_engine_of_a_machine_comes_first(machine: Machine, order: list[str]) -> None:
    for given in (options(), options()[::-1]):
        choice = choose(given, machine)
        assert [fit.candidate.engine for fit in choice.fits] == order
        assert len(choice.fits) + len(choice.rejects) == len(names())
        assert str(choice).count("\n") == len(names()) - 1


@pytest.mark.parametrize(
    ("engine", "precision", "machine", "reason"),
    [
        ("openvino", "fp32", like(packages={}), 'pip install "edgebone[openvino]"'),
        ("onnxruntime", "fp32", like(packages={}), 'pip install "edgebone[cpu]"'),
        ("onnxruntime-cuda", "fp32", like(packages={}), 'pip install "edgebone[gpu]"'),
        ("onnxruntime-cuda", "fp32", X86, "no NVIDIA GPU"),
        ("onnxruntime-cuda", "fp32", like(gpus=("RTX",)), "has no CUDA provider"),
        ("onnxruntime-tensorrt", "fp32", X86, "no NVIDIA GPU"),
        ("onnxruntime-tensorrt", "fp32", like(gpus=("RTX",)), "has no TensorRT provider"),
        ("onnxruntime-tensorrt", "fp32", GPU, 'pip install "edgebone[tensorrt]"'),
        ("tensorrt", "fp32", like(packages={**BOTH, **NVIDIA}), "no NVIDIA GPU"),
        ("tensorrt", "fp32", GPU, 'tensorrt is not installed: pip install "edgebone[tensorrt]"'),
        ("tensorrt", "fp32", JETSON, "tensorrt is not installed: it comes with JetPack"),
        ("tensorrt", "fp32", like(gpus=("RTX",), packages={"tensorrt": "10.3"}), 'pip install "cuda-python>=12"'),
        ("tensorrt", "bf16", TENSORRT, "in fp32"),
        ("tensorrt-rtx", "fp32", GPU, 'tensorrt_rtx is not installed: pip install "edgebone[tensorrt-rtx]"'),
        ("tensorrt-rtx", "fp32", JETPACK, "desktop GPUs from Turing"),
        ("onnxruntime", "bf16", AMX, "openvino supports bf16"),
        ("openvino", "bf16", X86, "has no native BF16"),
        ("openvino", "bf16", ARM, "has no native BF16"),
    ],
)
def test_a_candidate_that_does_not_fit_says_why(engine: str, precision: str, machine: Machine, reason: str) -> None:
    verdict = check(Candidate(engine, precision, "fp32"), machine)
    assert isinstance(verdict, Reject)
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("engine", "precision", "machine"),
    [
        ("openvino", "bf16", AMX),
        ("openvino", "bf16", like(arch="aarch64", cpu_features=("asimd", "bf16"))),
        ("tensorrt", "fp32", like(gpus=("RTX",), packages={"tensorrt_lean": "10.3", "cuda.bindings": "12.6"})),
    ],
)  # fmt: skip
def test_a_candidate_that_fits_says_so(engine: str, precision: str, machine: Machine) -> None:
    assert isinstance(check(Candidate(engine, precision, "fp32"), machine), Fit)


def test_where_nothing_fits_there_is_a_line_for_each_candidate() -> None:
    with pytest.raises(NoEngineError) as caught:
        choose(options(), like(packages={}))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + len(names())
    for engine, line in zip(names(), lines[1:], strict=True):
        assert line.startswith(f"  {engine} fp32: ")


def test_unknown_words_are_refused_with_those_that_exist(colors_bundle: Path) -> None:
    with open_bundle(colors_bundle) as bundle:
        with pytest.raises(EngineError, match=r"no engine tensorflow; did you mean tensorrt\? choose auto, tensorrt, "):
            candidates(bundle.manifest, "tensorflow")
        with pytest.raises(EngineError, match=r"no precision int3; did you mean int8 or int4\? choose fp32, bf16"):
            candidates(bundle.manifest, precision="int3")
        assert candidates(bundle.manifest, "openvino", "bf16") == [Candidate("openvino", "bf16", "fp32")]


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp8"])
def test_a_variant_made_for_tensorrt_is_taken_by_it_alone(precision: str) -> None:
    variant = Variant("a.onnx", precision, (1, 1), Parity(0.0, 0.0, 1.0, 1), engines=("tensorrt", "tensorrt-rtx"))
    options = [Candidate(name, precision, "a") for name in names()]
    choice = choose(options, TENSORRT, {"a": variant})
    assert [fit.candidate.engine for fit in choice.fits] == ["tensorrt", "tensorrt-rtx"]
    assert all("is for tensorrt and tensorrt-rtx" in reject.reason for reject in choice.rejects)


@pytest.fixture
def gpu_machine(monkeypatch: pytest.MonkeyPatch) -> CudaDouble:
    """TensorRT and a GPU, both doubles; compiling is no more than wrapping the network."""
    gpu = CudaDouble()
    monkeypatch.setattr(tensorrt_engine, "CudaBindings", lambda: gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", TensorRTDouble(gpu))
    monkeypatch.setattr(Machine, "probe", lambda *_: TENSORRT)

    def compiled(bundle: Bundle, variant: str, target: Target, *, notice: Callable[[str], None]) -> bytes:
        notice(f"compiling {variant} for {target}")
        item = bundle.manifest.variants[variant]
        shapes = [[size, 32, 32, 3] for size in (item.batch[0], item.batch[1], item.batch[1])]
        return make_plan(bundle.read(item.file), [{"images": shapes}])

    monkeypatch.setattr(tensorrt_plan, "cached_engine", compiled)
    return gpu


@needs("onnxruntime")
@pytest.mark.parametrize("batch", [(1, 1), (1, 4)])
def test_on_a_machine_with_a_gpu_a_bundle_is_loaded_into_tensorrt(
    batch: tuple[int, int], tmp_path: Path, gpu_machine: CudaDouble, caplog: pytest.LogCaptureFixture
) -> None:
    import edgebone

    path = write_colors_bundle(tmp_path / "a.bundle", batch)
    with edgebone.load(path) as model:
        assert (model.engine.name, model.candidate.engine, model.failures) == ("tensorrt", "tensorrt", ())
        assert model(picture(GREEN)).label == "green"
        assert [result.label for result in model([picture(GREEN)] * 5)] == ["green"] * 5
    assert [record.getMessage() for record in caplog.records] == ["compiling fp32 for tensorrt"]
    assert (gpu_machine.problems, gpu_machine.alive) == ([], {})


@needs("onnxruntime")
def test_where_tensorrt_does_not_open_another_engine_does(
    tmp_path: Path, gpu_machine: CudaDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgebone

    def refused(*_: object, **__: object) -> bytes:
        raise EngineError("tensorrt cannot compile node a (NMS)")

    monkeypatch.setattr(tensorrt_plan, "cached_engine", refused)
    with edgebone.load(write_colors_bundle(tmp_path / "a.bundle")) as model:
        assert model.engine.name in ("openvino", "onnxruntime")
        assert model.failures[0] == "tensorrt fp32: tensorrt cannot compile node a (NMS)"
        assert model(picture(GREEN)).label == "green"


@needs("tensorrt_rtx")
@pytest.mark.skipif(bool(Machine.probe().gpus), reason="a GPU is here")
def test_an_onnx_file_is_compiled_for_the_gpu_that_is_here() -> None:
    with pytest.raises(EngineError, match="no GPU to compile for"):
        open_model(Candidate("tensorrt-rtx", "fp32", ""), colors_onnx((1, 1)), (1, 1))


def test_type_stubs_are_not_taken_for_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt_lean").mkdir()
    (tmp_path / "tensorrt_lean" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    packages = this_machine().packages
    assert "tensorrt" not in packages
    assert packages["tensorrt_lean"] == "unknown version"


def test_the_probe_knows_what_can_be_imported_here() -> None:
    machine = this_machine()
    for name in ("numpy", "edgebone", "onnxruntime", "openvino"):
        try:
            version = importlib.metadata.version(name)
        except ImportError:
            assert name not in machine.packages
        else:
            assert machine.packages[name] == version
    assert machine.cores >= 1
    assert msgspec.json.decode(msgspec.json.encode(machine), type=Machine) == machine


@needs("onnxruntime")
@needs("openvino")
def test_an_engine_that_fails_to_open_makes_way_for_the_next_with_a_note(
    colors_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgebone
    import edgebone.engines.openvino.engine as module

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(*_: object) -> None:
        raise EngineError("openvino cannot load the network: no such operator")

    monkeypatch.setattr(module, "_read", fail)
    with edgebone.load(colors_bundle) as model:
        assert model.engine.name == model.candidate.engine == "onnxruntime"
        assert model.failures == ("openvino fp32: openvino cannot load the network: no such operator",)
        assert model(picture(GREEN)).label == "green"
    with pytest.raises(NoEngineError, match=r"openvino fp32: .*no such operator"):
        edgebone.load(colors_bundle, engine="openvino")


@needs("onnxruntime")
@needs("openvino")
def test_where_every_engine_fails_to_open_each_one_is_listed(tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle")
    model = onnx.load(path / "onnx/fp32.onnx")
    model.graph.node[0].op_type = "NobodyKnowsIt"
    with open_bundle(path) as bundle:
        files = {name: bundle.read(name) for name in bundle.manifest.files}
        manifest = bundle.manifest
    write_bundle(path, manifest, {**files, "onnx/fp32.onnx": model.SerializeToString()}, overwrite=True)
    with open_bundle(path) as bundle, pytest.raises(NoEngineError) as caught:
        open_first(bundle, choose(options(), X86))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["  openvino fp32", "  onnxruntime fp32"]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "changes",
    [
        {"input": TensorSpec("pictures", "uint8", (1, 32, 32, 3))},
        {"input": TensorSpec("images", "uint8", (1, 64, 32, 3))},
        {"input": TensorSpec("images", "float32", (1, 32, 32, 3))},
        {"outputs": (TensorSpec("logits", "float16", (1, 4)),)},
        {"outputs": (TensorSpec("logits", "float32", (1, 4, 1)),), "heads": {}},
    ],
)
def test_a_network_that_is_not_what_the_manifest_says_is_refused(
    tmp_path: Path, changes: dict[str, object], engine: str
) -> None:
    pytest.importorskip(engine)
    from edgebone.core.manifest import Head

    if "heads" in changes:
        changes = {**changes, "heads": {"x": Head("features@1", ("logits",), (), {"strides": [1]})}}
    path = write_colors_bundle(tmp_path / "a.bundle", **changes)
    with open_bundle(path) as bundle, pytest.raises(EngineError, match=r"its manifest says .*export the bundle again"):
        open_engine(bundle, Candidate(engine, "fp32", "fp32"))
