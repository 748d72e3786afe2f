"""Sources through a model, steps and sinks, from the first frame to the summary."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import EdgeboneError, EngineStalledError
from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.results import Results
from edgebone.pipeline.reload import load_again
from edgebone.pipeline.seen import Seen, Summary
from edgebone.pipeline.step import Step
from edgebone.sinks.guarded import StopRequest
from edgebone.sinks.protocol import Sink
from edgebone.sources.video_rate import is_pictures
from edgebone.stream.stream import Stream

if TYPE_CHECKING:
    from edgebone.model.model import Model
    from edgebone.sources.limits import Limited
    from edgebone.sources.opening import SourceLike

_log = logging.getLogger("edgebone.pipeline")


class Pipeline:
    """Looks at sources with a model, has steps look at the results, and gives both to sinks.

    Args:
        model: What looks at the frames; stays open.
        steps: What is done with the results, in this order.
        sinks: Where they go; closed at the end of a run, or discarded where it fails.
        load: Loads the model again, for :meth:`reload`; None where it stays the same.
        notice: Called with a line about what was loaded again; None logs it.

    Attributes:
        sinks: May be set before a run: sinks that draw are given :meth:`draw`.

    Raises:
        EdgeboneError: The model lacks what a step needs.

    Example:
        >>> import edgebone
        >>> from edgebone.pipeline import Tracks
        >>> from edgebone.sinks import open_sink
        >>> with edgebone.load("yolox.bundle") as model:
        ...     pipeline = Pipeline(model, [Tracks("zones.json")], [open_sink("seen.jsonl")])
        ...     summary = pipeline.run("street.mp4")
        >>> summary.stats.frames, summary.seen["street.mp4"].most_common(1)
        (5, [('person', 1.0)])
    """

    def __init__(
        self,
        model: Model,
        steps: Sequence[Step] = (),
        sinks: Sequence[Sink] = (),
        *,
        load: Callable[[], Model] | None = None,
        notice: Callable[[str], object] | None = None,
    ) -> None:
        self._model = model
        self._steps = steps
        self.sinks = sinks
        self._load = load
        self._notice = notice or _log.warning
        self._asked = threading.Event()
        self._prepared: weakref.WeakSet[Model] = weakref.WeakSet()
        self._prepare(model)

    def run(self, *sources: SourceLike | Limited, most_frames: int | None = None, **options: Any) -> Summary:
        """Go through sources to their end.

        Args:
            *sources: As :meth:`edgebone.Model.stream` takes them.
            most_frames: Stop after so many frames; None for all.
            **options: Those of :meth:`edgebone.Model.stream`, such as ``max_fps``.

        Returns:
            What was seen.

        Raises:
            SourceError: A source cannot be opened or read.
            OutputError: A sink cannot be written.
            EngineError: The engine fails.
        """
        try:
            stream = self.stream(*sources, **options)
        except BaseException:
            self._discard()
            raise
        return self.follow(stream, most_frames=most_frames)

    def stream(
        self, *sources: SourceLike | Limited, pulse: Callable[[], object] = lambda: None, **options: Any
    ) -> Stream[Model]:
        """Open sources for :meth:`follow`.

        Args:
            *sources: As :meth:`edgebone.Model.stream` takes them.
            pulse: Called at each frame, and at least once a second while none comes.
            **options: Those of :meth:`edgebone.Model.stream`.

        Raises:
            SourceError: A source cannot be opened.
        """
        # Weak: in a circle, the stream's last frames would stay in memory for long.
        opened: list[weakref.ref[Stream[Model]]] = []

        def beat() -> None:
            pulse()
            stream = opened[0]() if opened else None
            if stream is not None:
                self._refresh(stream)

        look = not any(step.looks_itself for step in self._steps)
        stream = self._model.stream(*sources, look=look, pulse=beat, **options)
        opened.append(weakref.ref(stream))
        return stream

    def follow(
        self,
        stream: Stream[Model],
        *,
        most_frames: int | None = None,
        each: Callable[[Frame, Results], object] = lambda _frame, _results: None,
        finished: Callable[[Summary], object] = lambda _: None,
    ) -> Summary:
        """Take each frame of a stream through the steps to the sinks, and close all at its end.

        Where the program is interrupted, the engine stalls, or a sink asks for an orderly end, what was written so far
        is finished and kept; after any other failure nothing half-written is left behind.

        Args:
            stream: From :meth:`stream`.
            most_frames: Stop after so many frames; None for all.
            each: Called with each frame once the sinks have it.
            finished: Called with the summary once the sinks are closed, also where the run was cut short.

        Raises:
            SourceError: A source cannot be read.
            OutputError: A sink cannot be written.
            EngineError: The engine fails.
        """
        seen = {
            name: Seen() for name, source in zip(stream.names, stream.sources, strict=True) if not is_pictures(source)
        }

        def finish() -> Summary:
            self._close()
            summary = Summary(stream.stats, seen, [line for step in self._steps for line in step.summary()])
            finished(summary)
            return summary

        try:
            with stream:
                for number, (frame, found) in enumerate(stream, start=1):
                    results, events = self._look(stream, frame, found)
                    for sink in self.sinks:
                        sink.write(frame, results, events)
                    if frame.source in seen:
                        seen[frame.source].add(results)
                    each(frame, results)
                    if number == most_frames:
                        break
        except StopRequest as request:
            finish()
            raise request.error from None
        except EngineStalledError:
            finish()
            raise
        except Exception:
            self._discard()
            raise
        except BaseException:
            # Ctrl-C and SIGTERM: what was seen so far is finished and kept.
            finish()
            raise
        return finish()

    def _close(self) -> None:
        """Close every sink, also where one of them fails."""
        with contextlib.ExitStack() as closing:
            for sink in reversed(self.sinks):
                closing.callback(sink.close)

    def _discard(self) -> None:
        """Discard what every sink wrote; what fails of it must not hide why."""
        for sink in self.sinks:
            try:
                sink.discard()
            except EdgeboneError as error:
                _log.warning("%s", error)

    def _look(self, stream: Stream[Model], frame: Frame, results: Results) -> tuple[Results, list[Event]]:
        model = stream.answered_by
        if model not in self._prepared:
            # Somebody else swapped it in.
            self._prepare(model)
        events: list[Event] = []
        for step in self._steps:
            results, more = step.look(frame, results, model)
            events += more
        return results, events

    def draw(self, image: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
        """Draw what the steps draw onto a picture of a frame, in their order: uint8 (height, width, 3), BGR."""
        for step in self._steps:
            image = step.draw(image, frame)
        return image

    def reload(self) -> None:
        """Load the steps' files and the model again, before the next frame or within a second; from any thread.

        What cannot be used is refused with a line, and the run goes on with what it had.
        """
        self._asked.set()

    def _refresh(self, stream: Stream[Model]) -> None:
        for step in self._steps:
            step.refresh(stream.model)
        if not self._asked.is_set():
            return
        self._asked.clear()
        for step in self._steps:
            if step.files:
                load_again(step.files, partial(step.load_again, stream.model), self._notice)
        if self._load is not None:
            load_again("bundle", lambda: self._swap(stream), self._notice)

    def _prepare(self, model: Model) -> None:
        for step in self._steps:
            step.prepare(model)
        self._prepared.add(model)

    def _swap(self, stream: Stream[Model]) -> None:
        assert self._load is not None
        model = self._load()
        try:
            self._prepare(model)
            stream.swap(model)
        except BaseException:
            model.close()
            raise
