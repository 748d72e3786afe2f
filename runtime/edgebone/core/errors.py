"""The error tree. Every message names the object, what was expected, what was found and the next step.

Each class carries the exit code of the command line, so that scripts can tell the kinds apart.
"""

from __future__ import annotations

from collections.abc import Sequence


class EdgeboneError(Exception):
    """Anything that edgebone rejects or cannot do. Exit code 1."""

    exit_code = 1


class BundleError(EdgeboneError, ValueError):
    """The bundle cannot be read, is of another version, or was altered. Exit code 3."""

    exit_code = 3


class SourceError(EdgeboneError, OSError):
    """A picture, video or camera cannot be opened or read. Exit code 4."""

    exit_code = 4


class EngineError(EdgeboneError, RuntimeError):
    """An engine cannot be opened, or failed while running. Exit code 5."""

    exit_code = 5


class EngineStalledError(EngineError):
    """An engine no longer answers: restart its process. Exit code 5."""


class NoEngineError(EngineError):
    """No engine on this machine runs the bundle; the message has a line for each candidate. Exit code 5.

    Attributes:
        problem: The first line.
        reasons: One line for each candidate.
    """

    def __init__(self, problem: str, reasons: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join([problem, *reasons]))
        self.problem = problem
        self.reasons = tuple(reasons)


class DeviceOutOfMemoryError(EngineError):
    """The accelerator is out of memory; the engine that hit the limit is broken. Exit code 5."""


class DeviceLostError(EngineError):
    """The accelerator stopped answering; the engine that ran on it is broken. Exit code 5."""


class TensorError(EngineError, ValueError):
    """A tensor's name, dtype or shape is not what the engine accepts. Exit code 5."""


class MissingDependencyError(EdgeboneError, ImportError):
    """An optional package is not installed; the message holds the pip line. Exit code 6."""

    exit_code = 6


class OutputError(EdgeboneError, OSError):
    """A result cannot be written: read-only target, full disk, existing file. Exit code 7."""

    exit_code = 7


def raise_interrupt(error: BaseException) -> None:
    """Re-raise a Ctrl-C or SIGTERM that a compiled module wrapped into an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if not isinstance(cause, Exception):
            raise cause
        cause = cause.__cause__ or cause.__context__


def missing(package: str, extra: str, purpose: str) -> MissingDependencyError:
    """Build the error for an optional package that is not installed.

    Args:
        package: The import name that failed, such as ``onnxruntime``.
        extra: The extra of edgebone that installs it, such as ``cpu``.
        purpose: What it is needed for, as the end of "... needs it".
    """
    return MissingDependencyError(
        f'{package} is not installed, and {purpose} needs it: pip install "edgebone[{extra}]"'
    )
