"""The engine's row. It is read whenever edgebone chooses among engines: nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgebone.engines.spec import Candidate, EngineSpec, Fit, Reject

if TYPE_CHECKING:
    from edgebone.core.machine import Machine
    from edgebone.core.manifest import Variant


def check(candidate: Candidate, machine: Machine, variant: Variant | None) -> Fit | Reject:
    """Whether the candidate runs on the machine, and why."""
    if "onnx" not in machine.packages:
        return Reject(candidate, "onnx is not installed: pip install onnx")
    return Fit(candidate, f"onnx {machine.packages['onnx']}, which is exact and slow")


SPEC = EngineSpec(
    name="onnx-reference",
    packages={"onnx": ("onnx",)},
    on_cpu=True,
    # Behind every engine of edgebone's own.
    rank=lambda machine: 1000,
    check=check,
    open="edgebone_onnx_reference.engine:open_reference",
)
