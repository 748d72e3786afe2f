"""A bundle loaded into an engine, ready to run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from edgebone.core.bundle import Bundle, open_bundle
from edgebone.core.errors import BundleError, EngineError, TensorError
from edgebone.core.frame import Frame
from edgebone.core.geometry import Geometry
from edgebone.core.head_file import HeadFile, parse_head
from edgebone.core.manifest import FrameLayout, Manifest
from edgebone.core.near import did_you_mean
from edgebone.core.results import HeadResults, Result, Results
from edgebone.core.shown import remember
from edgebone.core.tensors import check_rows
from edgebone.decode import Decoder, make_decoders
from edgebone.decode.heads import need_heads
from edgebone.decode.registry import setting_names
from edgebone.drawing import let_results_draw
from edgebone.engines.on_device import keep_for_heads
from edgebone.engines.opening import read_first
from edgebone.engines.plans import plan_first, planned, unmeasured
from edgebone.engines.protocol import AsyncEngine
from edgebone.engines.proved import open_proved
from edgebone.engines.select import Choice, candidates, choose
from edgebone.engines.spec import Candidate
from edgebone.engines.table import this_machine
from edgebone.engines.threads import EngineThreads
from edgebone.model.attached_heads import DetachedHeads
from edgebone.model.frame_engines import FrameEngines, size_and_layout
from edgebone.model.running import Prepared, Ran, ran
from edgebone.preprocess import Pixels, plan, preprocess
from edgebone.sources.given import Color, to_bgr
from edgebone.stream.turns import check_rates
from edgebone.tasks.boxed import BOXED
from edgebone.tasks.choosing import check_classes, only_classes

if TYPE_CHECKING:
    from edgebone.sources.limits import Limited
    from edgebone.sources.opening import SourceLike
    from edgebone.sources.protocol import Source
    from edgebone.stream.stream import Stream


def load(
    path: str | os.PathLike[str],
    *,
    engine: str = "auto",
    precision: str | None = None,
    hint: str | None = None,
    threads: int | None = None,
    offline: bool = False,
    top_k: int | None = None,
    score: float | None = None,
    iou: float | None = None,
    classes: Collection[str] | None = None,
    class_agnostic: bool | None = None,
    frame_in_graph: bool | None = None,
    every: Mapping[str, int] | None = None,
) -> Model:
    """Load a bundle into the engine that fits this machine best.

    Without an engine, precision, hint or threads, the bundle's plan for this machine, measured by ``edgebone tune``, is
    followed. A plan that predates the installation of a suitable engine is not, and a warning is logged.

    Args:
        path: The bundle's directory or zip.
        engine: ``auto``, or an engine's name as listed by ``edgebone doctor``.
        precision: ``fp32``; ``bf16`` where engine and processor support it; the precision of one of the bundle's
            variants; or ``auto``, the default without a plan: the fastest that the bundle proves to return FP32's
            answers and that reproduces the golden sample here, else FP32.
        hint: ``latency``, or ``throughput`` for several runs in flight; None for the plan's, or without a plan for
            ``latency``, and ``throughput`` if ``offline``.
        threads: Threads for inference; None uses every core.
        offline: Whether many frames come from files, where their number per second counts, rather than from cameras,
            where the age of each result does.
        top_k: The number of classes in a result; None keeps the bundle's number.
        score: The score threshold for boxes, 0 to 1; None keeps the bundle's.
        iou: The overlap from which a worse box of the same class is dropped, 0 to 1; None keeps the bundle's.
        classes: Only boxes of these classes, by their labels; None for all. Other results are kept.
        class_agnostic: Whether a box that overlaps a better one of another class is also dropped; None keeps the
            bundle's.
        frame_in_graph: Whether frames of a size with a frame variant in the bundle go into the graph as they are; None
            for yes on a GPU. On the CPU the host's own preprocessing is faster.
        every: How often each detached head runs, by name: on every N-th frame of a source, or 0 for on demand. The
            default is every frame.

    Raises:
        BundleError: The bundle is missing, altered, or of another version, none of its heads has a setting, or a class
            is unknown.
        NoEngineError: No engine here can run it; the message has a line per candidate.
        EngineError: Unknown engine or precision.
    """
    machine = this_machine(engine)

    def fitting(manifest: Manifest) -> Choice:
        spread = hint or ("throughput" if offline else "latency")
        options = candidates(manifest, engine, precision or "auto", hint=spread, threads=threads)
        choice = choose(options, machine, manifest.variants)
        plan = planned(manifest, machine) if (engine, precision, hint, threads) == _UNSAID else None
        return choice if plan is None else plan_first(plan, choice, machine, manifest)

    bundle = open_bundle(path, lambda manifest: read_first(manifest, fitting(manifest)))
    try:
        settings = {"top_k": top_k, "score": score, "iou": iou, "class_agnostic": class_agnostic}
        _check_classes(bundle, classes)
        decoders = make_decoders(bundle.manifest, **settings)
        rates = check_rates(every or {}, bundle.manifest)
        choice = fitting(bundle.manifest)
        asked = (engine, precision, hint, threads)
        if asked == _UNSAID and (new := unmeasured(bundle.manifest, machine, choice)):
            _log.warning(
                "%s: this machine's plan was measured without %s and is not followed; "
                "measure again with: edgebone tune",
                path,
                ", ".join(new),
            )
        opened, candidate, failures = open_proved(bundle, choice, asked=precision not in (None, "auto"))
        with ExitStack() as opening:
            opening.callback(opened.close)
            frames = FrameEngines(bundle, candidate, frame_in_graph)
            heads = DetachedHeads(bundle, candidate, settings)
            opening.callback(heads.close)
            keep_for_heads(opened, bundle.manifest)
            opening.pop_all()
    except BaseException:
        bundle.close()
        raise
    let_results_draw()
    return Model(bundle, opened, candidate, choice, tuple(failures), decoders, settings, frames, heads, rates, classes)


def _check_classes(bundle: Bundle, classes: Collection[str] | None) -> None:
    if classes is None:
        return
    need_heads(bundle.manifest.heads, BOXED, "classes choose boxes", bundle.path)
    check_classes(bundle.manifest, classes)


_UNSAID = ("auto", None, None, None)
_log = logging.getLogger("edgebone.engines")


class Model:
    """A loaded bundle; create it with :func:`load`.

    Thread-safe, but not usable in a forked process, which gets ``EngineError`` and must load the bundle itself. A
    context manager: leaving it frees the engine.

    Attributes:
        bundle: The open bundle.
        manifest: Its manifest.
        engine: The engine that runs it.
        candidate: The candidate that was chosen.
        choice: Every candidate with its reason.
        max_batch: The largest batch of one run.
        head_every: How often each detached head runs: on every N-th frame of a source; 0 for on demand.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: AsyncEngine,
        candidate: Candidate,
        choice: Choice,
        failures: tuple[str, ...],
        decoders: dict[str, Decoder],
        settings: Mapping[str, float | int | bool | None],
        frames: FrameEngines,
        detached: DetachedHeads,
        head_every: Mapping[str, int],
        classes: Collection[str] | None = None,
    ) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.engine = engine
        self.candidate = candidate
        self.choice = choice
        self._failures = failures
        self._frames = frames
        self._decoders = decoders
        self._settings = settings
        self._detached = detached
        self.head_every = dict(head_every)
        self._classes = classes
        # Threads that wait for an engine's outputs and pass them to the next engine; they never call an engine.
        self._chained = EngineThreads(f"{engine.name}-heads", max(2, engine.in_flight)) if detached.names else None
        # A model with a head that skips frames always returns a dict, also for a frame without that head.
        self._single = len(self.manifest.heads) == 1 and all(rate == 1 for rate in self.head_every.values())
        self._head_outputs = {name: head.outputs for name, head in self.manifest.heads.items()}
        self._input = self.manifest.input.name
        batch = candidate.batch
        own = self.manifest.variants[candidate.variant].batch
        self._min_batch, self.max_batch = own if batch is None else (batch, batch)

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for each engine that should have fitted but did not open."""
        return (*self._failures, *self._frames.failures)

    @property
    def stream_batch(self) -> int:
        """The number of frames that a stream gathers for one run: one unless the model was loaded with a batch."""
        return self._min_batch if self.candidate.batch is not None else 1

    @overload
    def __call__(
        self,
        picture: list[Any] | tuple[Any, ...],
        heads: Collection[str] | None = None,
        *,
        color: Color = "bgr",
        score: float | None = None,
        iou: float | None = None,
        classes: Collection[str] | None = None,
    ) -> list[Results]: ...

    @overload
    def __call__(
        self,
        picture: Any,
        heads: Collection[str] | None = None,
        *,
        color: Color = "bgr",
        score: float | None = None,
        iou: float | None = None,
        classes: Collection[str] | None = None,
    ) -> Results: ...

    def __call__(
        self,
        picture: Any,
        heads: Collection[str] | None = None,
        *,
        color: Color = "bgr",
        score: float | None = None,
        iou: float | None = None,
        classes: Collection[str] | None = None,
    ) -> Results | list[Results]:
        """Run on one picture or several.

        Args:
            picture: A file's path or ``http(s)://`` address, its bytes, or an open file; a PIL picture; an array of
                uint8: (height, width, 3), taken for BGR unless ``color`` says otherwise, with a fourth channel (alpha),
                or in grey; a torch tensor (RGB, channels first, uint8 or 0 to 1); a frame; or a list of these, run in
                batches if the bundle allows them.
            heads: Only these heads' results; None for all except those that run on demand.
            color: The channel order of arrays, ``bgr`` or ``rgb``; other inputs define their own.
            score: The score threshold for boxes, 0 to 1; None keeps the model's.
            iou: The overlap from which a worse box of the same class is dropped; None keeps the model's.
            classes: Only boxes of these classes, by their labels; None keeps the model's, by default all.

        Returns:
            The head's result, or with several heads a dict of results by head name; a list for a list. With
            ``heads``, a dict of theirs. The result of a single picture remembers it, for ``result.draw()`` and
            ``result.save(path)``; results of a list need it as an argument.

        Raises:
            SourceError: A file cannot be read.
            TensorError: An array is not a picture.
            BundleError: No such head or class, or no head has the setting.
        """
        if heads is not None:
            self._check_heads(heads)
        decoders = self._decoders_with(score, iou)
        _check_classes(self.bundle, classes)
        many = list(picture) if isinstance(picture, (list, tuple)) else [picture]
        results: list[Results] = []
        for start in range(0, len(many), self.max_batch):
            images = [self._pixels(item, color) for item in many[start : start + self.max_batch]]
            results += self._look(images, heads, decoders, self._classes if classes is None else classes)
        if isinstance(picture, (list, tuple)):
            return results
        # A picture file is read again when drawn, so that keeping many results keeps no pictures.
        remember(results[0], picture if isinstance(picture, (str, os.PathLike)) else images[0])
        return results[0]

    def _pixels(self, picture: Any, color: Color) -> NDArray[Any]:
        if isinstance(picture, np.ndarray) and picture.ndim == 2:
            size_hw, layout = size_and_layout(picture.shape)
            if self.takes_frame(size_hw, layout):
                return picture
        return to_bgr(picture, color)

    def _decoders_with(self, score: float | None, iou: float | None) -> Mapping[str, Decoder]:
        if score is None and iou is None:
            return self._decoders
        given = {key: value for key, value in (("score", score), ("iou", iou)) if value is not None}
        for name, head in self.manifest.heads.items():
            if head.detached and setting_names(name, head) & given.keys():
                raise BundleError(f"head {name} is detached: pass score and iou to load(), not to a call")
        return make_decoders(self.manifest, **{**self._settings, **given})

    @property
    def labels(self) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
        """The class names by class id; with several heads, by head name."""
        if len(self.manifest.heads) == 1:
            return next(iter(self.manifest.heads.values())).labels
        return {name: head.labels for name, head in self.manifest.heads.items()}

    def __repr__(self) -> str:
        """Return a summary: bundle, heads, engine, precision and reason, and the channel order of arrays."""
        counts = {name: len(head.labels) for name, head in self.manifest.heads.items()}
        heads = ", ".join(f"{name} ({count} classes)" if count else name for name, count in counts.items())
        reason = next((fit.reason for fit in self.choice.fits if fit.candidate == self.candidate), "")
        return (
            f"<edgebone.Model {self.bundle.path}: {heads}; {self.engine.name} {self.engine.precision} ({reason}); "
            'arrays are BGR unless color="rgb">'
        )

    def _look(
        self,
        images: Sequence[NDArray[Any]],
        heads: Collection[str] | None,
        decoders: Mapping[str, Decoder],
        classes: Collection[str] | None,
    ) -> list[Results]:
        prepared = self.prepare(images)
        wanted = None if heads is None else [heads] * len(images)
        return self._answers(prepared.geometries, self.run(prepared, heads), wanted, decoders, classes)

    def _check_heads(self, names: Collection[str]) -> None:
        for name in names:
            if name not in self.manifest.heads:
                known = self.manifest.heads
                hint = did_you_mean(name, known)
                raise BundleError(f"there is no head {name}; {hint}the bundle has {', '.join(known)}")

    def head_file(self, name: str) -> HeadFile | None:
        """Return a head's artefact; for a detached head the current one; None for the network's own head.

        Raises:
            BundleError: No such head, or it cannot be read.
        """
        self._check_heads([name])
        head = self.manifest.heads[name]
        if head.detached:
            return self._detached.artefact(name)
        return parse_head(self.bundle.read(head.file), f"{self.bundle.path}, {head.file}") if head.file else None

    def swap_head(self, name: str, head: str | os.PathLike[str] | HeadFile) -> None:
        """Replace a detached head while the model serves; thread-safe.

        The new head is opened and run once, then takes over between two runs: no frame is lost, and the backbone is
        unchanged. While the engine compiles the head, frames share the cores with it and take longer.

        Args:
            name: The head to replace; the new one gets its name, rate and place in the results.
            head: An artefact that ``edgebone fit`` or ``edgebone detach`` wrote.

        Raises:
            BundleError: No such detached head, or the new one was fitted on another backbone or another preprocessing,
                or cannot be read. After any error the old head keeps running.
            EngineError: The engine rejects it, or the model is closed.
        """
        self._detached.swap(name, head if isinstance(head, HeadFile) else Path(head))

    def stream(
        self,
        source: SourceLike | Limited,
        *more: SourceLike | Limited,
        max_fps: float | None = None,
        every: int = 1,
        roi_xyxy: tuple[int, int, int, int] | None = None,
        give_up_s: float | None = None,
        fps: float | None = None,
        look: bool = True,
        forgiving: bool = False,
        pulse: Callable[[], object] = lambda: None,
    ) -> Stream[Model]:
        """Run on one source or several, frame by frame.

        Args:
            source: A picture, video, folder or glob; ``usb:0``; ``csi:0``; ``rtsp://…``; ``synthetic://640x480@30``;
                arrays; an open :class:`edgebone.sources.Source`; or one of these with its own limits,
                ``edgebone.Limited("rtsp://…", Limits(max_fps=5))``.
            *more: Further sources; they take turns.
            max_fps: Largest number of frames per second of each source; None for all.
            every: Run on every N-th frame of each source.
            roi_xyxy: The region of interest in pixels: left, top, right, bottom; None for the whole picture.
            give_up_s: Seconds without a frame after which a camera fails; None waits forever.
            fps: The rate at which a folder's pictures were taken, in pictures per second, which sets their times; None
                if unknown.
            look: Whether the model runs on each frame; else frames come without results, for a caller that runs it on
                parts of them.
            forgiving: A source that cannot be opened or fails ends, while the others continue; its error is in
                ``stats``.
            pulse: Called at each frame, and at least once a second while the caller waits for one.

        Returns:
            An iterable of ``(frame, result)``, which is also a context manager and has ``stats``.

        Raises:
            SourceError: A source cannot be opened; while iterating: cannot be read.
        """
        from edgebone.sources.limits import Limited, Limits
        from edgebone.sources.opening import open_source
        from edgebone.stream.stream import Stream

        usual = Limits(max_fps, every, roi_xyxy)
        pairs = [(item.source, item.limits) if isinstance(item, Limited) else (item, usual) for item in (source, *more)]
        opened: list[Source] = []
        try:
            for item, _ in pairs:
                opened.append(open_source(item, give_up_s, fps, forgiving))
        except BaseException:
            for done in opened:
                done.close()
            raise
        return Stream(self, opened, [limits for _, limits in pairs], look=look, forgiving=forgiving, pulse=pulse)

    def load_other(self, path: str | os.PathLike[str], **options: Any) -> Model:
        """Load the bundle that will replace this one in a stream; options and errors as :func:`load`."""
        return load(path, **options)

    def new_buffer(self, pictures: int = 1) -> Pixels:
        """Return an input buffer for pictures: uint8 (n, height, width, 3); n is at least the smallest batch.

        Raises:
            EngineError: Not enough memory.
        """
        shape = (max(pictures, self._min_batch), *self.manifest.preprocess.size_hw, 3)
        try:
            return np.zeros(shape, np.uint8)
        except (MemoryError, ValueError) as error:
            raise EngineError(
                f"{self.bundle.path}: not enough memory for the network's input of {'x'.join(map(str, shape))} bytes"
            ) from error

    def takes_frame(self, size_hw: tuple[int, int], layout: FrameLayout = "bgr") -> bool:
        """Return whether frames of a size can go into the graph without preprocessing on the host.

        The first call for a size opens its engine, which may take a while. If that fails, it returns False and adds a
        line to ``failures``.

        Args:
            size_hw: The frames' height and width, in pixels.
            layout: ``bgr`` for uint8 (height, width, 3); ``nv12`` for uint8 (height * 3 / 2, width), BT.601.
        """
        return self._frames.get(size_hw, layout) is not None

    def pixels_of(self, frame: Frame) -> NDArray[np.uint8]:
        """Return a frame's pixels in this model's layout: NV12 if the bundle has a variant for it, else BGR.

        Raises:
            SourceError: The frame is damaged and cannot be decoded.
        """
        size_hw = frame.nv12_size_hw
        return frame.nv12 if size_hw is not None and self.takes_frame(size_hw, "nv12") else frame.image

    def prepare(self, pictures: Sequence[NDArray[Any] | Frame], buffer: Pixels | None = None) -> Prepared:
        """Convert pictures into the network's input.

        Frames of a size with a frame variant are passed as they are; a single one is not copied.

        Args:
            pictures: At most ``max_batch``: frames; or arrays, uint8 (height, width, 3), BGR, or NV12 of a size that
                :meth:`takes_frame`. An empty sequence leaves the buffer unchanged.
            buffer: From :meth:`new_buffer`, for at least as many pictures; None creates one. It and the pictures must
                stay unchanged until the run is done.

        Raises:
            TensorError: An array is not a picture.
            SourceError: A frame is damaged and cannot be decoded.
        """
        images = [self.pixels_of(item) if isinstance(item, Frame) else item for item in pictures]
        if len({image.shape for image in images}) == 1:
            size_hw, layout = size_and_layout(images[0].shape)
            engine = self._frames.get(size_hw, layout)
            if engine is not None:
                return Prepared(engine, self._stacked(images), [plan(self.manifest.preprocess, *size_hw)] * len(images))
        if buffer is None:
            buffer = self.new_buffer(len(images))
        if len(pictures) > len(buffer):
            raise TensorError(f"{len(pictures)} pictures do not fit into an input for {len(buffer)}")
        bgr = [item.image if isinstance(item, Frame) else item for item in pictures]
        geometries = [preprocess(self.manifest.preprocess, image, out) for image, out in zip(bgr, buffer, strict=False)]
        return Prepared(self.engine, buffer, geometries)

    def _stacked(self, images: Sequence[NDArray[Any]]) -> NDArray[Any]:
        missing = max(self._min_batch - len(images), 0)
        return images[0][None] if len(images) + missing == 1 else np.stack([*images, *[images[-1]] * missing])

    def start(self, prepared: Prepared, heads: Collection[str] | None = None) -> Future[Ran]:
        """Start the network.

        Args:
            prepared: From :meth:`prepare`.
            heads: The detached heads to run; None for all except those that run on demand.

        Returns:
            A future of the outputs, for :meth:`answers`. Its error is ``EngineError`` if an engine fails.
        """
        # Without detached heads no thread of ours waits for the engine.
        if self._chained is None:
            return ran(prepared.engine.submit({self._input: prepared.feed}))
        return self._chained.submit(self.run, prepared, heads)

    def run(self, prepared: Prepared, heads: Collection[str] | None = None) -> Ran:
        """Run the network and its detached heads, and wait; see :meth:`start`.

        Raises:
            EngineError: An engine failed while running.
        """
        outputs = prepared.engine.run({self._input: prepared.feed})
        if self._chained is None:
            return Ran(outputs)
        wanted = [name for name, rate in self.head_every.items() if rate] if heads is None else heads
        return Ran(outputs, self._detached.run(outputs, wanted))

    def answers(
        self, geometries: Sequence[Geometry], ran: Ran, heads: Sequence[Collection[str] | None] | None = None
    ) -> list[Results]:
        """Decode a run's outputs into results, one per picture.

        Args:
            geometries: Those of the prepared pictures.
            ran: From :meth:`start` or :meth:`run`.
            heads: The heads wanted for each picture; None for all that ran.

        Raises:
            EngineError: The network returned fewer rows than pictures, or numbers that cannot be decoded.
        """
        return self._answers(geometries, ran, heads, self._decoders, self._classes)

    def _answers(
        self,
        geometries: Sequence[Geometry],
        ran: Ran,
        heads: Sequence[Collection[str] | None] | None,
        decoders: Mapping[str, Decoder],
        classes: Collection[str] | None,
    ) -> list[Results]:
        for name in decoders:
            check_rows(ran.network, self._head_outputs[name], len(geometries))
        wanted = heads or [None] * len(geometries)
        found = [
            self._answer(ran, index, geometry, wanted[index], decoders) for index, geometry in enumerate(geometries)
        ]
        return found if classes is None else [only_classes(item, classes) for item in found]

    def _answer(
        self,
        ran: Ran,
        index: int,
        geometry: Geometry,
        wanted: Collection[str] | None,
        decoders: Mapping[str, Decoder],
    ) -> Results:
        found: dict[str, Result] = {
            name: decoder([ran.network[output][index] for output in self._head_outputs[name]], geometry)
            for name, decoder in decoders.items()
            if wanted is None or name in wanted
        }
        found |= {
            name: item.head.decode(item.outputs, index, geometry)
            for name, item in ran.heads.items()
            if wanted is None or name in wanted
        }
        if self._single and wanted is None:
            return next(iter(found.values()))
        return HeadResults((name, found[name]) for name in self.manifest.heads if name in found)

    def close(self) -> None:
        """Free the engines and close the bundle."""
        if self._chained is not None:
            self._chained.close()
        self.engine.close()
        self._frames.close()
        self._detached.close()
        self.bundle.close()

    def __enter__(self) -> Model:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
