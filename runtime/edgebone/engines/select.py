"""Which engine runs a bundle on a machine, and why not the others. Pure: everything it needs is passed in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from edgebone.core.bundle import Bundle
from edgebone.core.caches import NetworkCache, cache_folder
from edgebone.core.errors import BundleError, EdgeboneError, EngineError, NoEngineError
from edgebone.core.machine import Machine
from edgebone.core.manifest import Manifest, Variant
from edgebone.core.near import did_you_mean
from edgebone.core.tensors import TensorSpec
from edgebone.engines.protocol import AsyncEngine
from edgebone.engines.tensorrt.runtime import RUNTIMES

ENGINES = ("tensorrt", "tensorrt-rtx", "onnxruntime-tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime")
PRECISIONS = ("fp32", "bf16", "fp16", "int8", "int8+bf16", "fp8", "int4", "auto")
HINTS = ("latency", "throughput")
# What others call them.
_MEANT = {
    **dict.fromkeys(("cpu", "intel"), "openvino or onnxruntime"),
    **dict.fromkeys(("gpu", "cuda", "cuda:0", "gpu:0", "0"), "tensorrt or onnxruntime-cuda"),
    **dict.fromkeys(("ort", "onnx"), "onnxruntime"),
    **dict.fromkeys(("trt", "engine"), "tensorrt"),
    "ov": "openvino",
    **dict.fromkeys(("half", "float16", "16"), "fp16"),
    **dict.fromkeys(("float", "full", "float32", "32"), "fp32"),
    "bfloat16": "bf16",
    **dict.fromkeys(("uint8", "quantized", "8"), "int8"),
    **dict.fromkeys(("speed", "fps", "async"), "throughput"),
    "sync": "latency",
}
_TENSORRT = ("tensorrt", "tensorrt-rtx")
_ON_ARM = (*ENGINES[:-2], "onnxruntime", "openvino")
_DEVICES: Mapping[str, Literal["cpu", "cuda", "tensorrt"]] = MappingProxyType(
    {"onnxruntime": "cpu", "onnxruntime-cuda": "cuda", "onnxruntime-tensorrt": "tensorrt"}
)
_NO_GPU = "no NVIDIA GPU is seen on this machine"
_log = logging.getLogger("edgebone.engines")


def precisions_of(engine: str, variant: Variant | None = None) -> tuple[str, ...]:
    """The precisions that an engine can be asked for.

    Args:
        engine: The engine's name.
        variant: The variant that it would load; None is one in FP32.

    Returns:
        The variant's own precision first; none where the variant is made for other engines.
    """
    own = "fp32" if variant is None else variant.precision
    if variant is not None and variant.engines and engine not in variant.engines:
        return ()
    if engine == "openvino" and own in ("fp32", "int8"):
        return (own, "bf16" if own == "fp32" else "int8+bf16")
    return (own,)


@dataclass(frozen=True)
class Candidate:
    """One way to run a bundle.

    Attributes:
        engine: One of ``ENGINES``.
        precision: One of ``PRECISIONS``.
        variant: The bundle's variant that it would load, or frame variant.
        hint: ``latency`` or ``throughput``, for engines that spread their runs over the cores by it.
        threads: Threads for inference; None takes every core.
        batch: The one batch that it is loaded for; None takes whatever the variant allows.
    """

    engine: str
    precision: str
    variant: str
    hint: str = "latency"
    threads: int | None = None
    batch: int | None = None

    def __str__(self) -> str:
        """``openvino bf16``, and what differs from the usual."""
        more = [f"{self.hint} hint"] if self.hint != "latency" else []
        more += [f"{self.threads} thread{'' if self.threads == 1 else 's'}"] if self.threads is not None else []
        more += [f"batch {self.batch}"] if self.batch is not None else []
        return f"{self.engine} {self.precision}" + (f" ({', '.join(more)})" if more else "")


@dataclass(frozen=True)
class Fit:
    """The candidate runs here; ``reason`` says what speaks for it."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class Reject:
    """The candidate does not run here; ``reason`` says why, and what would change that."""

    candidate: Candidate
    reason: str


