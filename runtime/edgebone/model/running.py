"""What goes through a model in one run: pictures that are prepared, and what the network and its heads return."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

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

    def hand_on(_: Future[Outputs]) -> None:
        error = outputs.exception()
        if error is None:
            done.set_result(Ran(outputs.result()))
        else:
            done.set_exception(error)

    outputs.add_done_callback(hand_on)
    return done
