"""The data of one run of a model: prepared pictures, and the outputs of the network and its heads."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import NDArray

from edgebone.core.errors import EngineError
from edgebone.core.geometry import Geometry
from edgebone.engines.protocol import AsyncEngine, Outputs
from edgebone.model.attached_heads import HeadRun


@dataclass(frozen=True)
class Prepared:
    """Pictures prepared for an engine.

    Attributes:
        engine: The engine that they are prepared for.
        feed: uint8, (n, height, width, 3) of the network's size, or frames as they are.
        geometries: Where each picture lies in the network's input.
    """

    engine: AsyncEngine
    feed: NDArray[Any]
    geometries: list[Geometry]


@dataclass(frozen=True)
class Ran:
    """The outputs of a run.

    Attributes:
        network: The network's outputs, by name.
        heads: The detached heads' outputs, by head; empty if all heads are in the network's graph.
    """

    network: Outputs
    heads: Mapping[str, HeadRun] = field(default_factory=dict)


def ran(outputs: Future[Outputs]) -> Future[Ran]:
    """Wrap a network's outputs as a run without detached heads; the future's error is the same."""
    done: Future[Ran] = Future()
    outputs.add_done_callback(partial(_hand_on, done))
    return done


def _hand_on(done: Future[Ran], outputs: Future[Outputs]) -> None:
    # Keeps no reference to the future or its tensors: a reference cycle would keep them in memory for long.
    if outputs.cancelled():
        done.set_exception(EngineError("the engine cancelled a run"))
        return
    error = outputs.exception()
    if error is None:
        done.set_result(Ran(outputs.result()))
    else:
        done.set_exception(error)
