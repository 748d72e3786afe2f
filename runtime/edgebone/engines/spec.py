"""The description of an engine before it is imported: its row in the table of engines."""

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
        variant: The bundle's variant or frame variant that it would load.
        hint: ``latency`` or ``throughput``, for engines that distribute runs over the cores by it.
        threads: Threads for inference; None uses every core.
        batch: The one batch size that it is loaded for; None for whatever the variant allows.
    """

    engine: str
    precision: str
    variant: str
    hint: str = "latency"
    threads: int | None = None
    batch: int | None = None

    def __str__(self) -> str:
        """Return ``openvino bf16``, with any settings that differ from the defaults."""
        more = [f"{self.hint} hint"] if self.hint != "latency" else []
        more += [f"{self.threads} thread{'' if self.threads == 1 else 's'}"] if self.threads is not None else []
        more += [f"batch {self.batch}"] if self.batch is not None else []
        return f"{self.engine} {self.precision}" + (f" ({', '.join(more)})" if more else "")


@dataclass(frozen=True)
class Fit:
    """The candidate runs here; ``reason`` says why."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class Reject:
    """The candidate does not run here; ``reason`` says why, and what would help."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class TritonBackend:
    """How NVIDIA Triton serves an engine's networks; the backend has the engine's name.

    Attributes:
        kind: The kind of its instances.
        compiled: Whether it serves the bundle's compiled engines instead of its ONNX file.
        pads: Whether smaller batches must be padded to the largest, which Triton does if allowed.
    """

    kind: Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"] = "KIND_AUTO"
    compiled: bool = False
    pads: bool = False


@dataclass(frozen=True)
class CompileResult:
    """One network that ``edgebone compile`` compiled or found compiled.

    Attributes:
        text: Its line of output.
        record: Its record for ``--json``.
    """

    text: str
    record: object


def only_own(variant: Variant | None) -> tuple[str, ...]:
    """Return the precision of an engine that runs the graph as it is: the variant's own."""
    return ("fp32",) if variant is None else (variant.precision,)


@dataclass(frozen=True)
class EngineSpec:
    """One engine: when it is chosen, and how it is opened.

    Attributes:
        name: Its name for ``--engine``.
        packages: Required import names, each with the distributions that may install it. The versions found are in
            ``Machine.packages``.
        on_cpu: Whether it runs on the cores that preprocess the frames.
        rank: Its rank on a machine; the fitting engine of lowest rank is chosen. edgebone's own have 10 to 70.
        check: Whether a candidate runs on a machine, and why. It may only use its arguments. The variant is None for
            FP32.
        open: ``module:function`` that opens it: called with an :class:`edgebone.engines.request.EngineRequest`, returns
            an :class:`edgebone.engines.protocol.AsyncEngine`.
        precisions: The precisions that can be requested for a variant; the variant's own first.
        computes: Its precisions, in words that follow its name.
        compile: ``module:function`` that ``edgebone compile`` calls; None if there is nothing to compile. Called with
            the bundle's path, the target as typed, the names of the variants (empty for all), the settings by name, a
            function for progress (variant, phase, share) and one for notices; returns a list of :class:`CompileResult`.
        compile_settings: The names of the settings that ``compile`` takes.
        compiles_for_minutes: Whether it may compile for minutes as it opens.
        may_skip_file: Whether it may open a cached network without reading the network's file.
        dialects: The forms of quantized graphs for it.
        triton: How Triton serves it; None if it does not.
        aliases: Its other names, in lower case.
    """

    name: str
    packages: Mapping[str, Sequence[str]]
    on_cpu: bool
    rank: Callable[[Machine], int]
    check: Callable[[Candidate, Machine, Variant | None], Fit | Reject]
    open: str
    precisions: Callable[[Variant | None], tuple[str, ...]] = only_own
    computes: str = "runs the graph as it is, in fp32; openvino supports bf16"
    compile: str | None = None
    compile_settings: frozenset[str] = field(default_factory=frozenset)
    compiles_for_minutes: bool = False
    may_skip_file: bool = False
    dialects: tuple[str, ...] = ()
    triton: TritonBackend | None = None
    aliases: tuple[str, ...] = ()
