"""The protocol of all engines."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Protocol, runtime_checkable

from edgebone.core.caches import Cached
from edgebone.core.tensors import Array, TensorSpec

Outputs = dict[str, Array]


class Engine(Protocol):
    """A network, ready to run.

    The engine's own threads make every call into native code. A forked process has none of them: there every run raises
    ``EngineError``. ``run`` is thread-safe. The returned arrays belong to the caller: a later call does not overwrite
    them. The input arrays may be reused as soon as ``run`` returns.
    """

    @property
    def name(self) -> str:
        """The engine's name, such as ``onnxruntime``."""

    @property
    def precision(self) -> str:
        """The precision that the engine reports, such as ``fp32`` or ``bf16``."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The network's inputs."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The network's outputs."""

    def run(self, feeds: Mapping[str, Array]) -> Outputs:
        """Run once and wait.

        Args:
            feeds: Every input by name.

        Returns:
            Every output by name.

        Raises:
            TensorError: A feed's name, dtype or shape does not fit.
            EngineError: The engine failed, or is closed.
        """

    def close(self) -> None:
        """Free the network. A second call does nothing; a run afterwards raises ``EngineError``."""

    def __enter__(self) -> Engine:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""


class AsyncEngine(Engine, Protocol):
    """An engine that can have several runs in flight."""

    @property
    def overlaps(self) -> bool:
        """Whether to prepare the next frame while the engine runs: not if both need the same cores."""

    @property
    def in_flight(self) -> int:
        """The number of simultaneous runs that it benefits from."""

    def submit(self, feeds: Mapping[str, Array]) -> Future[Outputs]:
        """Start a run and return at once; waits only while too many runs are in flight.

        The arrays fed must stay unchanged until the future is done. Its result and errors are those of ``run``. Its
        callbacks run in the engine's own thread and must not wait for the engine.
        """

    def __enter__(self) -> AsyncEngine:
        """Return itself."""


@runtime_checkable
class KeepsCompiled(Protocol):
    """An engine whose compiled network is kept in the user's cache for the next start.

    Attributes:
        cached: Its place in the cache; None if it is not cached.
        from_cache: Whether it was already cached.
    """

    cached: Cached | None
    from_cache: bool
