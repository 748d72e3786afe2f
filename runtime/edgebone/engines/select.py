"""Selects the engine that runs a bundle on a machine, with reasons against the others.

Pure: everything is passed in, except the table of engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edgebone.core.errors import EngineError, NoEngineError
from edgebone.core.machine import Machine
from edgebone.core.manifest import Manifest, Variant
from edgebone.core.near import did_you_mean
from edgebone.engines.spec import Candidate, Fit, Reject
from edgebone.engines.table import aliases, find, names

PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int8+bf16", "fp8", "int4", "auto")
HINTS = ("latency", "throughput")
# Their names elsewhere.
_MEANT = {
    **dict.fromkeys(("half", "float16", "16"), "fp16"),
    **dict.fromkeys(("float", "full", "float32", "32"), "fp32"),
    "bfloat16": "bf16",
    **dict.fromkeys(("uint8", "quantized", "8"), "int8"),
    **dict.fromkeys(("speed", "fps", "async"), "throughput"),
    "sync": "latency",
}


def precisions_of(engine: str, variant: Variant | None = None) -> tuple[str, ...]:
    """Return the precisions that can be requested from an engine.

    Args:
        engine: The engine's name.
        variant: The variant that it would load; None for FP32.

    Returns:
        The precisions, the variant's own first; empty if the variant is for other engines.
    """
    spec = find(engine)
    if spec is None or (variant is not None and variant.engines and engine not in variant.engines):
        return ()
    return spec.precisions(variant)


def candidates(
    manifest: Manifest,
    engine: str = "auto",
    precision: str = "auto",
    *,
    hint: str = "latency",
    threads: int | None = None,
) -> list[Candidate]:
    """Return every way to run this bundle that the user's options allow, without regard to preference.

    ``auto`` is FP32, preceded by lower precisions that the bundle proves to return FP32's answers.

    Raises:
        EngineError: Unknown engine, precision or hint, or no variant of this precision.
    """
    check_words(engine, precision, hint)
    found = [
        Candidate(name, own, key, hint, threads)
        for name in (names() if engine == "auto" else (engine,))
        for key, variant in manifest.variants.items()
        for own in ((precision,) if precision != "auto" else _proved(name, variant))
        if _may_compute(variant, own)
    ]
    if not found:
        own = ", ".join(f"{key} ({variant.precision})" for key, variant in manifest.variants.items())
        raise EngineError(
            f"the bundle has no variant for precision {precision}, only {own}; "
            "make one with: edgebone quantize BUNDLE --calibrate DIR"
        )
    return found


def check_words(engine: str = "auto", precision: str = "auto", hint: str = "latency") -> None:
    """Reject unknown names of an engine, precision or hint, independent of machine and bundle.

    Raises:
        EngineError: Names the word, similar ones, and all known ones.
    """
    if engine != "auto" and find(engine) is None:
        _refuse("engine", engine, names(), ", ".join(("auto", *names())))
    if precision not in PRECISIONS:
        _refuse("precision", precision, PRECISIONS, ", ".join(PRECISIONS))
    if hint not in HINTS:
        _refuse("hint", hint, HINTS, " or ".join(HINTS))


def _refuse(kind: str, word: str, known: Sequence[str], choices: str) -> None:
    meant = did_you_mean(word, known, {**_MEANT, **aliases()})
    raise EngineError(f"there is no {kind} {word}; {meant}choose {choices}")


def _proved(engine: str, variant: Variant) -> tuple[str, ...]:
    """Return the precisions that may be chosen automatically, fastest first."""
    possible = precisions_of(engine, variant)
    return (*(key for key, found in variant.reduced.items() if found.holds and key in possible), "fp32")


def _may_compute(variant: Variant, precision: str) -> bool:
    # BF16 has two forms: OpenVINO rounds an FP32 graph itself, others need casts in the graph.
    return variant.precision == precision.partition("+")[0] or (variant.precision, precision) == ("fp32", "bf16")


def check(candidate: Candidate, machine: Machine, variant: Variant | None = None) -> Fit | Reject:
    """Return whether a candidate runs on a machine; ``variant`` is its variant, None for FP32."""
    spec = find(candidate.engine)
    if spec is None:
        return Reject(candidate, f"this edgebone has no such engine, only {', '.join(names())}")
    if variant is not None and variant.engines and spec.name not in variant.engines:
        return Reject(candidate, f"variant {candidate.variant} is for {' and '.join(variant.engines)}")
    if candidate.precision not in spec.precisions(variant):
        return Reject(candidate, f"{spec.name} {spec.computes}")
    return spec.check(candidate, machine, variant)


@dataclass(frozen=True)
class Choice:
    """The candidates that fit, best first, and those that do not."""

    fits: tuple[Fit, ...]
    rejects: tuple[Reject, ...]

    def __str__(self) -> str:
        """Return one line per candidate."""
        lines = [f"{fit.candidate}: fits, {fit.reason}" for fit in self.fits]
        return "\n".join([*lines, *(f"{reject.candidate}: {reject.reason}" for reject in self.rejects)])


def choose(
    options: Sequence[Candidate], machine: Machine, variants: Mapping[str, Variant] = MappingProxyType({})
) -> Choice:
    """Sort candidates into those that fit, best first, and those that do not.

    ``variants`` are the bundle's; unknown ones count as FP32.

    The engines' ranks decide: GPUs first, and TensorRT first among them. `edgebone bench` measures the machine at hand.

    Raises:
        NoEngineError: Nothing fits; the message has a line per candidate.
    """
    verdicts = [check(option, machine, variants.get(option.variant)) for option in options]
    fits = [verdict for verdict in verdicts if isinstance(verdict, Fit)]
    rejects = tuple(verdict for verdict in verdicts if isinstance(verdict, Reject))
    if not fits:
        reasons = [f"{reject.candidate}: {reject.reason}" for reject in rejects]
        raise NoEngineError("no engine on this machine runs the bundle:", reasons)
    ranks = {row.name: row.rank(machine) for row in map(find, {fit.candidate.engine for fit in fits}) if row}
    fits.sort(key=lambda fit: (ranks[fit.candidate.engine], fit.candidate.engine))
    return Choice(tuple(fits), rejects)
