"""Reports that a machine was busy during a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgebone.cli.output import note

if TYPE_CHECKING:
    from edgebone.core.quiet import Disturbed


def note_if_disturbed(disturbed: Disturbed | None) -> None:
    """Write a line to stderr if the machine was busy."""
    if disturbed is not None and not disturbed.is_quiet:
        note(f"edgebone: the machine was busy: {disturbed}; measure again when it is idle; it may be faster")
