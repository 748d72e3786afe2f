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
    """Runs a model on sources, passes the results through steps, and writes them to sinks.

    Args:
        model: The model; it stays open.
        steps: The steps, in order.
        sinks: The sinks; closed at the end of a run, discarded if it fails.
        load: Loads the model again, for :meth:`reload`; None to keep it.
        notice: Called with a line about each reload; None logs it.

    Attributes:
        sinks: May be set before a run, for sinks that take :meth:`draw`.

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
        """Run sources to their end.

        Args:
            *sources: As for :meth:`edgebone.Model.stream`.
            most_frames: Stop after this number of frames; None for all.
            **options: Those of :meth:`edgebone.Model.stream`, such as ``max_fps``.

        Returns:
            The summary of the run.

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
            *sources: As for :meth:`edgebone.Model.stream`.
            pulse: Called at each frame, and at least once a second without frames.
            **options: Those of :meth:`edgebone.Model.stream`.

        Raises:
            SourceError: A source cannot be opened.
        """
        # Weak: a reference cycle would keep the stream's last frames in memory for long.
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
        """Pass each frame of a stream through the steps to the sinks, and close them at its end.

        If the program is interrupted, the engine stalls, or a sink requests an orderly end, the output so far is
        finished and kept; any other failure leaves no partial file behind.

        Args:
            stream: From :meth:`stream`.
            most_frames: Stop after this number of frames; None for all.
            each: Called with each frame after the sinks have written it.
            finished: Called with the summary after the sinks are closed, also if the run was cut short.

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
            # On Ctrl-C and SIGTERM the output so far is finished and kept.
            finish()
            raise
        return finish()

    def _close(self) -> None:
        """Close every sink, even if one fails."""
        with contextlib.ExitStack() as closing:
            for sink in reversed(self.sinks):
                closing.callback(sink.close)

    def _discard(self) -> None:
        """Discard every sink's output; a failure here must not hide the original error."""
        for sink in self.sinks:
            try:
                sink.discard()
            except EdgeboneError as error:
                _log.warning("%s", error)

    def _look(self, stream: Stream[Model], frame: Frame, results: Results) -> tuple[Results, list[Event]]:
        model = stream.answered_by
        if model not in self._prepared:
            # The caller swapped the model itself.
            self._prepare(model)
        events: list[Event] = []
        for step in self._steps:
            results, more = step.look(frame, results, model)
            events += more
        return results, events

    def draw(self, image: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
        """Draw the steps' results onto a frame's picture, in their order: uint8 (height, width, 3), BGR."""
        for step in self._steps:
            image = step.draw(image, frame)
        return image

    def reload(self) -> None:
        """Reload the steps' files and the model, before the next frame or within a second; thread-safe.

        A file that cannot be used is reported, and the run continues with the previous one.
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
