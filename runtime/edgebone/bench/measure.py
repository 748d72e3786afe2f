"""Times one engine in one process."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.frame import Frame
from edgebone.core.timing import Percentiles, percentiles
from edgebone.engines.spec import Candidate
from edgebone.model.model import Model, load
from edgebone.sources.arrays import Arrays
from edgebone.sources.golden_picture import read_golden_picture

_WARM_UP_S = 1.0
_LEAST_RUNS = 20


class Measured(msgspec.Struct, frozen=True):
    """One engine's figures. Batch 1; every clock is the monotonic one of the process that runs the engine.

    Attributes:
        engine: The engine's name.
        precision: The precision that it reports.
        frame_hw: Size of the camera frame that preprocessing starts from.
        frames: Frames timed one by one.
        load_ms: From the call of ``load`` to a model ready to run, the engine's import included.
        first_ms: The first frame, which includes lazy allocation.
        pre: Preprocessing.
        infer: Inference.
        decode: Decoding.
        total: All three, including the time between them.
        fps: Frames per second, one by one, as for a live camera.
        fps_files: Frames per second of a file or folder, whose next frame may be prepared during inference.
        engine_fps: The engine alone, on a prepared input, without preprocessing or decoding.
        own_ms: The runtime's own share of a live frame's age, such as thread hand-overs and waiting: the age's median
            minus the three stages' medians.
        peak_memory_mb: The process's largest resident memory, in 1024² bytes.
    """

    engine: str
    precision: str
    frame_hw: tuple[int, int]
    frames: int
    load_ms: float
    first_ms: float
    pre: Percentiles
    infer: Percentiles
    decode: Percentiles
    total: Percentiles
    fps: float
    fps_files: float
    engine_fps: float
    own_ms: float
    peak_memory_mb: float


class OnDemand(Arrays):
    """Frames in memory streamed like a live camera's; each arrives when the previous one is delivered."""

    live = True
    in_memory = False

    def __init__(self, image: NDArray[np.uint8], count: int) -> None:
        super().__init__([image] * count)
        self.wanted = threading.Semaphore(1)

    def read(self) -> Frame | None:
        """Wait until a frame is wanted."""
        self.wanted.acquire()
        return super().read()

    def interrupt(self) -> None:
        """Wake a waiting ``read``."""
        self.wanted.release()


def measure(bundle: str, candidate: Candidate, frame_hw: tuple[int, int], seconds: float) -> Measured:
    """Time one engine: load, warm up, then each figure for a third of the time.

    Args:
        bundle: The bundle's path.
        candidate: The variant to load, and the engine.
        frame_hw: Size of the camera frame, in pixels.
        seconds: Time to measure for, after the warm-up.
    """
    started_ns = time.monotonic_ns()
    with load(
        bundle,
        engine=candidate.engine,
        precision=candidate.precision,
        hint=candidate.hint,
        threads=candidate.threads,
    ) as model:
        loaded_ns = time.monotonic_ns()
        image = cv2.resize(read_golden_picture(model.bundle), frame_hw[::-1], interpolation=cv2.INTER_AREA)
        pixels = np.asarray(image, np.uint8)
        first_started_ns = time.monotonic_ns()
        model(pixels)
        first_ns = time.monotonic_ns() - first_started_ns
        frame_ns = _warm_up(model, pixels)
        runs = max(_LEAST_RUNS, int(seconds / 3 * 1e9 / frame_ns))
        stages, own_ms, fps = _one_by_one(model, pixels, runs)
        fps_files = _as_files(model, pixels, runs)
        engine_fps = _engine_alone(model, pixels, runs)
        return Measured(
            engine=model.engine.name,
            precision=model.engine.precision,
            frame_hw=frame_hw,
            frames=runs,
            load_ms=round((loaded_ns - started_ns) / 1e6, 2),
            first_ms=round(first_ns / 1e6, 2),
            pre=percentiles(stages[0]),
            infer=percentiles(stages[1]),
            decode=percentiles(stages[2]),
            total=percentiles([sum(times) for times in zip(*stages, strict=True)]),
            fps=round(fps, 2),
            fps_files=round(fps_files, 2),
            engine_fps=round(engine_fps, 2),
            own_ms=round(own_ms, 4),
            peak_memory_mb=round(_peak_memory_mb(), 1),
        )


def _warm_up(model: Model, image: NDArray[np.uint8]) -> float:
    """Run until caches, clocks and allocators have settled; return the time of one frame in nanoseconds."""
    started_ns = time.monotonic_ns()
    runs = 0
    while runs < 10 or time.monotonic_ns() - started_ns < _WARM_UP_S * 1e9:
        model(image)
        runs += 1
    return (time.monotonic_ns() - started_ns) / runs


def _one_by_one(
    model: Model, image: NDArray[np.uint8], runs: int
) -> tuple[tuple[list[int], list[int], list[int]], float, float]:
    """Return the three stages' durations, the age that a live stream adds, and its frames per second."""
    buffer = model.new_buffer()
    stages: tuple[list[int], list[int], list[int]] = ([], [], [])
    for _ in range(runs):
        started = time.monotonic_ns()
        prepared = model.prepare([image], buffer)
        prepared_ns = time.monotonic_ns()
        ran = model.run(prepared)
        inferred_ns = time.monotonic_ns()
        model.answers(prepared.geometries, ran)
        durations = (prepared_ns - started, inferred_ns - prepared_ns, time.monotonic_ns() - inferred_ns)
        for times, duration in zip(stages, durations, strict=True):
            times.append(duration)
    source = OnDemand(image, runs)
    stream = model.stream(source)
    started = time.monotonic_ns()
    for _ in stream:
        source.wanted.release()
    fps = runs * 1e9 / (time.monotonic_ns() - started)
    stats = stream.stats
    own_ms = stats.age.p50_ms - stats.pre.p50_ms - stats.infer.p50_ms - stats.decode.p50_ms
    return stages, own_ms, fps


def _as_files(model: Model, image: NDArray[np.uint8], runs: int) -> float:
    started = time.monotonic_ns()
    for _ in model.stream([Frame(image, index, started, "memory") for index in range(runs)]):
        pass
    return runs * 1e9 / (time.monotonic_ns() - started)


def _engine_alone(model: Model, image: NDArray[np.uint8], runs: int) -> float:
    prepared = model.prepare([image])
    feeds = {model.manifest.input.name: prepared.feed}
    started = time.monotonic_ns()
    for _ in range(runs):
        prepared.engine.run(feeds)
    return runs * 1e9 / (time.monotonic_ns() - started)


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2


def main(arguments: Sequence[str]) -> None:
    """Measure as requested by the parent process, and print the figures as JSON."""
    bundle, candidate, height, width, seconds = arguments
    chosen = msgspec.json.decode(candidate, type=Candidate)
    measured = measure(bundle, chosen, (int(height), int(width)), float(seconds))
    sys.stdout.buffer.write(msgspec.json.encode(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
