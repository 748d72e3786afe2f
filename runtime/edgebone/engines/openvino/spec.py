"""OpenVINO's row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgebone.engines.spec import Candidate, EngineSpec, Fit, Reject, TritonBackend, only_own

if TYPE_CHECKING:
    from edgebone.core.machine import Machine
    from edgebone.core.manifest import Variant

_NATIVE_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def _rank(machine: Machine) -> int:
    # On x86 it is at least as fast as onnxruntime on most networks; on ARM onnxruntime is faster.
    return 70 if machine.arch in ("aarch64", "arm64") else 50


def _precisions(variant: Variant | None) -> tuple[str, ...]:
    (own,) = only_own(variant)
    return (own, *{"fp32": ("bf16",), "int8": ("int8+bf16",)}.get(own, ()))


def _check(candidate: Candidate, machine: Machine, variant: Variant | None) -> Fit | Reject:
    if "openvino" not in machine.packages:
        return Reject(candidate, 'openvino is not installed: pip install "edgebone[openvino]"')
    if candidate.precision.endswith("bf16") and not _NATIVE_BF16 & set(machine.cpu_features):
        return Reject(candidate, "this processor has no native BF16, so FP32 is faster")
    agreement = None if variant is None else variant.reduced.get(candidate.precision)
    proof = "" if agreement is None else f"; {candidate.precision} has {agreement}"
    return Fit(candidate, f"openvino {machine.packages['openvino']} on {machine.arch}{proof}")


OPENVINO = EngineSpec(
    name="openvino",
    packages={"openvino": ("openvino",)},
    on_cpu=True,
    rank=_rank,
    check=_check,
    open="edgebone.engines.openvino.engine:open_openvino",
    precisions=_precisions,
    computes="computes in fp32 or bf16, and quantized graphs in int8",
    compile="edgebone.engines.openvino.compile:compile_target",
    may_skip_file=True,
    dialects=("openvino",),
    triton=TritonBackend("KIND_CPU", pads=True),
    aliases=("cpu", "intel", "ov"),
)
