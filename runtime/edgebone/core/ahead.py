"""Work done ahead of its consumer: pictures are read and prepared while the engine runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from edgebone.core.machine import usable_cores

Item = TypeVar("Item")
Done = TypeVar("Done")

# One more than there are cores: some wait for the engine. Each picture being read takes memory, and no machine needs
# more threads than this.
_MOST_THREADS = 16


def ahead(
    work: Callable[[Item], Done], items: Iterable[Item], threads: int | None = None, waiting: int = 8
) -> Generator[Done, None, None]:
    """Run ``work`` on items in a few threads and yield the results in the order of the items.

    At most ``threads`` items are in progress and ``waiting`` more are queued or finished, so memory is bounded for any
    number of items. Closed early, the generator waits for the work in progress and skips the rest.

    Args:
        work: Called in any of the threads. Its result must depend on its item alone.
        items: Iterated in the caller's thread, only shortly ahead of need.
        threads: Number of threads; None for one more than there are cores, since some wait for the engine.
        waiting: Number of further items, so that one slow item does not stall the others.

    Raises:
        Exception: Any exception from ``work``, at the item's turn; any from ``items``, at once.
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
