"""What can go wrong on the workstation; see :mod:`edgebone.core.errors` for the rest of the tree."""

from __future__ import annotations

from edgebone.core.errors import EdgeboneError


class ExportError(EdgeboneError, RuntimeError):
    """The network cannot be exported. Exit code 8."""

    exit_code = 8


class ParityError(ExportError):
    """The exported graph does not compute what PyTorch computes. Exit code 8."""


class WeightsError(EdgeboneError, ValueError):
    """Weights cannot be found, are not the publisher's, or do not fit the network. Exit code 9."""

    exit_code = 9


class UnknownModelError(EdgeboneError, KeyError):
    """There is no model of that name. Exit code 10."""

    exit_code = 10

    def __str__(self) -> str:
        """The message itself; KeyError would quote it."""
        return str(self.args[0])
