"""Reads frames of several sources in the background and hands them out in turn."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgebone.core.errors import EdgeboneError, SourceError
from edgebone.core.frame import Frame
from edgebone.sources.camera import Camera
from edgebone.sources.health import Health, State, is_stalled
from edgebone.sources.limits import Limits, Pick
from edgebone.sources.names import distinct_names
from edgebone.sources.protocol import Source

_AHEAD = 4
_CLOSE_LIVE_S = 1.0
_CLOSE_FILE_S = 5.0

_log = logging.getLogger("edgebone.sources")


@dataclass
class _Slot:
    """One source's waiting frames and its counts."""

    source: Source
    name: str
    limits: Limits
    pick: Pick
    waiting: deque[Frame] = field(default_factory=deque)
    error: BaseException | None = None
    ended: bool = False
    last_index: int = -1
    arrived_ns: int = 0
    dropped: int = 0
    skipped: int = 0
    damaged: int = 0
    fitted: bool = False


class Inbox:
    """Reads each source in its own thread and hands out the frames, one source at a time.

    A live source keeps only its newest frame here; any other is read a few frames ahead and then waits. The error of a
    source that fails is raised by :meth:`take` after the frames before the failure.

    Args:
        sources: The sources; closed by :meth:`close`.
        limits: Which of each source's frames are wanted; empty for all.
        forgiving: A source that fails ends without raising; its error is in its health.
        pixels_of: Decodes a frame into the required layout.

    Attributes:
        names: The sources' names in their frames: their own names, with a number added to duplicates.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        limits: Sequence[Limits] = (),
        forgiving: bool = False,
        pixels_of: Callable[[Frame], object] = lambda frame: frame.image,
    ) -> None:
        limits = limits or [Limits()] * len(sources)
        self.names = distinct_names([source.name for source in sources])
        self._slots = [
            _Slot(source, name, limit, Pick(limit))
            for source, name, limit in zip(sources, self.names, limits, strict=True)
        ]
        for slot in self._slots:
            if isinstance(slot.source, Camera):
                # Its own log messages, over days, must distinguish it as well.
                slot.source.name = slot.name
        self._forgiving = forgiving
        self._pixels_of = pixels_of
        self._turn = 0
        self._closed = False
        lock = threading.Lock()
        # Two conditions, so that a frame's arrival does not wake readers that wait for space.
        self._arrived = threading.Condition(lock)
        self._room = threading.Condition(lock)
        self._threads: list[threading.Thread] = []

    def take(
        self, wait: bool = True, until_s: float | None = None, unless: Callable[[], bool] = lambda: False
    ) -> tuple[int, Frame] | None:
        """Wait for the next frame, and decode it.

        Args:
            wait: False returns only a frame that is already available.
            until_s: The latest time to wait until, on ``time.monotonic``'s clock.
            unless: Stop waiting when this is True; :meth:`poke` has it checked.

        Returns:
            The source's number and its frame; None if all sources have ended (see :attr:`ended`), or the wait ended
            without a frame.

        Raises:
            SourceError: A source failed.
        """
        if not self._threads:
            self._start()
        while True:
            with self._arrived:
                number = self._wait(wait, until_s, unless)
                if number is None:
                    return None
                slot = self._slots[number]
                frame = slot.waiting.popleft()
                self._turn = number + 1
                if not slot.source.live:
                    self._room.notify_all()
            try:
                # Decoded here, not in the reading thread: most frames of a camera faster than the model are never
                # decoded.
                self._decode(slot, frame)
                if slot.fitted:
                    return number, slot.limits.cut(frame)
            except SourceError as error:
                if not slot.source.live and frame.path is None:
                    raise
                self._count_damaged(slot, frame, error)
                continue
            # A region that does not fit a camera's first picture, or any picture of a file, is the user's mistake.
            cut = slot.limits.cut(frame)
            slot.fitted = slot.source.live
            return number, cut

    def _decode(self, slot: _Slot, frame: Frame) -> None:
        # A region is cut out of BGR.
        if slot.limits.roi_xyxy is None:
            self._pixels_of(frame)
        else:
            frame.image  # noqa: B018

    def add_damaged(self, number: int, frame: Frame, error: EdgeboneError) -> None:
        """Count a picture that was handed out but turned out to be unusable."""
        self._count_damaged(self._slots[number], frame, error)

    def _count_damaged(self, slot: _Slot, frame: Frame, error: EdgeboneError) -> None:
        slot.damaged += 1
        if frame.path is not None:
            named = str(error).startswith(frame.path)
            _log.warning("left out: %s", error if named else f"{frame.path}: {error}")
        elif slot.damaged == 1:
            # Otherwise a camera that delivers nothing else would be waited for silently.
            _log.warning("%s; such frames are left out and counted", error)

    def _wait(self, wait: bool, until_s: float | None, unless: Callable[[], bool]) -> int | None:
        """The number of the source whose turn it is."""
        while True:
            for step in range(len(self._slots)):
                number = (self._turn + step) % len(self._slots)
                slot = self._slots[number]
                if slot.waiting:
                    return number
                if slot.error is not None and wait and not (self._forgiving and isinstance(slot.error, SourceError)):
                    raise slot.error
            left_s = None if until_s is None else until_s - time.monotonic()
            if not wait or self._ended() or unless() or (left_s is not None and left_s <= 0):
                return None
            self._arrived.wait(left_s)

    def pause(self, until_s: float, unless: Callable[[], bool]) -> None:
        """Wait until a time on ``time.monotonic``'s clock, or until ``unless`` is True, without taking a frame."""
        with self._arrived:
            while (left_s := until_s - time.monotonic()) > 0 and not unless():
                self._arrived.wait(left_s)

    def poke(self) -> None:
        """Make a waiting :meth:`take` check ``unless`` again."""
        with self._arrived:
            self._arrived.notify_all()

    @property
    def ended(self) -> bool:
        """Whether no further frame will arrive."""
        with self._arrived:
            return self._ended()

    def _ended(self) -> bool:
        return all(slot.ended and not slot.waiting for slot in self._slots)

    def expects_frame(self, by_s: float) -> bool:
        """Return whether a source without a waiting frame is due to deliver one by then; late sources are ignored."""
        now_s = time.monotonic()
        for slot in self._slots:
            if slot.ended or slot.waiting or not slot.arrived_ns or not slot.source.fps:
                continue
            due_s = slot.arrived_ns / 1e9 + 1 / slot.source.fps
            if now_s - 0.5 / slot.source.fps <= due_s <= by_s:
                return True
        return False

    def counts(self, number: int) -> tuple[int, int, int]:
        """Return the numbers of one source's frames that were dropped, skipped on purpose, and damaged."""
        slot = self._slots[number]
        return slot.dropped, slot.skipped, slot.damaged

    def add_dropped(self, number: int) -> None:
        """Count a frame that was handed out and dropped later."""
        with self._arrived:
            self._slots[number].dropped += 1

    def health(self, number: int) -> Health:
        """Return a source's health."""
        slot = self._slots[number]
        if slot.error is not None or slot.ended or self._closed:
            reconnects = slot.source.health.reconnects if isinstance(slot.source, Camera) else 0
            return Health(State.ENDED, reconnects, "" if slot.error is None else str(slot.error))
        if isinstance(slot.source, Camera):
            return slot.source.health
        if not slot.arrived_ns:
            # Frames in memory may be read past this inbox, and need no connection.
            return Health(State.LIVE if slot.source.in_memory else State.CONNECTING)
        stalled = slot.source.live and is_stalled(slot.arrived_ns, slot.source.fps)
        return Health(State.STALLED if stalled else State.LIVE)

    def close(self) -> None:
        """Stop reading and close the sources.

        A camera that cannot be woken is not waited for long: its thread closes it and ends at the read time-out.
        """
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
            self._room.notify_all()
        for slot in self._slots:
            slot.source.interrupt()
        now_s = time.monotonic()
        for number, slot in enumerate(self._slots):
            thread = self._threads[number] if number < len(self._threads) else None
            if thread is None or thread.ident is None:
                slot.source.close()
                continue
            # Reading a file ends soon, and its descriptor should not outlive the stream.
            until_s = now_s + (_CLOSE_LIVE_S if slot.source.live else _CLOSE_FILE_S)
            thread.join(max(0.0, until_s - time.monotonic()))

    def _start(self) -> None:
        # Not in __init__: Ctrl-C during these lines would leave threads that cannot be closed.
        for number, slot in enumerate(self._slots):
            name = f"edgebone-read-{slot.name}"
            self._threads.append(threading.Thread(target=self._read, args=(number,), name=name, daemon=True))
            self._threads[-1].start()

    def _read(self, number: int) -> None:
        slot = self._slots[number]
        try:
            while not self._closed and (frame := slot.source.read()) is not None:
                self._put(slot, own_frame(frame, slot.source, slot.name))
        except BaseException as error:
            slot.error = error
            if self._forgiving and isinstance(error, SourceError):
                _log.warning("%s; continuing without it", error)
        finally:
            with self._arrived:
                slot.ended = True
                self._arrived.notify_all()
            slot.source.close()

    def _put(self, slot: _Slot, frame: Frame) -> None:
        wanted = slot.pick.wants(frame)
        if wanted and not slot.source.live:
            # Decoded here, in parallel with the model, since none of these is dropped. A damaged one raises again when
            # taken.
            with contextlib.suppress(SourceError):
                self._decode(slot, frame)
        with self._arrived:
            if slot.source.live:
                slot.dropped += max(0, frame.index - slot.last_index - 1)
                slot.last_index = frame.index
            slot.arrived_ns = frame.captured_at_ns
            if not wanted:
                slot.skipped += 1
                return
            if slot.source.live:
                slot.dropped += len(slot.waiting)
                slot.waiting.clear()
            while len(slot.waiting) >= _AHEAD and not self._closed:
                self._room.wait()
            slot.waiting.append(frame)
            self._arrived.notify()


def own_frame(frame: Frame, source: Source, name: str) -> Frame:
    """Return a frame under its source's unique name; one made elsewhere is unchanged."""
    return frame.renamed(name) if name != source.name and frame.source == source.name else frame
