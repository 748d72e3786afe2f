"""Lists the ways to run a bundle that are worth measuring. Pure: everything is passed in."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from edgebone.core.machine import Machine
from edgebone.core.manifest import Manifest, Variant
from edgebone.engines.select import HINTS, check, precisions_of
from edgebone.engines.spec import Candidate, Fit, Reject
from edgebone.engines.table import names

Goal = Literal["latency", "throughput"]
GOALS: tuple[Goal, ...] = ("latency", "throughput")
BASELINE = Candidate("onnxruntime", "fp32", "fp32")
_BATCHES = (1, 2, 4, 8, 16, 32)


def candidates_to_measure(
    manifest: Manifest, machine: Machine, goal: Goal, cameras: int | None = None
) -> tuple[list[Candidate], list[Reject]]:
    """Return the candidates that fit, the baseline (plain FP32 onnxruntime) first, and those that do not.

    For latency: every engine, variant and precision, with all cores and with half of them. For throughput: also with
    several runs in flight, and with every batch that the variant allows.

    Args:
        manifest: The bundle's manifest.
        machine: The machine.
        goal: The goal.
        cameras: The number of cameras served; a batch cannot be larger, since each delivers one frame at a time. None
            for recordings, whose frames are all available at once.
    """
    fits: list[Candidate] = []
    rejects: list[Reject] = []
    for engine in names():
        for name, variant in manifest.variants.items():
            for precision in precisions_of(engine, variant):
                verdict = check(Candidate(engine, precision, name), machine, variant)
                if isinstance(verdict, Fit):
                    fits += _settings(verdict.candidate, variant, machine, goal, cameras)
                else:
                    rejects.append(verdict)
    if BASELINE in fits:
        fits.remove(BASELINE)
        fits.insert(0, BASELINE)
    return fits, rejects


def _settings(plain: Candidate, variant: Variant, machine: Machine, goal: Goal, cameras: int | None) -> list[Candidate]:
    batch = None if variant.batch[0] == variant.batch[1] else variant.batch[0]
    if goal == "latency":
        # A free batch is loaded for one picture, so that engines know every shape.
        found = [plain] if batch is None or plain == BASELINE else []
        found += [replace(plain, batch=batch)]
        if machine.cores > 1:
            found += [replace(plain, batch=batch, threads=machine.cores // 2)]
        return list(dict.fromkeys(found))
    most = variant.batch[1] if cameras is None else min(variant.batch[1], cameras)
    sizes = [size for size in _BATCHES if variant.batch[0] <= size <= most] or [variant.batch[0]]
    found = [plain] if batch is None or plain == BASELINE else []
    found += [replace(plain, hint=hint, batch=None if batch is None else size) for hint in HINTS for size in sizes]
    return list(dict.fromkeys(found))
