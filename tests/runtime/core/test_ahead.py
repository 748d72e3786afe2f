"""Work done ahead: in order, with so many under way and no more, whichever is done first."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from edgebone.core.ahead import ahead


def test_results_come_in_order_whichever_is_done_first() -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number

    assert list(ahead(work, range(20), threads=4)) == list(range(20))


def test_work_overlaps_with_whoever_takes_its_results() -> None:
    both = threading.Barrier(2, timeout=10)

    def work(number: int) -> int:
        if number:
            both.wait()
        return number

    with closing(ahead(work, range(2), threads=1)) as found:
        assert next(found) == 0
        # The second one is worked on although nobody has asked for it.
        both.wait()


def test_a_bounded_number_is_taken_ahead_of_its_turn() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with closing(ahead(lambda number: number, items(), threads=2)) as found:
        assert next(found) == 0
        assert len(taken) == 10
        assert next(found) == 1
        assert len(taken) == 11


def test_what_fails_is_raised_at_its_turn_and_the_rest_is_left() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("the fourth")
        done.append(number)
        return number

    found = ahead(work, range(1000), threads=2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(found)
    assert len(done) < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgebone-ahead")]
