"""Frames from sources through a model, in real time."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from edgebone.core.frame import Frame
from edgebone.core.geometry import Geometry
from edgebone.core.results import Results
from edgebone.core.timing import Percentiles, Window
from edgebone.engines.protocol import Outputs
from edgebone.inbox import Inbox
from edgebone.preprocess import Pixels
from edgebone.sources.protocol import Source

if TYPE_CHECKING:
    from edgebone.model import Model


@dataclass(frozen=True)
class StreamStats:
    """How a stream is doing.

    Attributes:
        frames: Frames delivered.
        dropped: Frames of live sources that were skipped because newer ones had come.
        seconds: Time from the first frame's arrival to the latest delivery.
        fps: Frames delivered a second.
        pre: Preprocessing.
        infer: Inference, from hand-over to result.
        decode: Decoding.
        age: From capture to delivery.
    """

    frames: int
    dropped: int
    seconds: float
    fps: float
    pre: Percentiles
    infer: Percentiles
    decode: Percentiles
    age: Percentiles


@dataclass
class _InFlight:
    """Frames whose inference has begun."""

    batch: list[Frame]
    geometries: list[Geometry]
    buffer: Pixels
    submitted_ns: int
    future: Future[Outputs]
    done_ns: int = 0

    def __post_init__(self) -> None:
        self.future.add_done_callback(self._stamp)

    def _stamp(self, _: Future[Outputs]) -> None:
        self.done_ns = time.monotonic_ns()


class Stream:
    """Iterates over ``(frame, result)``; make one with :meth:`edgebone.Model.stream`.

    Files and folders lose no frame, and where the engine gains from it their next frame is prepared while the
    current one is inferred. Live sources always continue with their newest frame. Leaving the loop, or the
    ``with`` block, closes the sources; the model stays open.

    Attributes:
        sources: The sources, in the order of the call.
    """

    def __init__(self, model: Model, sources: Sequence[Source]) -> None:
        self.sources = sources
        self._model = model
        self._windows = {stage: Window() for stage in ("pre", "infer", "decode", "age")}
        self._latest = [-1] * len(sources)
        self._frames = 0
        self._dropped = 0
        self._stages_ns = 0
        self._started_ns = 0
        self._delivered_ns = 0
        # Weak, so that a loop that is left lets go of the generator, which then closes the sources at once.
        self._iterator: weakref.ref[Generator[tuple[Frame, Results], None, None]] | None = None
        self._begun = False

    def __iter__(self) -> Iterator[tuple[Frame, Results]]:
        """Begin, or go on where the loop before stopped: a stream is gone through once."""
        if self._iterator is not None:
            return self._iterator() or iter(())
        generator = self._run()
        self._iterator = weakref.ref(generator)
        return generator

    @property
    def stats(self) -> StreamStats:
        """The figures so far; percentiles over the latest 2048 frames."""
        seconds = max(0, self._delivered_ns - self._started_ns) / 1e9
        stages = {stage: window.percentiles() for stage, window in self._windows.items()}
        fps = self._frames / seconds if seconds else 0.0
        return StreamStats(self._frames, self._dropped, round(seconds, 3), round(fps, 2), **stages)

    @property
    def stage_mean_ms(self) -> float:
        """Mean time of a frame in preprocessing, inference and decoding together, over all frames."""
        return self._stages_ns / 1e6 / self._frames if self._frames else 0.0

    def close(self) -> None:
        """Stop reading and close the sources."""
        generator = iter(self)
        if isinstance(generator, Generator):
            generator.close()
        if not self._begun:
            self._begun = True
            for source in self.sources:
                source.close()

    def __enter__(self) -> Stream:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _run(self) -> Generator[tuple[Frame, Results], None, None]:
        self._begun = True
        one_by_one = any(source.live for source in self.sources) or not self._model.engine.overlaps
        batches = self._read_directly() if all(s.in_memory for s in self.sources) else self._read_ahead()
        try:
            yield from self._one_by_one(batches) if one_by_one else self._overlapped(batches)
        finally:
            batches.close()

    def _time(self, stage: str, duration_ns: int, frames: int = 1) -> None:
        """Note how long a stage took; each of several frames waited for all of it, and cost its share of it."""
        for _ in range(frames):
            self._windows[stage].add(duration_ns)
        self._stages_ns += duration_ns

    def _read_directly(self) -> Generator[list[Frame], None, None]:
        size = self._model.stream_batch
        batch: list[Frame] = []
        try:
            for number, source in enumerate(self.sources):
                while (frame := source.read()) is not None:
                    self._count(number, frame)
                    batch.append(frame)
                    if len(batch) == size:
                        yield batch
                        batch = []
            if batch:
                yield batch
        finally:
            for source in self.sources:
                source.close()

    def _read_ahead(self) -> Generator[list[Frame], None, None]:
        """Batches, where the model is loaded for one: of files full ones, of cameras what is there already."""
        size = self._model.stream_batch
        fill = not any(source.live for source in self.sources)
        inbox = Inbox(self.sources)
        failure: Exception | None = None
        try:
            while failure is None and (taken := inbox.take()) is not None:
                batch: list[Frame] = []
                while taken is not None:
                    self._count(*taken)
                    batch.append(taken[1])
                    if len(batch) == size:
                        break
                    try:
                        taken = inbox.take(wait=fill)
                    except Exception as error:
                        # Raised once the frames before it are delivered.
                        failure, taken = error, None
                yield batch
        finally:
            inbox.close()
        if failure is not None:
            raise failure

    def _count(self, number: int, frame: Frame) -> None:
        if not self._started_ns:
            self._started_ns = time.monotonic_ns()
        if self.sources[number].live:
            self._dropped += frame.index - self._latest[number] - 1
            self._latest[number] = frame.index

    def _one_by_one(self, batches: Iterator[list[Frame]]) -> Iterator[tuple[Frame, Results]]:
        """A live frame is worth most at once: no second one is prepared while it is inferred."""
        model = self._model
        buffer = model.new_buffer()
        for batch in batches:
            started_ns = time.monotonic_ns()
            geometries = model.preprocess([frame.image for frame in batch], buffer)
            prepared_ns = time.monotonic_ns()
            outputs = model.infer(buffer)
            inferred_ns = time.monotonic_ns()
            self._time("pre", prepared_ns - started_ns, len(batch))
            self._time("infer", inferred_ns - prepared_ns, len(batch))
            yield from self._deliver(batch, outputs, geometries)

    def _overlapped(self, batches: Iterator[list[Frame]]) -> Iterator[tuple[Frame, Results]]:
        """The next frames are prepared while the current ones are inferred: nothing waits for them."""
        model = self._model
        spare = [model.new_buffer(), model.new_buffer()]
        under_way: deque[_InFlight] = deque()
        failure: Exception | None = None
        try:
            while failure is None:
                try:
                    batch = next(batches)
                    under_way.append(self._begin(batch, spare.pop()))
                except StopIteration:
                    break
                except Exception as error:
                    # Raised once the frames before it, which are under way, are delivered.
                    failure = error
                if len(under_way) == 2:
                    yield from self._finish(under_way.popleft(), spare)
            while under_way:
                yield from self._finish(under_way.popleft(), spare)
        finally:
            for left in under_way:
                left.future.exception()
        if failure is not None:
            raise failure

    def _begin(self, batch: list[Frame], buffer: Pixels) -> _InFlight:
        started_ns = time.monotonic_ns()
        geometries = self._model.preprocess([frame.image for frame in batch], buffer)
        prepared_ns = time.monotonic_ns()
        self._time("pre", prepared_ns - started_ns, len(batch))
        return _InFlight(batch, geometries, buffer, prepared_ns, self._model.submit(buffer))

    def _finish(self, ran: _InFlight, spare: list[Pixels]) -> Iterator[tuple[Frame, Results]]:
        outputs = ran.future.result()
        spare.append(ran.buffer)
        self._time("infer", (ran.done_ns or time.monotonic_ns()) - ran.submitted_ns, len(ran.batch))
        return self._deliver(ran.batch, outputs, ran.geometries)

    def _deliver(
        self, batch: list[Frame], outputs: Outputs, geometries: list[Geometry]
    ) -> Iterator[tuple[Frame, Results]]:
        started_ns = time.monotonic_ns()
        results = self._model.decode(outputs, geometries)
        decoded_ns = time.monotonic_ns()
        self._time("decode", decoded_ns - started_ns, len(batch))
        for frame, result in zip(batch, results, strict=True):
            now_ns = time.monotonic_ns()
            self._windows["age"].add(now_ns - frame.captured_at_ns)
            self._frames += 1
            self._delivered_ns = now_ns
            yield frame, result
