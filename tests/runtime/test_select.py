"""Which engine is chosen, on machines made up for the purpose."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import msgspec
import pytest
from conftest import GREEN, picture, write_colors_bundle
from helpers import needs

from edgebone.core.bundle import open_bundle
from edgebone.core.errors import EngineError, NoEngineError
from edgebone.core.machine import Machine
from edgebone.core.tensors import TensorSpec
from edgebone.engines import select
from edgebone.engines.select import Candidate, Fit, Reject, candidates, check, choose, open_engine, open_first

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
JETSON = like(
    arch="aarch64", jetson="NVIDIA Jetson Orin Nano", l4t="36.4.0", packages={"onnxruntime": "1.19"},
    onnxruntime_providers=("cuda",),
)  # fmt: skip


def options(engine: str = "auto", precision: str = "fp32") -> list[Candidate]:
    names = select.ENGINES if engine == "auto" else (engine,)
    return [Candidate(name, precision, "fp32") for name in names]


@pytest.mark.parametrize(
    ("machine", "order"),
    [
        (X86, ["openvino", "onnxruntime"]),
        (ARM, ["onnxruntime", "openvino"]),
        (GPU, ["onnxruntime-cuda", "openvino", "onnxruntime"]),
        (JETSON, ["onnxruntime-cuda", "onnxruntime"]),
        (like(packages={"onnxruntime": "1.20"}), ["onnxruntime"]),
        (like(packages={"openvino": "2025.0"}), ["openvino"]),
    ],
    ids=["x86", "arm", "gpu", "jetson", "onnxruntime only", "openvino only"],
)
def test_the_best_engine_of_a_machine_comes_first(machine: Machine, order: list[str]) -> None:
    for given in (options(), options()[::-1]):
        choice = choose(given, machine)
        assert [fit.candidate.engine for fit in choice.fits] == order
        assert len(choice.fits) + len(choice.rejects) == 3
        assert str(choice).count("\n") == 2


@pytest.mark.parametrize(
    ("engine", "precision", "machine", "reason"),
    [
        ("openvino", "fp32", like(packages={}), 'pip install "edgebone[openvino]"'),
        ("onnxruntime", "fp32", like(packages={}), 'pip install "edgebone[cpu]"'),
        ("onnxruntime-cuda", "fp32", like(packages={}), 'pip install "edgebone[gpu]"'),
        ("onnxruntime-cuda", "fp32", X86, "no NVIDIA GPU"),
        ("onnxruntime-cuda", "fp32", like(gpus=("RTX",)), "has no CUDA provider"),
        ("onnxruntime", "bf16", AMX, "openvino has bf16"),
        ("openvino", "bf16", X86, "does not compute in BF16"),
        ("openvino", "bf16", ARM, "does not compute in BF16"),
    ],
)
def test_a_candidate_that_does_not_fit_says_why(engine: str, precision: str, machine: Machine, reason: str) -> None:
    verdict = check(Candidate(engine, precision, "fp32"), machine)
    assert isinstance(verdict, Reject)
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("engine", "precision", "machine"),
    [
        ("openvino", "bf16", AMX), ("openvino", "auto", X86), ("onnxruntime", "auto", X86),
        ("openvino", "bf16", like(arch="aarch64", cpu_features=("asimd", "bf16"))),
    ],
)  # fmt: skip
def test_a_candidate_that_fits_says_so(engine: str, precision: str, machine: Machine) -> None:
    assert isinstance(check(Candidate(engine, precision, "fp32"), machine), Fit)


def test_where_nothing_fits_there_is_a_line_for_each_candidate() -> None:
    with pytest.raises(NoEngineError) as caught:
        choose(options(), like(packages={}))
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    for engine, line in zip(select.ENGINES, lines[1:], strict=True):
        assert line.startswith(f"  {engine} fp32: ")


def test_unknown_words_are_refused_with_those_that_exist(colors_bundle: Path) -> None:
    with open_bundle(colors_bundle) as bundle:
        with pytest.raises(EngineError, match="no engine tensorflow; choose auto, onnxruntime-cuda, openvino"):
            candidates(bundle.manifest, "tensorflow")
        with pytest.raises(EngineError, match="no precision int3; choose fp32, bf16, fp16, int8"):
            candidates(bundle.manifest, precision="int3")
        assert candidates(bundle.manifest, "openvino", "bf16") == [Candidate("openvino", "bf16", "fp32")]


def test_the_probe_knows_what_can_be_imported_here() -> None:
    machine = Machine.probe()
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
    colors_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgebone
    import edgebone.engines.openvino as module

    def fail(*_: object) -> None:
        raise EngineError("openvino cannot load the network: no such operator")

    monkeypatch.setattr(module, "_compile", fail)
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
    with open_bundle(path) as bundle:
        (path / "onnx/fp32.onnx").write_bytes(b"damaged after the check")
        with pytest.raises(NoEngineError) as caught:
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
