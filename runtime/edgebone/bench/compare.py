"""Measures every engine that fits, one after the other, each in its own process."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edgebone.bench.measure import Measured
from edgebone.core.errors import EngineError
from edgebone.core.own_process import run_in_own_process
from edgebone.engines.spec import Candidate


@dataclass(frozen=True)
class Failed:
    """An engine that should fit but did not run."""

    engine: str
    precision: str
    reason: str


def measure_in_own_process(
    bundle: str, candidate: Candidate, frame_hw: tuple[int, int], seconds: float
) -> Measured | Failed:
    """Measure one candidate in a fresh process, so that peak memory and thread pools are its own.

    Raises:
        EngineError: The process did not print a measurement.
    """
    sizes = (str(frame_hw[0]), str(frame_hw[1]), str(seconds))
    printed, why = run_in_own_process("edgebone.bench.measure", bundle, msgspec.json.encode(candidate).decode(), *sizes)
    if why:
        return Failed(candidate.engine, candidate.precision, why.split(": ", 1)[-1])
    try:
        return msgspec.json.decode(printed, type=Measured)
    except msgspec.MsgspecError as error:
        raise EngineError(f"{candidate}: the measuring process printed no figures ({error})") from error
