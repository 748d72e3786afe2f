"""Opens engines that reproduce the golden sample: the proof of the export also holds on this machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from edgebone.core.bundle import Bundle
from edgebone.core.compare import REDUCED, Tolerance, compare_shown, fault, values_within, worst
from edgebone.core.errors import BundleError, EngineError, NoEngineError
from edgebone.core.golden import GoldenSample, head_key, read_golden, read_recorded
from edgebone.core.tensors import Array
from edgebone.engines.batches import filled
from edgebone.engines.opening import open_engine, open_first
from edgebone.engines.protocol import AsyncEngine, KeepsCompiled, Outputs
from edgebone.engines.select import Choice
from edgebone.engines.spec import Candidate

# Bytes of weights times pixels of the input: ResNet-50 at 224 × 224 has 5e12, YOLO11n at 640 × 640 4e12.
_LONG_RUN = 2e13
_log = logging.getLogger("edgebone.engines")


@dataclass(frozen=True)
class Replay:
    """An engine's result on the golden sample.

    Attributes:
        engine: The engine's name.
        precision: The precision that it reports.
        passed: Whether it is within the bundle's tolerance.
        max_rel: Largest difference, relative to the output's largest value.
        cosine: Smallest cosine similarity of an output.
        matched: Smallest share of an output's boxes, or of its pixels' classes, that match the recording; None without
            such outputs. The other figures cover the other outputs.
        detail: What went wrong, empty otherwise.
    """

    engine: str
    precision: str
    passed: bool
    max_rel: float
    cosine: float
    detail: str = ""
    matched: float | None = None


def run_golden(bundle: Bundle, sample: GoldenSample, candidate: Candidate, engine: AsyncEngine) -> Outputs:
    """Return an open engine's outputs for the recorded input."""
    low = candidate.batch or bundle.manifest.variants[candidate.variant].batch[0]
    return engine.run({bundle.manifest.input.name: filled(sample.network_input, low)})


def held_against(
    bundle: Bundle, candidate: Candidate, precision: str, outputs: Mapping[str, Array], recorded: Mapping[str, Array]
) -> Replay:
    """Compare outputs with the recorded ones of the same names."""
    pairs = [(outputs[name][:1], wanted) for name, wanted in recorded.items()]
    shapes = [
        f"{list(have.shape)} instead of {list(wanted.shape)}" for have, wanted in pairs if have.shape != wanted.shape
    ]
    if shapes:
        return Replay(candidate.engine, precision, False, float("inf"), 0.0, f"shape {', '.join(shapes)}")
    full = precision == "fp32"
    tolerance = Tolerance(max_rel=bundle.manifest.golden.max_rel) if full else REDUCED
    heads = {
        head_key(key, output) if head.detached else output: head
        for key, head in bundle.manifest.heads.items()
        for output in head.outputs
    }
    found = worst(
        [compare_shown(outputs[name][:1], wanted, heads.get(name), tolerance) for name, wanted in recorded.items()]
    )
    detail = fault(found, tolerance)
    if not detail and not values_within(found, tolerance):
        detail = f"tolerance is {tolerance.max_rel:g}" if full else f"cosine must be {tolerance.cosine} or more"
    max_rel = 0.0 if found.max_rel is None else found.max_rel
    cosine = 1.0 if found.cosine is None else found.cosine
    shares = [share for share in (found.matched, found.equal) if share is not None]
    return Replay(candidate.engine, precision, not detail, max_rel, cosine, detail, min(shares, default=None))


def open_proved(bundle: Bundle, choice: Choice, asked: bool) -> tuple[AsyncEngine, Candidate, list[str]]:
    """Open the best engine that fits; one below the requested precision must reproduce the golden sample.

    Args:
        bundle: The bundle.
        choice: The candidates that fit, best first.
        asked: Whether the user requested the precision.

    Returns:
        The engine, its candidate, and a line for each engine that failed before it.

    Raises:
        BundleError: The bundle's own file is at fault, independent of the engine.
        NoEngineError: None opened; the message has a line per candidate.
    """
    engine, candidate, failures = open_first(bundle, choice)
    if asked or candidate.precision not in bundle.manifest.variants[candidate.variant].reduced:
        return _recompiled_if_wrong(bundle, engine, candidate), candidate, failures
    found = _replay(bundle, engine, candidate)
    if found is not None and not found.passed:
        # Perhaps only the cached network is wrong.
        engine = _recompiled_if_wrong(bundle, engine, candidate)
        found = _replay(bundle, engine, candidate)
    if found is not None and found.passed:
        return engine, candidate, failures
    engine.close()
    why = "the bundle has no golden sample" if found is None else f"fails the golden sample: {found.detail}"
    failed = [*failures, f"{candidate}: {why}"]
    others = tuple(fit for fit in choice.fits if fit.candidate.precision != candidate.precision)
    try:
        engine, candidate, failures = open_first(bundle, Choice(others, choice.rejects))
    except NoEngineError as error:
        raise NoEngineError(error.problem, [*failed, *error.reasons]) from error
    return _recompiled_if_wrong(bundle, engine, candidate), candidate, [*failed, *failures]


def _recompiled_if_wrong(bundle: Bundle, engine: AsyncEngine, candidate: Candidate) -> AsyncEngine:
    """Replay the golden sample on an engine from the cache, and recompile it if its outputs differ.

    This takes one run, which is skipped for networks with many weights and a large input.

    Args:
        bundle: The bundle.
        engine: The engine just opened; closed if it is replaced.
        candidate: The candidate that it was opened as.

    Raises:
        EngineError: The engine cannot be compiled.
    """
    if not isinstance(engine, KeepsCompiled) or engine.cached is None or not engine.from_cache:
        return engine
    height, width = bundle.manifest.preprocess.size_hw
    size = bundle.manifest.files[bundle.manifest.variants[candidate.variant].file].size
    if size * height * width > _LONG_RUN:
        return engine
    found = _replay(bundle, engine, candidate)
    if found is None or found.passed:
        return engine
    _log.warning("%s: the network from the cache fails its golden sample (%s)", bundle.path, found.detail)
    engine.close()
    engine.cached.drop()
    return open_engine(bundle, candidate)


def _replay(bundle: Bundle, engine: AsyncEngine, candidate: Candidate) -> Replay | None:
    """Replay the golden sample on an open engine, without detached heads; None if there is no sample."""
    try:
        recorded = read_recorded(bundle, candidate.variant)
        own = {name: array for name, array in recorded.items() if not name.startswith("head/")}
        outputs = run_golden(bundle, read_golden(bundle), candidate, engine)
        return held_against(bundle, candidate, engine.precision, outputs, own)
    except EngineError as error:
        return Replay(engine.name, engine.precision, False, float("inf"), 0.0, str(error))
    except BundleError:
        # `edgebone doctor` reports it.
        return None
