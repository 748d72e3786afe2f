"""The table of engines, one row each: edgebone's own, and those of packages with entry point ``edgebone.engines``.

Nothing heavy is imported here, and other packages are only searched for when all engines, or one that is not edgebone's
own, are requested.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from edgebone.core.brought import advice, load_brought, names_brought, who_brings
from edgebone.core.errors import raise_interrupt
from edgebone.core.near import did_you_mean
from edgebone.engines.onnxruntime.spec import ONNXRUNTIME, ONNXRUNTIME_CUDA, ONNXRUNTIME_TENSORRT
from edgebone.engines.openvino.spec import OPENVINO
from edgebone.engines.spec import Candidate, EngineSpec, Fit, Reject
from edgebone.engines.tensorrt.spec import TENSORRT, TENSORRT_RTX

if TYPE_CHECKING:
    from edgebone.core.machine import Machine
    from edgebone.core.manifest import Variant

ROWS = (
    TENSORRT,
    TENSORRT_RTX,
    ONNXRUNTIME_TENSORRT,
    ONNXRUNTIME_CUDA,
    OPENVINO,
    ONNXRUNTIME,
)
GROUP = "edgebone.engines"
_OWN = {row.name: row for row in ROWS}
_log = logging.getLogger("edgebone.engines")


def find(name: str) -> EngineSpec | None:
    """Return the engine of this name; None if unknown."""
    return _OWN[name] if name in _OWN else _from_package(name)


def rows(engine: str = "auto") -> tuple[EngineSpec, ...]:
    """Return every engine, edgebone's own first; from other packages only the named one, unless it is ``auto``."""
    others = names_brought(GROUP) if engine == "auto" else [engine]
    return (*ROWS, *(row for name in others if name not in _OWN and (row := _from_package(name))))


def names() -> tuple[str, ...]:
    """The names of every engine."""
    return tuple(row.name for row in rows())


def aliases() -> dict[str, str]:
    """Return the engines' names by alias."""
    found: dict[str, list[str]] = {}
    for row in rows():
        for alias in row.aliases:
            found.setdefault(alias, []).append(row.name)
    return {alias: " or ".join(engines) for alias, engines in found.items()}


def readers_of(dialect: str) -> tuple[str, ...]:
    """Return edgebone's own engines for a form of quantized graphs."""
    return tuple(row.name for row in ROWS if dialect in row.dialects)


def find_target(text: str) -> EngineSpec:
    """Return the engine of an ``edgebone compile`` target: its name, optionally with a colon and details.

    Raises:
        EngineError: The name is unknown, or the engine does not compile.
    """
    found = find(text.partition(":")[0])
    if found is None or found.compile is None:
        from edgebone.core.errors import EngineError

        known = [row.name for row in rows() if row.compile]
        raise EngineError(f"there is no target {text}; {did_you_mean(text, known)}choose {', '.join(known)}")
    return found


def this_machine(engine: str = "auto") -> Machine:
    """Inspect this machine and look for the packages of one engine or of all; imports none."""
    from edgebone.core.machine import Machine

    return Machine.probe({name: brought_by for row in rows(engine) for name, brought_by in row.packages.items()})


@functools.cache
def _from_package(name: str) -> EngineSpec | None:
    """Return another package's row; an unusable one is left out, with one warning."""
    try:
        row = load_brought(GROUP, name, EngineSpec)
        return None if row is None else _guarded(row)
    except Exception as error:
        raise_interrupt(error)
        _leave_out(name, _words(error))
        return None


def _guarded(row: EngineSpec) -> EngineSpec:
    """Wrap a row's functions so that an error in them does not stop the other engines."""

    def precisions(variant: Variant | None) -> tuple[str, ...]:
        try:
            return tuple(row.precisions(variant))
        except Exception as error:
            _leave_out(row.name, _words(error))
            return ()

    def check(candidate: Candidate, machine: Machine, variant: Variant | None) -> Fit | Reject:
        try:
            # The rank is needed only if the engine fits.
            verdict = row.check(candidate, machine, variant)
            int(row.rank(machine))
            if isinstance(verdict, (Fit, Reject)):
                return verdict
            raise TypeError(f"its check returned {verdict!r:.80}, not a Fit or a Reject")
        except Exception as error:
            _leave_out(row.name, _words(error))
            return Reject(candidate, f"{who_brings(GROUP, row.name)} is at fault: {_words(error)}")

    return replace(row, packages=dict(row.packages), aliases=tuple(row.aliases), precisions=precisions, check=check)


@functools.cache
def _leave_out(engine: str, why: str) -> None:
    # Cached, so that each fault is reported once.
    by = who_brings(GROUP, engine)
    _log.warning("the engine %s of %s is left out: %s; %s", engine, by, why, advice(GROUP, engine))


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
