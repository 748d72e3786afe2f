"""Measures the candidates that fit, prunes early, and writes the winner into the bundle as this machine's plan."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from edgebone.core.bundle import Bundle, open_bundle
from edgebone.core.bundle_writing import Update, check_unchanged, update_bundle
from edgebone.core.errors import EngineError, SourceError
from edgebone.core.machine import Machine
from edgebone.core.manifest import Accuracy, Manifest, Plan
from edgebone.core.quiet import Disturbed, Watch
from edgebone.engines.opening import open_engine
from edgebone.engines.spec import Candidate
from edgebone.engines.table import this_machine
from edgebone.evaluate.evaluation_set import read_evaluation
from edgebone.evaluate.rehearsal import Rehearsal
from edgebone.tune.measure import Failed, Speed, measure_in_own_process
from edgebone.tune.space import BASELINE, GOALS, Goal, candidates_to_measure

# After a short measurement, candidates this much slower than the fastest are dropped, and settings of one engine,
# variant and precision this much slower than its fastest one.
_PRUNE, _PRUNE_SETTING = 1.5, 1.1
_SHORT_S = 0.4
# The number of rounds of the finalists, who take turns, so that a busy moment of the machine affects all alike.
_TURNS = 3
# A gain that the next run may reverse does not count.
_LEAST_GAIN = 1.02


@dataclass(frozen=True)
class Entry:
    """One candidate with what was measured.

    Attributes:
        candidate: The candidate.
        speed: Its speed.
        accuracy: Its accuracy; None if it was dropped before.
        pruned: Whether it was too slow for a second measurement.
        holds: Whether it meets the accuracy budget; False if not counted.
        best: Whether no other is both faster and more accurate.
    """

    candidate: Candidate
    speed: Speed
    accuracy: Accuracy | None = None
    pruned: bool = False
    holds: bool = False
    best: bool = False


@dataclass(frozen=True)
class Tuned:
    """The result of tuning.

    Attributes:
        machine: The machine.
        goal: The goal.
        plan: The plan written into the bundle.
        kept_baseline: Whether the plan is plain FP32 onnxruntime, since nothing better meets the budget.
        entries: Everything measured, fastest first.
        failed: One line per candidate that did not run or does not fit.
    """

    machine: Machine
    goal: Goal
    plan: Plan
    kept_baseline: bool
    entries: tuple[Entry, ...]
    failed: tuple[str, ...]


def tune(
    path: str,
    evaluate: Path,
    *,
    goal: Goal = "latency",
    max_drop: float = 1.0,
    cameras: int | None = None,
    seconds: float = 1.0,
    head: str | None = None,
    images: Path | None = None,
    machine: Machine | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Find the fastest way to run a bundle on this machine, and write it into the bundle.

    Args:
        path: The bundle.
        evaluate: Labels as for ``edgebone eval``, or pictures alone (agreement with FP32).
        goal: ``latency``: the least median time of one run; ``throughput``: the most frames per second.
        max_drop: Points of 100 that may be lost against FP32.
        cameras: The number of cameras served, which limits the batch; None for recordings.
        seconds: The time per turn of each finalist.
        head: The head that the labels are for.
        images: The pictures of boxes and areas, if they are not beside their labels.
        machine: The machine; None for this one.
        progress: Called with a line per step.

    Raises:
        SourceError: The evaluation data does not exist.
        EngineError: Plain FP32 onnxruntime, the baseline, does not run.
        OutputError: The bundle cannot be written.
    """
    if goal not in GOALS:
        raise EngineError(f"there is no goal {goal}; choose {' or '.join(GOALS)}")
    if not evaluate.exists():
        raise SourceError(f"{evaluate}: no such file or folder to evaluate on")
    machine = machine or this_machine()
    with open_bundle(path) as bundle:
        data = read_evaluation(evaluate, bundle.manifest, head, images)
        fits, rejects = candidates_to_measure(bundle.manifest, machine, goal, cameras)
        failed = [f"{reject.candidate}: {reject.reason}" for reject in rejects]
        if not fits or fits[0] != BASELINE:
            reasons = [line for line in failed if line.startswith("onnxruntime fp32")]
            raise EngineError(
                f"{path}: plans are compared with plain FP32 onnxruntime, which does not run here: "
                f"{reasons[0] if reasons else 'the bundle has no FP32 variant'}"
            )
        watch = Watch()
        looked = _look(path, fits, failed, progress)
        entries = _prune(looked, goal)
        entries = _race(path, entries, seconds, goal, progress, failed)
        disturbed = watch.until_now()
        with open_engine(bundle, BASELINE, cache=False) as baseline:
            progress(f"preparing {len(data.pictures)} pictures")
            rehearsal = Rehearsal(bundle.manifest, data, baseline)
        entries = _judge(bundle, rehearsal, entries, max_drop, goal, progress)
        entries = _mark_best(entries, goal)
        entries.sort(key=lambda entry: -_merit(entry.speed, goal))
        base = next(entry for entry in entries if entry.candidate == BASELINE)
        winner = _winner(entries, base, goal)
        plan = _plan(winner, base, machine, goal, sorted({fit.engine for fit in fits}), disturbed)
        progress("write")
        measured = bundle.manifest

        def add_plan(now: Manifest) -> Update:
            check_unchanged(path, measured, now, {BASELINE.variant, plan.variant})
            return Update(msgspec.structs.replace(now, plans={**now.plans, machine.key: plan}))

        update_bundle(path, add_plan)
    return Tuned(machine, goal, plan, winner is base, tuple(entries), tuple(failed))


def _merit(speed: Speed, goal: Goal) -> float:
    return 1000 / speed.p50_ms if goal == "latency" else speed.fps


