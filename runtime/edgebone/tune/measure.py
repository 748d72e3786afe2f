"""Measures one candidate's speed in its own process: the engine alone, on the bundle's golden input."""

from __future__ import annotations

import collections
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import msgspec

from edgebone.core.bundle import open_bundle
from edgebone.core.errors import EdgeboneError
from edgebone.core.golden import read_golden
from edgebone.core.own_process import run_in_own_process
from edgebone.core.timing import percentiles
from edgebone.engines.batches import filled
from edgebone.engines.opening import open_engine
from edgebone.engines.protocol import AsyncEngine, Outputs
from edgebone.engines.spec import Candidate
from edgebone.preprocess import Pixels

_LEAST_RUNS = 8


class Speed(msgspec.Struct, frozen=True):
    """A candidate's speed.

    Attributes:
        p50_ms: Median latency of sequential runs.
        p99_ms: Its 99th percentile.
        fps: Pictures per second, with as many runs in flight as the engine benefits from.
        batch: Pictures per run.
    """

    p50_ms: float
    p99_ms: float
    fps: float
    batch: int


@dataclass(frozen=True)
class Failed:
    """A candidate that should fit but did not run; ``reason`` says why."""

    reason: str


def measure_in_own_process(bundle: str, candidate: Candidate, seconds: float) -> Speed | Failed:
    """Measure in a fresh process, so that candidates do not share thread pools and memory.

    Args:
        bundle: The bundle's path.
        candidate: The candidate.
        seconds: Time for latency, and the same again for throughput.
    """
    described = msgspec.json.encode(candidate).decode()
    printed, why = run_in_own_process("edgebone.tune.measure", bundle, described, str(seconds))
    if why:
        return Failed(why)
    try:
        return msgspec.json.decode(printed, type=Speed)
    except msgspec.MsgspecError as error:
        return Failed(f"the measuring process printed no figures ({error})")


def measure(bundle: str, candidate: Candidate, seconds: float) -> Speed:
    """Measure a candidate in this process.

    Raises:
        EdgeboneError: The bundle or the engine cannot be opened, or fails.
    """
    with open_bundle(bundle) as opened, open_engine(opened, candidate, cache=False) as engine:
        low = opened.manifest.variants[candidate.variant].batch[0]
        batch = candidate.batch or low
        buffer = filled(read_golden(opened).network_input, batch)
        name = opened.manifest.input.name
        _in_flight(engine, name, buffer, seconds / 4)
        runs = _one_by_one(engine, name, buffer, seconds)
        latency = percentiles(runs)
        # With one run in flight it is the same loop, which need not run again.
        fps = 1e9 * batch * len(runs) / sum(runs)
        if engine.in_flight > 1:
            fps = batch * _in_flight(engine, name, buffer, seconds)
        return Speed(latency.p50_ms, latency.p99_ms, round(fps, 2), batch)


def _one_by_one(engine: AsyncEngine, name: str, buffer: Pixels, seconds: float) -> list[int]:
    times: list[int] = []
    end = time.monotonic() + seconds
    while len(times) < _LEAST_RUNS or time.monotonic() < end:
        started = time.monotonic_ns()
        engine.run({name: buffer})
        times.append(time.monotonic_ns() - started)
    return times


def _in_flight(engine: AsyncEngine, name: str, buffer: Pixels, seconds: float) -> float:
    """Return runs per second, with as many in flight as the engine benefits from."""
    waiting: collections.deque[Future[Outputs]] = collections.deque()
    started = time.monotonic()
    done = 0
    while done < _LEAST_RUNS or time.monotonic() - started < seconds:
        while len(waiting) < engine.in_flight:
            waiting.append(engine.submit({name: buffer}))
        waiting.popleft().result()
        done += 1
    elapsed_s = time.monotonic() - started
    for future in waiting:
        future.result()
    return done / elapsed_s


def main(arguments: Sequence[str]) -> None:
    """Measure as requested by the parent process, and print the figures as JSON."""
    bundle, candidate, seconds = arguments
    try:
        speed = measure(bundle, msgspec.json.decode(candidate, type=Candidate), float(seconds))
    except EdgeboneError as error:
        sys.exit(" ".join(str(error).splitlines()))
    sys.stdout.buffer.write(msgspec.json.encode(speed))


if __name__ == "__main__":
    main(sys.argv[1:])