def candidates(
    manifest: Manifest,
    engine: str = "auto",
    precision: str = "auto",
    *,
    hint: str = "latency",
    threads: int | None = None,
) -> list[Candidate]:
    """Every way to run this bundle that the user's words allow, preferred engine not yet considered.

    ``auto`` is FP32 and, before it, what the bundle proves to give FP32's answers with fewer bits.

    Raises:
        EngineError: Unknown engine, precision or hint, or no variant of this precision.
    """
    check_words(engine, precision, hint)
    names = ENGINES if engine == "auto" else (engine,)
    found = [
        Candidate(name, own, key, hint, threads)
        for name in names
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
    """Refuse words that stand for no engine, precision or hint, whatever the machine and the bundle.

    Raises:
        EngineError: Names the word, those near it, and all.
    """
    if engine not in ("auto", *ENGINES):
        raise EngineError(
            f"there is no engine {engine}; {did_you_mean(engine, ENGINES, _MEANT)}choose auto, {', '.join(ENGINES)}"
        )
    if precision not in PRECISIONS:
        meant = did_you_mean(precision, PRECISIONS, _MEANT)
        raise EngineError(f"there is no precision {precision}; {meant}choose {', '.join(PRECISIONS)}")
    if hint not in HINTS:
        raise EngineError(f"there is no hint {hint}; {did_you_mean(hint, HINTS, _MEANT)}choose {' or '.join(HINTS)}")


def _proved(engine: str, variant: Variant) -> tuple[str, ...]:
    """The precisions that are taken without being asked for, the fastest first."""
    possible = precisions_of(engine, variant)
    return (*(key for key, found in variant.reduced.items() if found.holds and key in possible), "fp32")


def _may_compute(variant: Variant, precision: str) -> bool:
    # BF16 is there in two forms: OpenVINO rounds an FP32 graph by itself, others need the casts in the graph.
    return variant.precision == precision.partition("+")[0] or (variant.precision, precision) == ("fp32", "bf16")


def planned(manifest: Manifest, machine: Machine) -> Candidate | None:
    """What the plan of this machine says, or None where the bundle has none for it."""
    plan = manifest.plans.get(machine.key)
    if plan is None:
        return None
    return Candidate(plan.engine, plan.precision, plan.variant, plan.hint, plan.threads, plan.batch)


def check(candidate: Candidate, machine: Machine, variant: Variant | None = None) -> Fit | Reject:
    """Whether a candidate runs on a machine; ``variant`` is its variant, None one in FP32."""
    if candidate.engine not in ENGINES:
        return Reject(candidate, f"this edgebone has no such engine, only {', '.join(ENGINES)}")
    if variant is not None and variant.engines and candidate.engine not in variant.engines:
        return Reject(candidate, f"variant {candidate.variant} is made for {' and '.join(variant.engines)}")
    if candidate.precision not in precisions_of(candidate.engine, variant):
        return Reject(candidate, _cannot(candidate))
    if candidate.engine == "openvino":
        return _check_openvino(candidate, machine, variant)
    if candidate.engine in _TENSORRT:
        return _check_tensorrt(candidate, machine)
    return _check_onnxruntime(candidate, machine)


def _check_openvino(candidate: Candidate, machine: Machine, variant: Variant | None) -> Fit | Reject:
    if "openvino" not in machine.packages:
        return Reject(candidate, 'openvino is not installed: pip install "edgebone[openvino]"')
    native = {"avx512_bf16", "amx_bf16", "bf16"} & set(machine.cpu_features)
    if candidate.precision.endswith("bf16") and not native:
        return Reject(candidate, "this processor does not compute in BF16 natively, so that FP32 is faster")
    agreement = None if variant is None else variant.reduced.get(candidate.precision)
    proof = "" if agreement is None else f"; {candidate.precision} gives {agreement}"
    return Fit(candidate, f"openvino {machine.packages['openvino']} on {machine.arch}{proof}")


def _check_tensorrt(candidate: Candidate, machine: Machine) -> Fit | Reject:
    if not (machine.gpus or machine.jetson):
        return Reject(candidate, _NO_GPU)
    if candidate.engine == "tensorrt-rtx" and machine.jetson:
        return Reject(candidate, "it is for desktop GPUs from Turing (SM75) on; a Jetson has tensorrt")
    found = next((name for name in RUNTIMES[candidate.engine] if name in machine.packages), None)
    if found is None:
        how = "it comes with JetPack" if machine.jetson else f'pip install "edgebone[{candidate.engine}]"'
        return Reject(candidate, f"{RUNTIMES[candidate.engine][0]} is not installed: {how}")
    if "cuda.bindings" not in machine.packages:
        return Reject(candidate, 'cuda.bindings is not installed: pip install "cuda-python>=12"')
    return Fit(candidate, f"{found} {machine.packages[found]} on {', '.join(machine.gpus) or machine.jetson}")


def _check_onnxruntime(candidate: Candidate, machine: Machine) -> Fit | Reject:
    provider = candidate.engine.partition("-")[2]
    if "onnxruntime" not in machine.packages:
        extra = "gpu" if provider else "cpu"
        return Reject(candidate, f'onnxruntime is not installed: pip install "edgebone[{extra}]"')
    if provider and not (machine.gpus or machine.jetson):
        return Reject(candidate, _NO_GPU)
    if provider and provider not in machine.onnxruntime_providers:
        title = {"cuda": "CUDA", "tensorrt": "TensorRT"}[provider]
        return Reject(
            candidate,
            f"the installed onnxruntime has no {title} provider: "
            'pip uninstall onnxruntime && pip install "edgebone[gpu]"',
        )
    # onnxruntime-gpu brings the provider, but not the library that it loads.
    if provider == "tensorrt" and "tensorrt" not in machine.packages:
        return Reject(candidate, 'tensorrt is not installed: pip install "edgebone[tensorrt]"')
    reason = f"onnxruntime {machine.packages['onnxruntime']} on {machine.arch}"
    return Fit(
        candidate, reason + ("; FP32 factors are rounded to TF32 from Ampere on" if provider == "tensorrt" else "")
    )


def _cannot(candidate: Candidate) -> str:
    if candidate.engine == "openvino":
        return "openvino computes in fp32 or bf16, and in int8 what is quantized"
    return f"{candidate.engine} runs the graph as it is, in fp32; openvino has bf16"


@dataclass(frozen=True)
class Choice:
    """The candidates that fit, best first, and those that do not."""

    fits: tuple[Fit, ...]
    rejects: tuple[Reject, ...]

    def __str__(self) -> str:
        """One line a candidate."""
        lines = [f"{fit.candidate}: fits, {fit.reason}" for fit in self.fits]
        return "\n".join([*lines, *(f"{reject.candidate}: {reject.reason}" for reject in self.rejects)])


def choose(
    options: Sequence[Candidate], machine: Machine, variants: Mapping[str, Variant] = MappingProxyType({})
) -> Choice:
    """Sort candidates into those that fit, best first, and those that do not.

    ``variants`` are the bundle's; one that is not in it is in FP32.

    A GPU comes first, there TensorRT. On x86 OpenVINO is as fast as onnxruntime or faster on most networks; on ARM
    onnxruntime is. `edgebone bench` measures what holds on the machine at hand.

    Raises:
        NoEngineError: Nothing fits; the message has a line per candidate.
    """
    verdicts = [check(option, machine, variants.get(option.variant)) for option in options]
    fits = [verdict for verdict in verdicts if isinstance(verdict, Fit)]
    rejects = tuple(verdict for verdict in verdicts if isinstance(verdict, Reject))
    if not fits:
        reasons = [f"{reject.candidate}: {reject.reason}" for reject in rejects]
        raise NoEngineError("no engine on this machine runs the bundle:", reasons)
    on_arm = machine.arch in ("aarch64", "arm64")
    order = _ON_ARM if on_arm else ENGINES
    fits.sort(key=lambda fit: order.index(fit.candidate.engine))
    return Choice(tuple(fits), rejects)


def unmeasured(manifest: Manifest, machine: Machine, choice: Choice) -> list[str]:
    """The engines that fit now, but were not here when the machine's plan was measured: it says nothing about them."""
    plan = manifest.plans.get(machine.key)
    if plan is None or not plan.engines:
        return []
    here = dict.fromkeys(fit.candidate.engine for fit in choice.fits)
    return [engine for engine in here if engine not in plan.engines]


def plan_first(plan: Candidate, choice: Choice, machine: Machine, manifest: Manifest) -> Choice:
    """Put the plan's candidate before the others, unless it was made without an engine that is here now.

    One that is not followed is listed with its reason.
    """
    verdict = check(plan, machine, manifest.variants[plan.variant])
    if isinstance(verdict, Reject):
        return Choice(choice.fits, (verdict, *choice.rejects))
    measured = manifest.plans[machine.key]
    if new := unmeasured(manifest, machine, choice):
        reason = f"the plan was measured without {', '.join(new)}"
        return Choice(choice.fits, (Reject(plan, reason), *choice.rejects))
    reason = f"the plan measured on this machine: {measured.p50_ms:.2f} ms, {measured.fps:.0f} fps"
    return Choice((Fit(plan, reason), *choice.fits), choice.rejects)


def open_engine(
    bundle: Bundle, candidate: Candidate, *, cache: bool = True, notice: Callable[[str], None] = _log.warning
) -> AsyncEngine:
    """Load a bundle's variant into an engine.

    Args:
        bundle: An open bundle.
        candidate: What to load, and into what.
        cache: Whether compiled networks are kept in the user's cache, and taken from it. TensorRT's always are.
        notice: Called with a line where TensorRT compiles, which may take minutes; if not given, a warning is logged.

    Raises:
        MissingDependencyError: The engine's package is not installed.
        EngineError: The engine refuses the network, or cannot start.
    """
    variant = bundle.manifest.graph(candidate.variant)
    batch_range = variant.batch if candidate.batch is None else (candidate.batch, candidate.batch)
    engine: AsyncEngine
    if candidate.engine in _TENSORRT:
        engine = _open_tensorrt(bundle, candidate, batch_range, notice)
    else:
        # Only these compile: no other engine's start should look for a folder.
        compiles = candidate.engine == "onnxruntime-tensorrt" or (cache and candidate.engine == "openvino")
        folder = cache_folder(candidate.engine) if compiles else None
        kept = None if folder is None else NetworkCache(folder, bundle.manifest.files[variant.file].sha256)
        if candidate.engine == "openvino":
            engine = _open_openvino(candidate, lambda: bundle.read(variant.file), batch_range, kept)
        else:
            with bundle.private_copy(variant.file) as model:
                engine = _open_onnxruntime(candidate, model, batch_range, kept)
    _check_against_manifest(bundle, engine, candidate.variant, batch_range[1])
    return engine


def _open_tensorrt(
    bundle: Bundle, candidate: Candidate, batch_range: tuple[int, int], notice: Callable[[str], None]
) -> AsyncEngine:
    from edgebone.engines.tensorrt.cuda import CudaBindings
    from edgebone.engines.tensorrt.engine import TensorRTEngine
    from edgebone.engines.tensorrt.plan import plan_for

    cuda = CudaBindings()
    plan = plan_for(bundle, candidate.variant, candidate.engine, cuda.device(), Machine.probe(), notice)
    return TensorRTEngine(
        plan.content,
        target=candidate.engine,
        precision=candidate.precision,
        batch_range=batch_range,
        host_code=plan.host_code,
        dla_core=plan.dla_core,
        cuda=cuda,
    )


def open_model(
    candidate: Candidate, model: bytes, batch_range: tuple[int, int], behind_another: bool = False
) -> AsyncEngine:
    """Load an ONNX file's bytes into an engine, which keeps nothing of what it compiles.

    Args:
        candidate: Into what; its variant is not looked at.
        model: The file's bytes.
        batch_range: Smallest and largest batch.
        behind_another: Whether another engine runs before it on the same cores, frame by frame.

    Raises:
        MissingDependencyError: The engine's package is not installed.
        EngineError: The engine refuses the network, or cannot start.
    """
    if candidate.engine == "openvino":
        return _open_openvino(candidate, lambda: model, batch_range, None)
    if candidate.engine in _TENSORRT:
        from edgebone.engines.tensorrt.builder import compile_engine
        from edgebone.engines.tensorrt.engine import TensorRTEngine
        from edgebone.engines.tensorrt.settings import CompileSettings, Target

        made = compile_engine(model, "the network", Target(candidate.engine), CompileSettings(), batch_range)
        return TensorRTEngine(
            made.content, target=candidate.engine, precision=candidate.precision, batch_range=batch_range
        )
    return _open_onnxruntime(candidate, model, batch_range, None, behind_another)


def _open_openvino(
    candidate: Candidate, model: Callable[[], bytes], batch_range: tuple[int, int], cache: NetworkCache | None
) -> AsyncEngine:
    from edgebone.engines.openvino.engine import OpenVinoEngine

    return OpenVinoEngine(
        model,
        precision=candidate.precision,
        hint=candidate.hint,
        threads=candidate.threads,
        batch_range=batch_range,
        cache=cache,
    )


def _open_onnxruntime(
    candidate: Candidate,
    model: bytes | Path,
    batch_range: tuple[int, int],
    cache: NetworkCache | None,
    behind_another: bool = False,
) -> AsyncEngine:
    from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(
        model,
        device=_DEVICES[candidate.engine],
        precision=candidate.precision,
        hint=candidate.hint,
        threads=candidate.threads,
        batch_range=batch_range,
        cache=cache,
        spins=not behind_another,
    )


def _check_against_manifest(bundle: Bundle, engine: AsyncEngine, variant: str, batch: int) -> None:
    """Refuse a network whose inputs or outputs are not those that the manifest describes."""
    manifest = bundle.manifest
    own_input = manifest.input_of(variant)
    # The order is the engine's own.
    wanted = ([own_input.name], sorted(spec.name for spec in manifest.outputs))
    found = ([spec.name for spec in engine.inputs], sorted(spec.name for spec in engine.outputs))
    if wanted != found:
        engine.close()
        raise EngineError(
            f"{bundle.path}: the network has inputs and outputs {found}, its manifest says {wanted}; "
            "export the bundle again"
        )
    by_name = {spec.name: spec for spec in (*engine.inputs, *engine.outputs)}
    for said in (own_input, *manifest.outputs):
        is_ = by_name[said.name]
        if not _agree(said, is_):
            engine.close()
            raise EngineError(
                f"{bundle.path}: the network has {is_}, its manifest says {said}; export the bundle again"
            )
    for name in sorted({output for head in manifest.heads.values() if not head.apart for output in head.outputs}):
        rows = by_name[name].shape[0] if by_name[name].shape else 0
        if isinstance(rows, int) and rows < batch:
            engine.close()
            raise EngineError(
                f"{bundle.path}: the network gives {by_name[name]} for {batch} pictures, not a row for each; "
                "export the bundle again"
            )


def _agree(said: TensorSpec, is_: TensorSpec) -> bool:
    """Whether two descriptions can be of one tensor: a size that either leaves free fits any other."""
    return (
        said.dtype == is_.dtype
        and len(said.shape) == len(is_.shape)
        and all(a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(said.shape, is_.shape, strict=True))
    )


def read_first(manifest: Manifest, choice: Choice) -> tuple[str, ...]:
    """The files that :func:`open_first` reads whatever is in the caches: those of onnxruntime."""
    best = choice.fits[0].candidate
    return (manifest.graph(best.variant).file,) if best.engine in _DEVICES else ()


def open_first(bundle: Bundle, choice: Choice) -> tuple[AsyncEngine, Candidate, list[str]]:
    """Open the best engine that fits; when one that should fit fails to open, go on to the next.

    Returns:
        The engine, its candidate, and a line for each one that failed before it.

    Raises:
        BundleError: The bundle's own file is at fault, whatever the engine.
        NoEngineError: None opened; the message has a line per candidate.
    """
    failures: list[str] = []
    for fit in choice.fits:
        try:
            return open_engine(bundle, fit.candidate), fit.candidate, failures
        except BundleError:
            raise
        except EdgeboneError as error:
            failures.append(f"{fit.candidate}: {error}")
    raise NoEngineError(f"{bundle.path}: every engine that should fit failed to open:", failures)
