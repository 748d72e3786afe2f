"""Runs frames from sources through a model in real time."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, NoReturn

from edgebone.core.errors import EngineError, EngineStalledError, TensorError
from edgebone.core.frame import Frame
from edgebone.core.results import Results
from edgebone.preprocess import Pixels
from edgebone.sources.limits import Limits
from edgebone.sources.protocol import Source
from edgebone.stream.inbox import Inbox, own_frame
from edgebone.stream.outbox import Delivery, Outbox
from edgebone.stream.served import M, Prepared
from edgebone.stream.stats import Delivered, Meter, SourceStats, StreamStats
from edgebone.stream.turns import HeadTurns, check_rates
from edgebone.stream.watchdog import Watchdog

Taken = tuple[int, Frame]
# How much earlier than needed the next frame is taken, for threads that wake late.
_SPARE_S = 0.001
# How often a thread that waits for a frame signals that it is alive.
_PULSE_S = 0.5


@dataclass(frozen=True)
class _InFlight(Generic[M]):
    """Frames whose inference has started; ``done_ns`` is filled when it ends."""

    model: M
    batch: list[Taken]
    prepared: Prepared
    buffer: Pixels
    submitted_ns: int
    future: Future[Any]
    done_ns: list[int]
    heads: list[Collection[str]] | None
    turns: list[int]


def _stamp_when_done(future: Future[Any], then: Callable[[], None]) -> list[int]:
    """Record when a run ends. Its future must not hold the frames: a cycle would keep them in memory for long."""
    done_ns: list[int] = []

    def stamp(_: Future[Any]) -> None:
        done_ns.append(time.monotonic_ns())
        then()

    future.add_done_callback(stamp)
    return done_ns


class Stream(Generic[M]):
    """Iterates over ``(frame, result)``; create it with :meth:`edgebone.Model.stream`.

    Files and folders lose no frame, and if the engine benefits their next frame is prepared during inference of the
    current one. Live sources continue with their newest frame: the stream's own thread keeps the engine busy while the
    caller works, and the caller gets each camera's newest result. Cameras take turns, so that none starves; a model
    loaded for a batch gets frames of several cameras at once, and never waits for a late one.

    Leaving the loop, or the ``with`` block, closes the sources; the model stays open.

    Args:
        model: The model.
        sources: The sources.
        limits: Which of each source's frames are wanted; empty for all.
        look: Whether the model runs on each frame; else frames come without results, and a live source's newest one is
            taken when the caller asks for it.
        forgiving: A source that fails ends, while the others continue; its error is in ``stats``. Else it raises.
        stall_s: The time without an answer after which an engine counts as stalled: longer than any run, including the
            first one of an engine that still prepares itself. Time in which the process was suspended does not count.
        pulse: Called at each frame, and at least once a second while the caller waits for one: shows that neither the
            stream nor its caller is stalled.

    Attributes:
        sources: The sources, in the order of the call.
        names: Their unique names in frames, in ``stats`` and in messages.
        model: The current model; another one after :meth:`swap`.
        answered_by: The model that made the current result: after a swap, the previous one for some more frames.
    """

    def __init__(
        self,
        model: M,
        sources: Sequence[Source],
        limits: Sequence[Limits] = (),
        *,
        look: bool = True,
        forgiving: bool = False,
        stall_s: float = 60.0,
        pulse: Callable[[], object] = lambda: None,
    ) -> None:
        self.sources = sources
        self.model = model
        self.answered_by = model
        self._first_model = model
        self._look = look
        self._inbox = Inbox(
            sources, limits, forgiving, lambda frame: self.model.pixels_of(frame) if look else frame.image
        )
        self.names = self._inbox.names
        self._live = any(source.live for source in sources)
        self._direct = all(source.in_memory for source in sources) and all(limit == Limits() for limit in limits)
        self._meter = Meter()
        self._delivered = [Delivered() for _ in sources]
        self._frames = 0
        self._started_ns = 0
        self._delivered_ns = 0
        self._run_s = 0.0
        self._prepare_s = 0.0
        self._done_ns = 0
        self._handed_ns = 0
        self._turns = [HeadTurns() for _ in sources]
        self._buffers: list[Pixels] = []
        self._under_way: deque[_InFlight[M]] = deque()
        self._next_model: M | None = None
        self._swapping = threading.Lock()
        self._ended = False
        self._stall_s = stall_s
        self._pulse = pulse
        self._stalled = False
        # Weak, so that leaving a loop releases the generator, which then closes the sources at once.
        self._iterator: weakref.ref[Generator[tuple[Frame, Results], None, None]] | None = None
        self._begun = False

    def __iter__(self) -> Iterator[tuple[Frame, Results]]:
        """Start, or continue where the previous loop stopped: a stream is iterated once."""
        if self._iterator is not None:
            return self._iterator() or iter(())
        generator = self._run()
        self._iterator = weakref.ref(generator)
        return generator

    @property
    def stats(self) -> StreamStats:
        """The figures so far; thread-safe."""
        seconds = max(0, self._delivered_ns - self._started_ns) / 1e9
        fps = self._frames / seconds if seconds else 0.0
        sources = tuple(self._source_stats(number) for number in range(len(self.sources)))
        dropped = sum(source.dropped for source in sources)
        waiting, handed_ns = self._waiting(), self._handed_ns
        return StreamStats(
            self._frames, dropped, round(seconds, 3), round(fps, 2), sources=sources,
            infer_now_s=0.0 if waiting is None else _seconds_since(waiting.submitted_ns),
            sink_now_s=_seconds_since(handed_ns) if handed_ns else 0.0,
            **self._meter.percentiles(),
        )  # fmt: skip

    def _source_stats(self, number: int) -> SourceStats:
        health = self._inbox.health(number)
        delivered = self._delivered[number]
        dropped, skipped, damaged = self._inbox.counts(number)
        return SourceStats(
            self.names[number], health.state.value, delivered.frames, dropped, skipped, damaged,
            health.reconnects, health.error, delivered.fps, delivered.age.percentiles(),
        )  # fmt: skip

    def swap(self, model: M | str | os.PathLike[str], **options: Any) -> M:
        """Continue with another model from the next frame on; thread-safe, also within the loop.

        No frame is lost: those in flight are finished by the previous model, which is then closed. The stream closes
        the new one at its own end.

        Args:
            model: A model, or a bundle's path, which is loaded and run once first.
            **options: For a path, those of :func:`edgebone.load`.

        Returns:
            The new model.

        Raises:
            BundleError: The bundle cannot be read. After any error the stream keeps its model.
            NoEngineError: No engine runs it.
            EngineError: Its first run fails, or the stream has ended.
        """
        new = self.model.load_other(model, **options) if isinstance(model, (str, os.PathLike)) else model
        try:
            # The first run is the slowest and the most likely to fail.
            new.run(new.prepare([]))
        except BaseException:
            if new is not model:
                new.close()
            raise
        with self._swapping:
            passed_over, self._next_model = self._next_model, new
            ended = self._ended
        if passed_over is not None:
            passed_over.close()
        if ended:
            self._close_models()
            raise EngineError("the stream has ended: no frame is left for another model")
        return new

    def ask(self, *heads: str) -> None:
        """Run heads on the next frame of every source, whatever their rate; thread-safe.

        If that frame's result is dropped for a newer one, they run again, until a result with them is delivered.

        Args:
            *heads: Names of detached heads; the others run on every frame anyway.

        Raises:
            BundleError: No such head.
        """
        check_rates(dict.fromkeys(heads, 1), self.model.manifest)
        for turns in self._turns:
            turns.ask(heads)

    def _take_over(self) -> None:
        """Switch to the waiting model, if any."""
        with self._swapping:
            new, self._next_model = self._next_model, None
        if new is None:
            return
        old, self.model = self.model, new
        try:
            self._buffers = self._new_buffers()
        finally:
            if not any(ran.model is old for ran in self._under_way):
                old.close()

    def _new_buffers(self) -> list[Pixels]:
        return [self.model.new_buffer() for _ in range(self._depth)]

    @property
    def _depth(self) -> int:
        """Return the number of frames prepared or in flight: one if both need the same cores."""
        return max(2, self.model.engine.in_flight) if self.model.engine.overlaps else 1

    def close(self) -> None:
        """Stop reading and close the sources."""
        generator = iter(self)
        if isinstance(generator, Generator):
            generator.close()
        if not self._begun:
            self._begun = True
            self._inbox.close()

    def __enter__(self) -> Stream[M]:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _run(self) -> Generator[tuple[Frame, Results], None, None]:
        self._begun = True
        work = self._deliveries()
        try:
            for delivery in work:
                handed = self._hand_over(delivery)
                self._handed_ns = self._delivered_ns
                yield handed
                self._handed_ns = 0
                self._meter.add("sink", time.monotonic_ns() - self._delivered_ns)
        finally:
            self._handed_ns = 0
            work.close()
            self._inbox.close()
            self._close_models()

    def _deliveries(self) -> Generator[Delivery[M], None, None]:
        if not self._look:
            return self._as_they_come()
        self._buffers = self._new_buffers()
        if self._live:
            return self._newest()
        return self._every(self._read_directly() if self._direct else self._read())

    def _hand_over(self, delivery: Delivery[M]) -> tuple[Frame, Results]:
        self._pulse()
        number, frame, result = delivery.number, delivery.frame, delivery.result
        now_ns = time.monotonic_ns()
        age_ns = now_ns - frame.captured_at_ns
        self._meter.add("age", age_ns)
        self._delivered[number].add(now_ns, age_ns)
        self.answered_by = delivery.model
        if isinstance(result, dict):
            self._turns[number].delivered(delivery.turn, result)
        self._frames += 1
        self._delivered_ns = now_ns
        return frame, result

    def _close_models(self) -> None:
        """Close the models that were swapped in, which the stream owns."""
        with self._swapping:
            self._ended = True
            waiting, self._next_model = self._next_model, None
        for model in (self.model, waiting):
            if model is not None and model is not self._first_model:
                model.close()

    def _read_directly(self) -> Generator[list[Taken], None, None]:
        size = self.model.stream_batch
        batch: list[Taken] = []
        for number, source in enumerate(self.sources):
            while (frame := source.read()) is not None:
                batch.append((number, own_frame(frame, source, self.names[number])))
                if len(batch) == size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _take(self) -> Taken | None:
        """Wait for the next frame; None if there are no more."""
        while True:
            # Asked before: an error that comes with the end is raised by the take behind it.
            ended = self._inbox.ended
            taken = self._inbox.take(until_s=time.monotonic() + _PULSE_S)
            if taken is not None or ended:
                return taken
            self._pulse()

    def _as_they_come(self) -> Generator[Delivery[M], None, None]:
        while (taken := self._take()) is not None:
            self._take_over()
            number, frame = taken
            began_ns = time.monotonic_ns()
            self._started_ns = self._started_ns or began_ns
            self._meter.add("queue", began_ns - frame.captured_at_ns)
            yield Delivery(number, frame, {}, self.model, 0)

    def _read(self) -> Generator[list[Taken], None, None]:
        """Yield full batches if the model is loaded for one."""
        while (taken := self._take()) is not None:
            batch = [taken]
            failure: Exception | None = None
            while len(batch) < self.model.stream_batch:
                try:
                    more = self._take()
                except Exception as error:
                    # Raised after the frames before it are delivered.
                    failure = error
                    break
                if more is None:
                    break
                batch.append(more)
            yield batch
            if failure is not None:
                raise failure

    def _every(self, batches: Iterator[list[Taken]]) -> Generator[Delivery[M], None, None]:
        """Prepare the next frames during inference of the current ones."""
        failure: Exception | None = None
        try:
            while failure is None:
                try:
                    batch = next(batches)
                    self._take_over()
                    self._begin(batch)
                except StopIteration:
                    break
                except Exception as error:
                    # Raised after the frames before it, which are in flight, are delivered.
                    failure = error
                if len(self._under_way) >= self._depth:
                    yield from self._finish()
            while self._under_way:
                yield from self._finish()
        finally:
            self._abandon()
        if failure is not None:
            raise failure

    def _newest(self) -> Generator[Delivery[M], None, None]:
        """Yield the results of the stream's own thread, which keeps the engine at the newest frames."""
        outbox: Outbox[M] = Outbox([source.live for source in self.sources])
        stop = threading.Event()
        worker = threading.Thread(target=self._work, args=(outbox, stop), name="edgebone-stream", daemon=True)
        worker.start()
        watchdog = Watchdog(self._stall_s)
        try:
            while True:
                try:
                    delivery = outbox.take(watchdog.tick_s)
                except TimeoutError:
                    self._pulse()
                    self._look_after_engine(watchdog)
                    continue
                if delivery is None:
                    return
                yield delivery
        finally:
            stop.set()
            outbox.close()
            self._inbox.poke()
            if not self._stalled:
                Watchdog(self._stall_s).wait(lambda wait_s: _ends(worker, wait_s))

    def _work(self, outbox: Outbox[M], stop: threading.Event) -> None:
        failure: BaseException | None = None
        try:
            self._serve(outbox, stop)
        except BaseException as error:
            failure = error
        try:
            while self._under_way and not stop.is_set() and not self._stalled:
                self._leave(outbox)
        except BaseException as error:
            # Of two errors, the first one is reported.
            failure = failure or error
        outbox.finish(failure)
        self._abandon()

    def _serve(self, outbox: Outbox[M], stop: threading.Event) -> None:
        """Serve until the sources have ended or the caller has stopped."""
        while not stop.is_set():
            if self._under_way and (self._under_way[0].future.done() or len(self._under_way) >= self._depth):
                self._leave(outbox)
                continue
            batch = self._gather(stop)
            if batch:
                self._take_over()
                self._begin(batch)
            elif self._inbox.ended:
                return

    def _leave(self, outbox: Outbox[M]) -> None:
        for delivery in self._finish():
            dropped = outbox.put(delivery)
            if dropped is None:
                continue
            self._inbox.add_dropped(delivery.number)
            if isinstance(dropped.result, dict) and isinstance(delivery.result, dict):
                self._turns[delivery.number].replaced(dropped.result, delivery.result)

    def _gather(self, stop: threading.Event) -> list[Taken]:
        """Gather the newest frames, as many as the model takes at once; finished results are delivered first."""

        def has_other_work() -> bool:
            return stop.is_set() or (bool(self._under_way) and self._under_way[0].future.done())

        if self._under_way and self.model.engine.in_flight == 1:
            # Prepared earlier, a frame would only age until the previous run ends.
            running_ns = max(self._under_way[0].submitted_ns, self._done_ns)
            self._inbox.pause(running_ns / 1e9 + self._run_s - 1.5 * self._prepare_s - _SPARE_S, has_other_work)
        batch: list[Taken] = []
        size = self.model.stream_batch
        until_s: float | None = None
        while len(batch) < size:
            wait = not batch or (until_s is not None and self._inbox.expects_frame(until_s))
            taken = self._inbox.take(wait, until_s, has_other_work)
            if taken is None:
                break
            batch.append(taken)
            # A frame waits for others for at most half a run: longer would cost what a batch gains.
            until_s = until_s or time.monotonic() + self._run_s / 2
        return batch

    def _begin(self, batch: list[Taken]) -> None:
        began_ns = time.monotonic_ns()
        self._started_ns = self._started_ns or began_ns
        model, buffer = self.model, self._buffers.pop()
        try:
            prepared = model.prepare([frame for _, frame in batch], buffer)
        except TensorError:
            self._buffers.append(buffer)
            fitting = [taken for taken in batch if self._fits(taken, buffer)]
            if fitting:
                self._begin(fitting)
            return
        for _, frame in batch:
            self._meter.add("queue", began_ns - frame.captured_at_ns)
        paced = any(rate != 1 for rate in model.head_every.values())
        due = [self._turns[number].next(model.head_every) for number, _ in batch] if paced else []
        heads: list[Collection[str]] = [[*model.manifest.graph_heads, *names] for _, names in due]
        wanted = {name for _, names in due for name in names} if paced else None
        prepared_ns = time.monotonic_ns()
        future = model.start(prepared, wanted)
        self._meter.add("pre", prepared_ns - began_ns, len(batch))
        self._prepare_s = _smooth(self._prepare_s, prepared_ns - began_ns)
        done_ns = _stamp_when_done(future, self._inbox.poke)
        turns = [turn for turn, _ in due] or [0] * len(batch)
        ran = _InFlight(model, batch, prepared, buffer, prepared_ns, future, done_ns, heads if paced else None, turns)
        self._under_way.append(ran)

    def _fits(self, taken: Taken, buffer: Pixels) -> bool:
        """Return whether a frame can be resized for the network; a picture file that cannot is left out."""
        number, frame = taken
        try:
            self.model.prepare([frame], buffer)
        except TensorError as error:
            if frame.path is None:
                raise
            self._inbox.add_damaged(number, frame, error)
            return False
        return True

    def _finish(self) -> list[Delivery[M]]:
        """Wait for the oldest run and decode its results."""
        ran = self._under_way[0]
        try:
            if not Watchdog(self._stall_s).wait(lambda wait_s: _answers(ran.future, wait_s)):
                self._give_up(ran)
            returned = ran.future.result()
        finally:
            self._under_way.popleft()
        done_ns = ran.done_ns[0] if ran.done_ns else time.monotonic_ns()
        self._meter.add("infer", done_ns - ran.submitted_ns, len(ran.batch))
        self._run_s = _smooth(self._run_s, done_ns - max(ran.submitted_ns, self._done_ns))
        self._done_ns = done_ns
        if ran.model is self.model:
            self._buffers.append(ran.buffer)
        began_ns = time.monotonic_ns()
        results = ran.model.answers(ran.prepared.geometries, returned, ran.heads)
        self._meter.add("decode", time.monotonic_ns() - began_ns, len(ran.batch))
        if ran.model is not self.model and not any(left.model is ran.model for left in self._under_way):
            ran.model.close()
        return [
            Delivery(number, frame, result, ran.model, turn)
            for (number, frame), result, turn in zip(ran.batch, results, ran.turns, strict=True)
        ]

    def _waiting(self) -> _InFlight[M] | None:
        """Return the oldest unfinished run."""
        return next((ran for ran in tuple(self._under_way) if not ran.future.done()), None)

    def _look_after_engine(self, watchdog: Watchdog) -> None:
        """Turn an unresponsive engine into an error instead of a stalled stream."""
        waiting = self._waiting()
        if watchdog.wake(None if waiting is None else waiting.submitted_ns) and waiting is not None:
            self._give_up(waiting)

    def _give_up(self, ran: _InFlight[M]) -> NoReturn:
        self._stalled = True
        raise EngineStalledError(
            f"the engine {ran.model.engine.name} has not answered for {self._stall_s:.0f} s; the device may be lost: "
            "restart the program, or use `edgebone run --restart`"
        )

    def _abandon(self) -> None:
        """Wait for runs in flight, whose buffers must not be freed. A stalled engine never ends."""
        while self._under_way and not self._stalled:
            future = self._under_way.popleft().future
            Watchdog(self._stall_s).wait(lambda wait_s: _answers(future, wait_s))  # noqa: B023


def _seconds_since(then_ns: int) -> float:
    return max(0, time.monotonic_ns() - then_ns) / 1e9


def _answers(future: Future[Any], wait_s: float) -> bool:
    with contextlib.suppress(FutureTimeoutError):
        future.exception(wait_s)
    return future.done()


def _ends(thread: threading.Thread, wait_s: float) -> bool:
    thread.join(wait_s)
    return not thread.is_alive()


def _smooth(before_s: float, latest_ns: int) -> float:
    """Return a smoothed duration, so that one late run changes little."""
    return latest_ns / 1e9 if not before_s else 0.9 * before_s + 0.1 * latest_ns / 1e9