def _look(path: str, fits: Sequence[Candidate], failed: list[str], progress: Callable[[str], None]) -> list[Entry]:
    """Measure each candidate briefly."""
    found = []
    for number, candidate in enumerate(fits, start=1):
        progress(f"measuring {candidate} briefly: [{candidate.variant}] ({number} of {len(fits)})")
        speed = measure_in_own_process(path, candidate, _SHORT_S)
        if isinstance(speed, Speed):
            found.append(Entry(candidate, speed))
        elif candidate == BASELINE:
            raise EngineError(f"{path}: plain FP32 onnxruntime does not run: {speed.reason}")
        else:
            failed.append(f"{candidate}: {speed.reason}")
    return found


def _prune(entries: Sequence[Entry], goal: Goal) -> list[Entry]:
    """Mark dropped candidates: much slower than the fastest of all, or slower than another setting of the same kind."""
    best = max(_merit(entry.speed, goal) for entry in entries)
    fastest: dict[tuple[str, str, str], float] = {}
    for entry in entries:
        kind = _kind(entry.candidate)
        fastest[kind] = max(fastest.get(kind, 0.0), _merit(entry.speed, goal))
    return [
        replace(
            entry,
            pruned=_merit(entry.speed, goal) * _PRUNE < best
            or _merit(entry.speed, goal) * _PRUNE_SETTING < fastest[_kind(entry.candidate)],
        )
        for entry in entries
    ]


def _kind(candidate: Candidate) -> tuple[str, str, str]:
    return candidate.engine, candidate.variant, candidate.precision


def _race(
    path: str,
    entries: Sequence[Entry],
    seconds: float,
    goal: Goal,
    progress: Callable[[str], None],
    failed: list[str],
) -> list[Entry]:
    """Measure the finalists and the baseline in turns; each one's best turn counts."""
    finalists = [entry.candidate for entry in entries if not entry.pruned or entry.candidate == BASELINE]
    speeds: dict[Candidate, Speed] = {}
    for turn in range(1, _TURNS + 1):
        for number, candidate in enumerate(finalists, start=1):
            progress(f"turn {turn} of {_TURNS}: {candidate} [{candidate.variant}] ({number} of {len(finalists)})")
            speed = measure_in_own_process(path, candidate, seconds)
            if isinstance(speed, Failed):
                failed.append(f"{candidate}: {speed.reason}")
            elif candidate not in speeds or _merit(speed, goal) > _merit(speeds[candidate], goal):
                speeds[candidate] = speed
    return [
        replace(entry, speed=speeds[entry.candidate]) if entry.candidate in speeds else entry
        for entry in entries
        if entry.candidate not in finalists or entry.candidate in speeds
    ]


def _judge(
    bundle: Bundle,
    rehearsal: Rehearsal,
    entries: Sequence[Entry],
    max_drop: float,
    goal: Goal,
    progress: Callable[[str], None],
) -> list[Entry]:
    """Count the accuracy of each engine, variant and precision that is faster than the baseline."""
    base = next(entry for entry in entries if entry.candidate == BASELINE)
    counted: dict[tuple[str, str, str], Accuracy] = {}
    found = []
    for entry in entries:
        if entry.candidate != BASELINE and (entry.pruned or _merit(entry.speed, goal) <= _merit(base.speed, goal)):
            found.append(entry)
            continue
        kind = _kind(entry.candidate)
        if kind not in counted:
            progress(f"accuracy of {entry.candidate.engine} {entry.candidate.precision} [{entry.candidate.variant}]")
            plain = Candidate(entry.candidate.engine, entry.candidate.precision, entry.candidate.variant)
            with open_engine(bundle, plain, cache=False) as engine:
                counted[kind] = rehearsal.accuracy(rehearsal.score(engine), engine.name)
        accuracy = counted[kind]
        found.append(replace(entry, accuracy=accuracy, holds=accuracy.drop <= max_drop + 1e-9))
    return found


def _mark_best(entries: Sequence[Entry], goal: Goal) -> list[Entry]:
    """Mark the Pareto front: entries that no other beats in both speed and accuracy."""
    return [
        replace(entry, best=entry.accuracy is not None and not any(_beats(other, entry, goal) for other in entries))
        for entry in entries
    ]


def _beats(other: Entry, entry: Entry, goal: Goal) -> bool:
    if other.accuracy is None or entry.accuracy is None:
        return False
    speeds = _merit(other.speed, goal), _merit(entry.speed, goal)
    values = other.accuracy.value, entry.accuracy.value
    return speeds[0] >= speeds[1] and values[0] >= values[1] and (speeds[0], values[0]) != (speeds[1], values[1])


def _winner(entries: Sequence[Entry], base: Entry, goal: Goal) -> Entry:
    able = [entry for entry in entries if entry.holds]
    if not able:
        return base
    fastest = max(able, key=lambda entry: _merit(entry.speed, goal))
    return fastest if _merit(fastest.speed, goal) >= _LEAST_GAIN * _merit(base.speed, goal) else base


def _plan(
    winner: Entry, base: Entry, machine: Machine, goal: Goal, engines: Sequence[str], disturbed: Disturbed | None
) -> Plan:
    candidate = winner.candidate
    return Plan(
        machine=str(machine),
        goal=goal,
        engine=candidate.engine,
        variant=candidate.variant,
        precision=candidate.precision,
        hint="throughput" if candidate.hint == "throughput" else "latency",
        threads=candidate.threads,
        batch=candidate.batch,
        p50_ms=winner.speed.p50_ms,
        fps=winner.speed.fps,
        fp32_p50_ms=base.speed.p50_ms,
        fp32_fps=base.speed.fps,
        accuracy=winner.accuracy if winner is not base else None,
        measured_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        disturbed=disturbed,
        engines=tuple(engines),
    )
