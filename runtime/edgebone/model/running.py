"""What goes through a model in one run: pictures that are prepared, and what the network and its heads return."""

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
    """Pictures as an engine takes them.

    Attributes:
        engine: The engine that takes them in this form.
        feed: uint8, (n, height, width, 3) of the network's size, or frames as they are.
        geometries: Where each picture lies in the network's input.
    """

    engine: AsyncEngine
    feed: NDArray[Any]
    geometries: list[Geometry]


@dataclass(frozen=True)
class Ran:
    """What a run returned.

    Attributes:
        network: The network's outputs, by name.
        heads: What the heads behind it returned, by head; none where all are part of the network's graph.
    """

    network: Outputs
    heads: Mapping[str, HeadRun] = field(default_factory=dict)


def ran(outputs: Future[Outputs]) -> Future[Ran]:
    """A network's outputs as a run without further heads; the future's error is the same."""
    done: Future[Ran] = Future()
    outputs.add_done_callback(partial(_hand_on, done))
    return done


def _hand_on(done: Future[Ran], outputs: Future[Outputs]) -> None:
    # Holds neither the future nor its tensors: in a circle they would stay in memory for long.
    if outputs.cancelled():
        done.set_exception(EngineError("the engine cancelled a run"))
        return
    error = outputs.exception()
    if error is None:
        done.set_result(Ran(outputs.result()))
    else:
        done.set_exception(error)
