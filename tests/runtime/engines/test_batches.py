"""Pictures through engines that take so many at a time: what fills up a batch never comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgebone.core.tensors import TensorSpec
from edgebone.engines.batches import batch_of, filled, in_batches, run_all, runs

PICTURES = np.arange(5, dtype=np.uint8)[:, None]


class Doubling:
    """Gives twice what it is fed, and remembers the batches."""

    def __init__(self, batch: int | str) -> None:
        self.inputs = (TensorSpec("images", "uint8", (batch, 1)),)
        self.fed: list[list[int]] = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.fed.append(feeds["images"][:, 0].tolist())
        return {"doubled": feeds["images"] * 2}


def test_a_batch_is_filled_up_with_its_own_rows_from_the_first_on() -> None:
    assert filled(PICTURES[3:], 5)[:, 0].tolist() == [3, 4, 3, 4, 3]
    assert filled(PICTURES, 2) is PICTURES
    assert [batch[:, 0].tolist() for batch in in_batches(PICTURES, 2)] == [[0, 1], [2, 3], [4, 4]]


@pytest.mark.parametrize(
    ("size", "least", "fed"),
    [
        (2, None, [[0, 1], [2, 3], [4, 4]]),
        (1, None, [[0], [1], [2], [3], [4]]),
        (8, None, [[0, 1, 2, 3, 4, 0, 1, 2]]),
        (4, 1, [[0, 1, 2, 3], [4]]),
        (4, 2, [[0, 1, 2, 3], [4, 4]]),
    ],
)
def test_every_picture_is_run_once_and_answered_in_order(size: int, least: int | None, fed: list[list[int]]) -> None:
    engine: Any = Doubling("batch")
    assert run_all(engine, PICTURES, size, least)["doubled"][:, 0].tolist() == [0, 2, 4, 6, 8]
    assert engine.fed == fed
    assert [len(part["doubled"]) for part in runs(engine, PICTURES, 4)] == [4, 1]


def test_the_batch_is_the_engines_or_one() -> None:
    fixed, free = Doubling(3), Doubling("batch")
    assert (batch_of(fixed), batch_of(free)) == (3, 1)  # type: ignore[arg-type]
