"""Compiles a bundle's variants with OpenVINO into the user's cache, so that the next start is shorter."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgebone.core.bundle import open_bundle
from edgebone.core.caches import cache_folder
from edgebone.core.errors import EngineError, OutputError
from edgebone.engines.opening import open_engine
from edgebone.engines.openvino.engine import OpenVinoEngine
from edgebone.engines.plans import planned
from edgebone.engines.select import check, precisions_of
from edgebone.engines.spec import Candidate, CompileResult, Fit
from edgebone.engines.table import this_machine


@dataclass(frozen=True)
class Warmed:
    """One compiled network.

    Attributes:
        candidate: The candidate that was compiled.
        seconds: The loading time.
        was_there: Whether it was already in the cache.
    """

    candidate: Candidate
    seconds: float
    was_there: bool


def compile_target(
    path: str,
    target: str,
    variants: Sequence[str],
    settings: Mapping[str, Any],
    progress: Callable[[str, str, float], None],
    notice: Callable[[str], None],
) -> list[CompileResult]:
    """Compile for ``edgebone compile``; see :class:`edgebone.engines.spec.EngineSpec`."""
    if target != "openvino":
        raise EngineError("openvino compiles only for this device; tensorrt-rtx:sm86 compiles for others")
    return [CompileResult(_line(item), item) for item in compile_with_openvino(path, variants, notice)]


def _line(item: Warmed) -> str:
    said = "was in the cache" if item.was_there else "compiled into the cache"
    return f"{item.candidate} [{item.candidate.variant}]: {said}, {item.seconds:.2f} s"


def compile_with_openvino(
    path: str, variants: Sequence[str] = (), progress: Callable[[str], None] = lambda _: None
) -> list[Warmed]:
    """Compile every variant in every precision that this machine supports, and this machine's plan.

    Args:
        path: The bundle.
        variants: Names; empty for all.
        progress: Called with a line per network.

    Raises:
        EngineError: No such variant, or OpenVINO runs none of them here.
        OutputError: The cache cannot be written.
    """
    if cache_folder("openvino") is None:
        raise OutputError("no cache to compile into: the user's cache directory cannot be written")
    machine = this_machine("openvino")
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        chosen = manifest.chosen_graphs(variants, path)
        wanted = [
            Candidate("openvino", precision, name)
            for name in chosen
            for precision in precisions_of("openvino", manifest.graph(name))
        ]
        plan = planned(manifest, machine)
        if plan is not None and plan.engine == "openvino" and plan.variant in chosen:
            wanted.append(plan)
        verdicts = [check(item, machine, manifest.graph(item.variant)) for item in dict.fromkeys(wanted)]
        fits = [verdict.candidate for verdict in verdicts if isinstance(verdict, Fit)]
        if not fits:
            reasons = "; ".join(f"{verdict.candidate}: {verdict.reason}" for verdict in verdicts)
            raise EngineError(f"{path}: openvino runs none of its variants here: {reasons or 'none is for it'}")
        found = []
        for candidate in fits:
            progress(f"{candidate} [{candidate.variant}]")
            started = time.monotonic()
            with open_engine(bundle, candidate) as engine:
                seconds = round(time.monotonic() - started, 2)
                found.append(Warmed(candidate, seconds, isinstance(engine, OpenVinoEngine) and engine.from_cache))
    return found
