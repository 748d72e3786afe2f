"""Compiles a bundle's variants into the bundle, or into the user's cache at first use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgebone.core.bundle import Bundle, open_bundle
from edgebone.core.bundle_writing import Update, check_unchanged, update_bundle
from edgebone.core.caches import Cached, cache_folder, cached
from edgebone.core.errors import EngineError, OutputError
from edgebone.core.limits import COMPILING_TIMEOUT_S
from edgebone.core.locking import locked
from edgebone.core.machine import Machine
from edgebone.core.manifest import CompiledEngine, Manifest
from edgebone.core.writing import writing
from edgebone.engines.spec import CompileResult
from edgebone.engines.tensorrt.builder import Progress, compile_engine
from edgebone.engines.tensorrt.compat import import_tensorrt
from edgebone.engines.tensorrt.provenance import differences, key_of, provenance_of
from edgebone.engines.tensorrt.settings import CompileSettings, Target, parse_target


@dataclass(frozen=True)
class Result:
    """The result for one variant.

    Attributes:
        variant: The variant's name.
        engine: Its engine's record; None if the variant is not for this target.
        reason: ``compiled``, ``up to date``, why it was not compiled, or why it was compiled again.
    """

    variant: str
    engine: CompiledEngine | None
    reason: str


def compile_target(
    path: str,
    target: str,
    variants: Sequence[str],
    settings: Mapping[str, Any],
    progress: Callable[[str, str, float], None],
    notice: Callable[[str], None],
) -> list[CompileResult]:
    """Compile for ``edgebone compile``; see :class:`edgebone.engines.spec.EngineSpec`."""
    wanted = parse_target(target)
    own = {name: value for name, value in settings.items() if name != "timing_cache"}
    results = compile_into_bundle(
        path, wanted, CompileSettings(**own), variants, settings.get("timing_cache"), progress, notice
    )
    return [CompileResult(_line(result, wanted), result) for result in results]


def _line(result: Result, target: Target) -> str:
    engine = result.engine
    size = "" if engine is None else f", {engine.seconds:.2f} s, {engine.size_bytes / 1e6:.1f} MB, {engine.file}"
    return f"{result.variant} for {target}: {result.reason}{size}"


def compile_into_bundle(
    path: str,
    target: Target,
    settings: CompileSettings | None = None,
    variants: Sequence[str] = (),
    timing_cache: Path | None = None,
    progress: Callable[[str, str, float], None] = lambda _, __, ___: None,
    notice: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Compile variants, and write the engines into the bundle when all are done.

    An engine with the same provenance is kept; another one of the same variant and target is replaced.

    Args:
        path: The bundle.
        target: ``tensorrt`` or ``tensorrt-rtx``.
        settings: The compile settings; None for TensorRT's defaults.
        variants: Names; empty for all that are for this target.
        timing_cache: A file shared by builds; None for one in the user's cache.
        progress: Called with the variant, a phase and its progress.
        notice: Called with what the user should know.

    Raises:
        EngineError: No such variant, none is for this target, or compiling fails.
        MissingDependencyError: The target's package is not installed.
        OutputError: The bundle cannot be written.
    """
    settings = settings or CompileSettings()
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        chosen = manifest.chosen_graphs(variants, path)
        trt = import_tensorrt(target)
        cache = timing_cache or _own_timing_cache(target)
        machine = Machine.probe()
        made_now: dict[str, CompiledEngine] = {}
        add: dict[str, bytes] = {}
        results = []
        for name in chosen:
            variant = manifest.graph(name)
            if variant.engines and target.name not in variant.engines:
                results.append(Result(name, None, f"for {' and '.join(variant.engines)}"))
                continue
            wanted = provenance_of(trt, manifest.files[variant.file].sha256, target, settings, variant.batch, machine)
            key = key_of(wanted)
            if key in manifest.engines and may_run(manifest, manifest.engines[key]):
                results.append(Result(name, manifest.engines[key], "up to date"))
                continue
            old = [own for own, item in manifest.engines.items() if _same_place(item, name, wanted)]
            reason = "compiled"
            if old:
                why = "; ".join(differences(manifest.engines[old[0]].provenance, wanted))
                reason += f" again: {why or 'the existing one was not compiled by you on this device'}"
            made = compile_engine(
                bundle.read(variant.file),
                f"{path}, variant {name}",
                target,
                settings,
                variant.batch,
                cache,
                lambda phase, share, name=name: progress(name, phase, share),  # type: ignore[misc]
                notice,
            )
            record = CompiledEngine(f"engines/{key}/engine", target.name, name, wanted, made.seconds, len(made.content))
            if settings.version_compatible:
                _vouch_for(made.content)
            made_now[key] = record
            add[record.file] = made.content
            results.append(Result(name, record, reason))
        if all(result.engine is None for result in results):
            reasons = "; ".join(f"{result.variant} is {result.reason}" for result in results)
            raise EngineError(f"{path}: no variant is for {target.name}: {reasons}")
    if add:
        _write(path, manifest, made_now, add)
    return results


