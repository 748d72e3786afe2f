"""The contract of a graph pass, and the loop that runs and checks passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import onnx_ir as ir

from edgebone_export.errors import ExportError, ParityError

Checked = TypeVar("Checked")


class GraphPass(Protocol):
    """One change to a graph."""

    @property
    def name(self) -> str:
        """A short name of the change."""

    def requires(self, model: ir.Model) -> None:
        """Raise ExportError if the pass cannot work on the graph."""

    def apply(self, model: ir.Model) -> ir.Model:
        """Change the graph, in place or not, and return it."""

    def ensures(self, model: ir.Model) -> None:
        """Raise ExportError if the changed graph breaks the pass's promise."""


@dataclass(frozen=True)
class PassRecord(Generic[Checked]):
    """The record of one pass.

    Attributes:
        name: The pass's name, or the origin of the graph before the first pass.
        seconds: Duration without the check.
        nodes: Number of nodes after the pass.
        checked: The check's result.
    """

    name: str
    seconds: float
    nodes: int
    checked: Checked


def run_passes(
    model: ir.Model, passes: Sequence[GraphPass], check: Callable[[ir.Model], Checked], first: str = "trace"
) -> tuple[ir.Model, list[PassRecord[Checked]]]:
    """Run passes in order and check the graph before the first and after each.

    Args:
        model: The graph.
        passes: Passes to run.
        check: Raises ParityError if the graph's outputs have changed.
        first: Origin of the graph, for the record before the first pass.

    Raises:
        ExportError: A pass's requirement or promise does not hold; the message names it and the passes before it.
        ParityError: The check failed; the message names the pass and those before it.
    """
    records = [PassRecord(first, 0.0, _nodes(model), _checked(model, first, [], check))]
    for graph_pass in passes:
        before = [record.name for record in records]
        started = time.monotonic()
        try:
            graph_pass.requires(model)
            model = graph_pass.apply(model)
            graph_pass.ensures(model)
        except ExportError as error:
            raise ExportError(f"pass {graph_pass.name} (after {', '.join(before)}): {error}") from error
        seconds = round(time.monotonic() - started, 3)
        checked = _checked(model, graph_pass.name, before, check)
        records.append(PassRecord(graph_pass.name, seconds, _nodes(model), checked))
    return model, records


def _checked(model: ir.Model, name: str, before: Sequence[str], check: Callable[[ir.Model], Checked]) -> Checked:
    try:
        return check(model)
    except ParityError as error:
        after = f" (after {', '.join(before)})" if before else ""
        raise ParityError(f"{name}{after} broke the network: {error}") from error


def _nodes(model: ir.Model) -> int:
    return sum(1 for _ in model.graph)


def count_nodes(model: ir.Model, op_type: str) -> int:
    """Return the number of nodes of a type."""
    return sum(node.op_type == op_type for node in model.graph)
