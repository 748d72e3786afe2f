"""Runs any number of pictures through an engine of a given batch size; padding is dropped from the outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.engines.protocol import Engine, Outputs


def filled(rows: NDArray[Any], least: int) -> NDArray[Any]:
    """Return at least ``least`` rows, repeating them from the first; the array itself if it has enough."""
    return rows if len(rows) >= least else np.resize(rows, (least, *rows.shape[1:]))


def in_batches(inputs: NDArray[Any], size: int) -> list[NDArray[Any]]:
    """Split pictures into batches of ``size``; the last one is padded with its own pictures."""
    return [np.ascontiguousarray(filled(inputs[start : start + size], size)) for start in range(0, len(inputs), size)]


def batch_of(engine: Engine) -> int:
    """Return an engine's batch size: one if it is free."""
    size = engine.inputs[0].shape[0]
    return size if isinstance(size, int) else 1


def runs(engine: Engine, inputs: NDArray[Any], size: int, least: int | None = None) -> Iterator[Outputs]:
    """Run pictures, ``size`` at a time.

    Args:
        engine: An engine with one input.
        inputs: The pictures, (n, …).
        size: Pictures per run; the last run has the rest, at least ``least``.
        least: The smallest batch; None for ``size``.

    Yields:
        Every output by name, one row per picture of the run.

    Raises:
        EngineError: The engine failed.
    """
    name = engine.inputs[0].name
    for start in range(0, len(inputs), size):
        own = inputs[start : start + size]
        fed = np.ascontiguousarray(filled(own, size if least is None else least))
        outputs = engine.run({name: fed})
        yield outputs if len(fed) == len(own) else {key: array[: len(own)] for key, array in outputs.items()}


def run_all(engine: Engine, inputs: NDArray[Any], size: int, least: int | None = None) -> Outputs:
    """Return the outputs of all pictures, (n, …) by name; arguments and errors as :func:`runs`."""
    parts = list(runs(engine, inputs, size, least))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