def _write(path: str, then: Manifest, made: dict[str, CompiledEngine], add: dict[str, bytes]) -> None:
    """Add to the current bundle: others may have written to it during the minutes of compiling."""

    def add_engines(now: Manifest) -> Update:
        check_unchanged(path, then, now, {engine.variant for engine in made.values()})
        old = {
            key: item
            for key, item in now.engines.items()
            if any(_same_place(item, new.variant, new.provenance) for new in made.values())
        }
        engines = {key: item for key, item in now.engines.items() if key not in old} | made
        return Update(msgspec.structs.replace(now, engines=engines), add, {item.file for item in old.values()})

    update_bundle(path, add_engines)


def _own_timing_cache(target: Target) -> Path | None:
    folder = cache_folder("timing")
    return None if folder is None else folder / f"{target.name}.cache"


def _same_place(engine: CompiledEngine, variant: str, wanted: dict[str, str]) -> bool:
    """Return whether the new engine replaces this one: same variant, target and hardware."""
    same = ("backend", "gpu", "dla_core")
    return engine.variant == variant and all(engine.provenance.get(name) == wanted[name] for name in same)


def cached_engine(
    bundle: Bundle,
    variant: str,
    target: Target,
    settings: CompileSettings | None = None,
    folder: Path | None = None,
    progress: Progress = lambda _, __: None,
    notice: Callable[[str], None] = lambda _: None,
) -> bytes:
    """Return an engine for this device: from the bundle, from the user's cache, or compiled now and cached.

    Two processes never compile the same engine: the second waits for the first one's.

    Args:
        bundle: An open bundle.
        variant: The variant's name.
        target: ``tensorrt`` or ``tensorrt-rtx``.
        settings: How.
        folder: The cache; None for the user's.
        progress: Called with a phase and its progress.
        notice: Called with a line if it compiles, with the reason.

    Returns:
        The engine's bytes.

    Raises:
        EngineError: Compiling fails.
        MissingDependencyError: The target's package is not installed.
    """
    settings = settings or CompileSettings()
    manifest = bundle.manifest
    item = manifest.graph(variant)
    trt = import_tensorrt(target)
    wanted = provenance_of(trt, manifest.files[item.file].sha256, target, settings, item.batch, Machine.probe())
    key = key_of(wanted)
    if key in manifest.engines and may_run(manifest, manifest.engines[key]):
        return bundle.read(manifest.engines[key].file)
    place = folder or cache_folder("engines")
    where = f"{bundle.path}, variant {variant}"
    if place is None:
        notice(f"{where}: compiling for this device; it cannot be cached")
        return compile_engine(bundle.read(item.file), where, target, settings, item.batch, None, progress).content
    kept = cached(place, wanted)
    with locked(kept.path, COMPILING_TIMEOUT_S):
        found = kept.load()
        if found is not None:
            return found[0]
        stale = [own for own in manifest.engines.values() if _same_place(own, variant, wanted)]
        why = f" ({'; '.join(differences(stale[0].provenance, wanted))})" if stale else ""
        notice(f"{where}: compiling for this device{why}; cached in {place}")
        cache = _own_timing_cache(target)
        made = compile_engine(bundle.read(item.file), where, target, settings, item.batch, cache, progress, notice)
        try:
            with writing(kept.path):
                kept.keep(made.content)
        except OutputError as error:
            # The only cost is compiling again at the next start.
            notice(f"{error}; it will be compiled again")
    return made.content


def may_run(manifest: Manifest, engine: CompiledEngine) -> bool:
    """Return whether a bundle's engine may run here: one with host code only if this device compiled it.

    TensorRT embeds its own runtime, a shared library, into version-compatible engines, and runs it in this process. A
    manifest is not trusted for that; this user's own cache is.
    """
    if engine.provenance.get("version_compatible") != "True":
        return True
    folder = cache_folder("engines")
    return folder is not None and _voucher(folder, manifest.files[engine.file].sha256).load() is not None


def _vouch_for(content: bytes) -> None:
    folder = cache_folder("engines")
    if folder is not None:
        with suppress(OSError):
            _voucher(folder, hashlib.sha256(content).hexdigest()).keep(b"")


def _voucher(folder: Path, sha256: str) -> Cached:
    return cached(folder, "made here", sha256)
