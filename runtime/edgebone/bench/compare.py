"""Every engine that fits, one after the other, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import msgspec

from edgebone.bench.measure import Measured
from edgebone.core.errors import EngineError
from edgebone.engines.select import Candidate


@dataclass(frozen=True)
class Failed:
    """An engine that fits by its description, but did not run."""

    engine: str
    precision: str
    reason: str


def measure_apart(bundle: str, candidate: Candidate, frame_hw: tuple[int, int], seconds: float) -> Measured | Failed:
    """Measure one candidate in a fresh process: peak memory and thread pools are then its own.

    Raises:
        EngineError: The process printed what is not a measurement.
    """
    command = [sys.executable, "-m", "edgebone.bench.measure", bundle, msgspec.json.encode(candidate).decode()]
    command += [str(frame_hw[0]), str(frame_hw[1]), str(seconds)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
        return Failed(candidate.engine, candidate.precision, lines[-1].split(": ", 1)[-1])
    try:
        return msgspec.json.decode(done.stdout, type=Measured)
    except msgspec.MsgspecError as error:
        raise EngineError(f"{candidate}: the measuring process printed no figures ({error})") from error
