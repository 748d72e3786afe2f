"""What is known of an engine before it is imported: the row that it has in the table of engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from edgebone.core.machine import Machine
    from edgebone.core.manifest import Variant


@dataclass(frozen=True)
class Candidate:
    """One way to run a bundle.

    Attributes:
        engine: An engine's name.
        precision: One of ``edgebone.engines.select.PRECISIONS``.
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


@dataclass(frozen=True)
class TritonBackend:
    """How NVIDIA Triton serves what an engine runs; the backend has the engine's name.

    Attributes:
        kind: The kind of its instances.
        compiled: Whether it serves engines that the bundle was compiled to, instead of its ONNX file.
        pads: Whether a smaller batch must be padded to the largest, which Triton does where it is allowed to.
    """

    kind: Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"] = "KIND_AUTO"
    compiled: bool = False
    pads: bool = False


@dataclass(frozen=True)
class CompileResult:
    """One network that ``edgebone compile`` compiled, or found compiled.

    Attributes:
        text: What is said of it in a line.
        record: What ``--json`` prints of it.
    """

    text: str
    record: object


def only_own(variant: Variant | None) -> tuple[str, ...]:
    """The precision of an engine that computes the graph as it is: the variant's own."""
    return ("fp32",) if variant is None else (variant.precision,)


@dataclass(frozen=True)
class EngineSpec:
    """One engine: when it is taken, and where it is opened.

    Attributes:
        name: Its name, as ``--engine`` takes it.
        packages: What it needs installed: import names, and for each the distributions that may bring it. The versions
            that are found are in ``Machine.packages``.
        on_cpu: Whether it computes on the cores that preprocess the frames.
        rank: Its rank on a machine; of the engines that fit, the one with the lowest is taken. edgebone's own have 10
            to 70.
        check: Whether a candidate runs on a machine, and why. Nothing but its arguments may be looked at. The variant
            is None where it is one in FP32.
        open: ``module:function`` of what opens it: called with an :class:`edgebone.engines.request.EngineRequest`,
            returns an :class:`edgebone.engines.protocol.AsyncEngine`.
        precisions: The precisions that it can be asked for, given a variant; the variant's own first.
        computes: What it computes in, in words that follow its name.
        compile: ``module:function`` of what ``edgebone compile`` calls; None where it has nothing to compile. Called
            with the bundle's path, the target as it was typed, the names of the variants (none for all), the settings
            that were given by name, a function for progress (variant, phase, share) and one for remarks; returns a
            list of :class:`CompileResult`.
        compile_settings: The names of the settings that ``compile`` takes.
        compiles_for_minutes: Whether it may compile for minutes as it opens.
        may_skip_file: Whether it may open from what it kept compiled, without reading the network's file.
        dialects: The forms of quantized graphs that are made for it.
        triton: How Triton serves it; None where it does not.
        aliases: What others call it, in small letters.
    """

    name: str
    packages: Mapping[str, Sequence[str]]
    on_cpu: bool
    rank: Callable[[Machine], int]
    check: Callable[[Candidate, Machine, Variant | None], Fit | Reject]
    open: str
    precisions: Callable[[Variant | None], tuple[str, ...]] = only_own
    computes: str = "runs the graph as it is, in fp32; openvino has bf16"
    compile: str | None = None
    compile_settings: frozenset[str] = field(default_factory=frozenset)
    compiles_for_minutes: bool = False
    may_skip_file: bool = False
    dialects: tuple[str, ...] = ()
    triton: TritonBackend | None = None
    aliases: tuple[str, ...] = ()
