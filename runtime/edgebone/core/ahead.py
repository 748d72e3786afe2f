"""Work that is done ahead of whoever takes its results: pictures are read and prepared while the engine runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from edgebone.core.machine import usable_cores

Item = TypeVar("Item")
Done = TypeVar("Done")

# One more than there are cores: some wait for the engine. A picture that is being read takes memory, and no machine
# needs more of them.
_MOST_THREADS = 16


def ahead(
    work: Callable[[Item], Done], items: Iterable[Item], threads: int | None = None, waiting: int = 8
) -> Generator[Done, None, None]:
    """Do work on items in a few threads, and give the results in the items' order, whichever is done first.

    At most ``threads`` items are worked on and ``waiting`` more are done or wait for it: memory is bounded, however
    many items there are. Closed before its end, it waits for the work that is under way and leaves the rest.

    Args:
        work: Is called in any of the threads. What it gives must depend on its item alone.
        items: Are taken in the caller's thread, not much sooner than their turn.
        threads: How many; None for one more than there are cores, since some wait for the engine.
        waiting: How many, so that nobody stands still where one of them takes long.

    Raises:
        Exception: What ``work`` raised, at the item's turn; what ``items`` raised, at once.
    """
    count = threads or min(usable_cores() + 1, _MOST_THREADS)
    under_way: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="edgebone-ahead")
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= count + waiting:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
