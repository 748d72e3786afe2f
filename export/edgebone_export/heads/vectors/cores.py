"""Limit numerical calls to one core, so that several models can be fitted at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_core_per_call() -> Iterator[None]:
    """Keep NumPy's and torch's calls on one core each, in all threads.

    For many small fits, one thread per fit is faster than all cores for each in turn. It is much faster if other
    programs use the same cores, since threads that share a call wait for the slowest; and results do not depend on the
    number of cores.
    """
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    with threadpool_limits(1):
        if torch is not None:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)
