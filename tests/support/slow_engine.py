"""A real engine that takes as long as a test wants, as a device of its own would: without the host's cores."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import edgebone
from edgebone.engines.protocol import Outputs


class SlowEngine:
    overlaps = True
    in_flight = 1

    def __init__(self, engine: Any, infer_s: float) -> None:
        self._engine = engine
        self._infer_s = infer_s
        self._pool = ThreadPoolExecutor(1)
        self.closed = False
        self.batches: list[int] = []
        self.answers = threading.Event()
        self.answers.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, feeds: Any) -> Outputs:
        return self.submit(feeds).result()

    def _run(self, feeds: Any) -> Outputs:
        began_s = time.monotonic()
        outputs = self._engine.run(feeds)
        time.sleep(max(0.0, began_s + self._infer_s - time.monotonic()))
        self.answers.wait()
        return outputs

    def submit(self, feeds: Any) -> Future[Outputs]:
        self.batches.append(len(next(iter(feeds.values()))))
        return self._pool.submit(self._run, feeds)

    def close(self) -> None:
        self._pool.shutdown()
        self._engine.close()
        self.closed = True


@contextmanager
def slow_model(bundle: Any, infer_s: float, **options: Any) -> Iterator[Any]:
    with edgebone.load(bundle, **options) as model:
        model.engine = SlowEngine(model.engine, infer_s)
        yield model
