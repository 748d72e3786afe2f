"""Which engine runs a bundle on a machine, and why not the others. Pure: everything it needs is passed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebone.core.bundle import Bundle
from edgebone.core.errors import EdgeboneError, EngineError, NoEngineError
from edgebone.core.machine import Machine
from edgebone.core.manifest import Manifest, Variant
from edgebone.core.tensors import TensorSpec
from edgebone.engines.protocol import AsyncEngine

ENGINES = ("onnxruntime-cuda", "openvino", "onnxruntime")
PRECISIONS = ("fp32", "bf16", "auto")


def precisions_of(engine: str) -> tuple[str, ...]:
    """The precisions that an engine can be asked for, given one FP32 graph."""
    return ("fp32", "bf16") if engine == "openvino" else ("fp32",)


@dataclass(frozen=True)
class Candidate:
    """One way to run a bundle.

    Attributes:
        engine: One of ``ENGINES``.
        precision: One of ``PRECISIONS``.
        variant: The bundle's variant that it would load.
    """

    engine: str
    precision: str
    variant: str

    def __str__(self) -> str:
        """``openvino bf16``."""
        return f"{self.engine} {self.precision}"


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


def candidates(manifest: Manifest, engine: str = "auto", precision: str = "fp32") -> list[Candidate]:
    """Every way to run this bundle that the user's words allow, preferred engine not yet considered.

    Raises:
        EngineError: Unknown engine or precision.
    """
    if engine not in ("auto", *ENGINES):
        raise EngineError(f"there is no engine {engine}; choose auto, {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise EngineError(f"there is no precision {precision}; choose {', '.join(PRECISIONS)}")
    names = ENGINES if engine == "auto" else (engine,)
    return [Candidate(name, precision, variant) for name in names for variant in manifest.variants]


def check(candidate: Candidate, machine: Machine) -> Fit | Reject:
    """Whether a candidate runs on a machine."""
    if candidate.engine == "openvino":
        return _check_openvino(candidate, machine)
    return _check_onnxruntime(candidate, machine)


def _check_openvino(candidate: Candidate, machine: Machine) -> Fit | Reject:
    if "openvino" not in machine.packages:
        return Reject(candidate, 'openvino is not installed: pip install "edgebone[openvino]"')
    native = {"avx512_bf16", "amx_bf16", "bf16"} & set(machine.cpu_features)
    if candidate.precision == "bf16" and not native:
        return Reject(candidate, "this processor does not compute in BF16 natively, so that FP32 is faster")
    return Fit(candidate, f"openvino {machine.packages['openvino']} on {machine.arch}")


def _check_onnxruntime(candidate: Candidate, machine: Machine) -> Fit | Reject:
    cuda = candidate.engine == "onnxruntime-cuda"
    if "onnxruntime" not in machine.packages:
        extra = "gpu" if cuda else "cpu"
        return Reject(candidate, f'onnxruntime is not installed: pip install "edgebone[{extra}]"')
    if candidate.precision not in (*precisions_of(candidate.engine), "auto"):
        return Reject(candidate, f"{candidate.engine} runs the graph as it is, in fp32; openvino has bf16")
    if cuda and not (machine.gpus or machine.jetson):
        return Reject(candidate, "no NVIDIA GPU is seen on this machine")
    if cuda and "cuda" not in machine.onnxruntime_providers:
        return Reject(
            candidate,
            'the installed onnxruntime has no CUDA provider: pip uninstall onnxruntime && pip install "edgebone[gpu]"',
        )
    return Fit(candidate, f"onnxruntime {machine.packages['onnxruntime']} on {machine.arch}")


@dataclass(frozen=True)
class Choice:
    """The candidates that fit, best first, and those that do not."""

    fits: tuple[Fit, ...]
    rejects: tuple[Reject, ...]

    def __str__(self) -> str:
        """One line a candidate."""
        lines = [f"{fit.candidate}: fits, {fit.reason}" for fit in self.fits]
        return "\n".join([*lines, *(f"{reject.candidate}: {reject.reason}" for reject in self.rejects)])


def choose(options: Sequence[Candidate], machine: Machine) -> Choice:
    """Sort candidates into those that fit, best first, and those that do not.

    A GPU comes first. On x86 OpenVINO is as fast as onnxruntime or faster on most networks; on ARM
    onnxruntime is. `edgebone bench` measures what holds on the machine at hand.

    Raises:
        NoEngineError: Nothing fits; the message has a line per candidate.
    """
    verdicts = [check(option, machine) for option in options]
    fits = [verdict for verdict in verdicts if isinstance(verdict, Fit)]
    rejects = tuple(verdict for verdict in verdicts if isinstance(verdict, Reject))
    if not fits:
        lines = "".join(f"\n  {reject.candidate}: {reject.reason}" for reject in rejects)
        raise NoEngineError(f"no engine on this machine runs the bundle:{lines}")
    on_arm = machine.arch in ("aarch64", "arm64")
    order = ("onnxruntime-cuda", "onnxruntime", "openvino") if on_arm else ENGINES
    fits.sort(key=lambda fit: order.index(fit.candidate.engine))
    return Choice(tuple(fits), rejects)


def open_engine(bundle: Bundle, candidate: Candidate, threads: int | None = None) -> AsyncEngine:
    """Load a bundle's variant into an engine.

    Args:
        bundle: An open bundle.
        candidate: What to load, and into what.
        threads: Threads for inference; None takes every core.

    Raises:
        MissingDependencyError: The engine's package is not installed.
        EngineError: The engine refuses the network, or cannot start.
    """
    variant = bundle.manifest.variants[candidate.variant]
    model: Path | bytes = bundle.file_path(variant.file) or bundle.read(variant.file)
    engine = _open(candidate, model, threads, variant)
    _check_against_manifest(bundle, engine)
    return engine


def _open(candidate: Candidate, model: Path | bytes, threads: int | None, variant: Variant) -> AsyncEngine:
    if candidate.engine == "openvino":
        from edgebone.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(model, precision=candidate.precision, threads=threads, batch_range=variant.batch)
    from edgebone.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(
        model,
        device="cuda" if candidate.engine == "onnxruntime-cuda" else "cpu",
        threads=threads,
        batch_range=variant.batch,
    )


def _check_against_manifest(bundle: Bundle, engine: AsyncEngine) -> None:
    """Refuse a network whose inputs or outputs are not those that the manifest describes."""
    manifest = bundle.manifest
    wanted = ([manifest.input.name], [spec.name for spec in manifest.outputs])
    found = ([spec.name for spec in engine.inputs], [spec.name for spec in engine.outputs])
    if wanted != found:
        engine.close()
        raise EngineError(
            f"{bundle.path}: the network has inputs and outputs {found}, its manifest says {wanted}; "
            "export the bundle again"
        )
    for said, is_ in zip((manifest.input, *manifest.outputs), (*engine.inputs, *engine.outputs), strict=True):
        if not _agree(said, is_):
            engine.close()
            raise EngineError(
                f"{bundle.path}: the network has {is_}, its manifest says {said}; export the bundle again"
            )


def _agree(said: TensorSpec, is_: TensorSpec) -> bool:
    """Whether two descriptions can be of one tensor: a size that either leaves free fits any other."""
    return (
        said.dtype == is_.dtype
        and len(said.shape) == len(is_.shape)
        and all(a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(said.shape, is_.shape, strict=True))
    )


def open_first(bundle: Bundle, choice: Choice, threads: int | None = None) -> tuple[AsyncEngine, Candidate, list[str]]:
    """Open the best engine that fits; when one that should fit fails to open, go on to the next.

    Returns:
        The engine, its candidate, and a line for each one that failed before it.

    Raises:
        NoEngineError: None opened; the message has a line per candidate.
    """
    failures: list[str] = []
    for fit in choice.fits:
        try:
            return open_engine(bundle, fit.candidate, threads), fit.candidate, failures
        except EdgeboneError as error:
            failures.append(f"{fit.candidate}: {error}")
    lines = "".join(f"\n  {line}" for line in failures)
    raise NoEngineError(f"{bundle.path}: every engine that should fit failed to open:{lines}")
