"""What every engine can do."""

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

    Threads of the engine's own make every call into native code. A forked process has none of them: there every run
    raises ``EngineError``. ``run`` may be called from several threads at once. The arrays that it returns belong to the
    caller: a later call does not overwrite them. The arrays that were fed may be reused as soon as ``run`` is back.
    """

    @property
    def name(self) -> str:
        """The engine's name, such as ``onnxruntime``."""

    @property
    def precision(self) -> str:
        """The precision that the engine says it computes in, such as ``fp32`` or ``bf16``."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the network takes."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the network gives."""

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
        """Whether the next frame is best prepared while the engine runs: not where both want the same cores."""

    @property
    def in_flight(self) -> int:
        """How many runs at the same time it gains from."""

    def submit(self, feeds: Mapping[str, Array]) -> Future[Outputs]:
        """Start a run and return at once; waits only while too many runs are in flight.

        The arrays fed must stay unchanged until the future is done. Its result and errors are ``run``'s. What is
        called when it is done is called by the engine's own thread, and must not wait for the engine.
        """

    def __enter__(self) -> AsyncEngine:
        """Return itself."""


@runtime_checkable
class KeepsCompiled(Protocol):
    """An engine whose compiled network is kept in the user's cache for the next start.

    Attributes:
        cached: Where it is kept; None where it is not.
        from_cache: Whether it was there already.
    """

    cached: Cached | None
    from_cache: bool
