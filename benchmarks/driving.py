"""Compare one backbone with three heads (lanes, drivable area, objects) with a detector and a segmenter.

The segmenter is the teacher: light heads on the detector's maps are fitted on its masks of the first two thirds of a
video, and measured against its masks of the last third. The compared ways take turns, in a changing order, a few frames
each; a ratio is the median of the turns' ratios. ``engine_ms`` is ``Model.infer``, ``frame_ms`` is preprocessing,
``infer`` and ``decode`` of a frame of the video.

Usage: python benchmarks/driving.py DETECTOR.bundle TEACHER.bundle VIDEO [--elsewhere FOLDER] [--turns N]
       [--epochs N] [--json FILE] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import edgebone
from edgebone.core.errors import EdgeboneError
from edgebone.core.head_file import HeadFile
from edgebone.engines.table import this_machine
from edgebone.evaluate.pictures import video_frames
from edgebone.evaluate.segmentation import MaskedPicture, evaluate_segmentation, read_masks
from edgebone.labelling import label

ENGINES = (("openvino", "fp32"), ("openvino", "bf16"), ("onnxruntime", "fp32"))
# By the student's head: the teacher's head, the student's readings, and input pixels per cell of its answer.
HEADS = {
    "lane": ("ll", ("features_s4", "features_s8", "features_s16"), 1),
    "road": ("da", ("features_s8", "features_s16", "features_s32"), 1),
}
EPOCHS = 60
EVERY = 3
TRAIN_SHARE = 2 / 3
# Frames per turn: a multiple of EVERY.
FRAMES, SETTLE = 12, 3


def fit_student(detector: Path, name: str, train: Path, held_out: Path, head: Path, epochs: int) -> HeadFile:
    """Fit a light decoder on the detector's maps, with the teacher's masks as truth, as `edgebone fit` does."""
    from edgebone_export.heads.fit.fit import fit
    from edgebone_export.heads.fit.work import Settings

    _, reads, output_stride = HEADS[name]
    options = {"output_stride": output_stride, "epochs": epochs}
    settings = Settings("segmentation", name, val=held_out, read=",".join(reads), options=options)
    return fit(detector, train, head, settings, cache=None, overwrite=True).head


def agreement(bundle: Path, folders: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Return the IoU with the teacher's masks, in pixels of the picture, by head."""
    found: dict[str, dict[str, float]] = {}
    with edgebone.load(bundle) as model:
        for name, folder in folders.items():
            pairs: list[MaskedPicture] = read_masks(folder, None)
            whole = evaluate_segmentation(model, name, model.manifest.heads[name].labels, pairs)
            found[name] = {**whole.iou, "pixel_accuracy": whole.pixel_accuracy, "pictures": whole.n}
    return found


def boxes_alike(
    before: Path, after: Path, frames: list[NDArray[np.uint8]], engine: str, precision: str
) -> dict[str, Any]:
    """Return the number of frames with bitwise equal boxes, scores and classes."""
    same = boxes = 0
    largest = 0.0
    with (
        edgebone.load(before, engine=engine, precision=precision) as one,
        edgebone.load(after, engine=engine, precision=precision) as three,
    ):
        (name,) = one.manifest.heads
        for frame in frames:
            mine: Any = one(frame)
            theirs: Any = three(frame, heads=(name,))
            theirs = theirs[name]
            boxes += len(mine)
            alike = np.array_equal(mine.class_id, theirs.class_id)
            if alike:
                pairs = ((mine.xyxy, theirs.xyxy), (mine.confidence, theirs.confidence))
                largest = max(largest, *(float(np.abs(a - b).max(initial=0)) for a, b in pairs))
                alike = all(np.array_equal(a, b) for a, b in pairs)
            same += alike
    return {"frames": len(frames), "same_to_the_bit": same, "boxes": boxes, "largest_difference": largest}


class Way:
    """Models that process each frame, one after the other."""

    def __init__(self, *models: edgebone.Model, every: int = 1) -> None:
        self._models = models
        self._every = every
        self._heads = [list(model.head_every) for model in models]
        self._buffers = [model.new_buffer() for model in models]

    def turn(self, frames: list[NDArray[np.uint8]]) -> tuple[float, float]:
        """Return milliseconds per frame, of the engines and in total."""
        for number in range(SETTLE):
            self._look(frames[number], number)
        began = time.perf_counter()
        engine_s = sum(self._look(frame, number) for number, frame in enumerate(frames[:FRAMES]))
        return 1e3 * engine_s / FRAMES, 1e3 * (time.perf_counter() - began) / FRAMES

    def _look(self, frame: NDArray[np.uint8], number: int) -> float:
        engine_s = 0.0
        for model, buffer, detached in zip(self._models, self._buffers, self._heads, strict=True):
            wanted: Collection[str] | None = (
                detached if detached and number % self._every == 0 else () if detached else None
            )
            prepared = model.prepare([frame], buffer)
            began = time.perf_counter()
            ran = model.run(prepared, wanted)
            engine_s += time.perf_counter() - began
            model.answers(prepared.geometries, ran)
        return engine_s


def timings(
    detector: Path, teacher: Path, attached: Path, detached: Path, frames: list[NDArray[np.uint8]], turns: int
) -> list[dict[str, Any]]:
    rows = []
    for engine, precision in ENGINES:
        with ExitStack() as stack:
            opened: dict[str, edgebone.Model] = {}
            for key, path in (("one", detector), ("big", teacher), ("three", attached), ("loose", detached)):
                try:
                    opened[key] = stack.enter_context(edgebone.load(path, engine=engine, precision=precision))
                except EdgeboneError as error:
                    print(f"{engine} {precision}: {path.name} is omitted: {error}")
            if not opened.keys() >= {"one", "big", "three"}:
                continue
            ways = {
                "detector alone": Way(opened["one"]),
                "detector and segmenter": Way(opened["one"], opened["big"]),
                "one backbone, three heads": Way(opened["three"]),
            }
            if "loose" in opened:
                ways["detached lanes and road"] = Way(opened["loose"])
                ways[f"detached, every {EVERY}rd frame"] = Way(opened["loose"], every=EVERY)
            orders = list(itertools.permutations(ways))
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            for way in ways.values():
                way.turn(frames)
            for number in range(turns):
                # Neighbouring permutations differ only in their last places.
                for name in orders[7 * number % len(orders)]:
                    found[name].append(ways[name].turn(frames))
        for name, own in found.items():
            row: dict[str, Any] = {"engine": f"{engine} {precision}", "way": name, "turns": turns}
            for place, figure in enumerate(("engine_ms", "frame_ms")):
                mine = [pair[place] for pair in own]
                row[figure] = round(statistics.median(mine), 3)
                for key, base in (("of_two_networks", "detector and segmenter"), ("of_detector", "detector alone")):
                    ratios = [a / b[place] for a, b in zip(mine, found[base], strict=True)]
                    row[f"{figure}_{key}"] = round(statistics.median(ratios), 3)
            rows.append(row)
            print(
                f"{row['engine']:17} {name:27} engine {row['engine_ms']:7.2f} ms "
                f"({row['engine_ms_of_detector']:.2f} of the detector, {row['engine_ms_of_two_networks']:.2f} of both) "
                f"frame {row['frame_ms']:7.2f} ms ({row['frame_ms_of_two_networks']:.2f} of both)",
                flush=True,
            )
    return rows


def main() -> None:
    from edgebone_export.heads.attach.attach import attach

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument(
        "--elsewhere", type=Path, help="pictures of other roads, to measure how well the student generalises"
    )
    parser.add_argument("--turns", type=int, default=15, help="turns of each way")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs on the teacher's masks, at most")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="keep masks, heads and bundles in this folder")
    args = parser.parse_args()
    machine = this_machine()
    print(f"{machine}; {machine.packages}")
    frames = video_frames(args.video, 1_000_000)
    first_held_out = round(TRAIN_SHARE * len(frames))
    with tempfile.TemporaryDirectory() as temporary:
        work = args.keep or Path(temporary)
        heads, held_out, elsewhere = {}, {}, {}
        with edgebone.load(args.teacher) as teacher:
            for name, (theirs, _, _) in HEADS.items():
                train, held_out[name] = work / f"{name}-train", work / f"{name}-later"
                label(teacher, str(args.video), train, head=theirs, every=EVERY, most=-(-first_held_out // EVERY))
                label(teacher, str(args.video), held_out[name], head=theirs, every=EVERY, skip=first_held_out)
                if args.elsewhere:
                    elsewhere[name] = work / f"{name}-elsewhere"
                    label(teacher, str(args.elsewhere), elsewhere[name], head=theirs)
                heads[name] = fit_student(
                    args.detector, name, train, held_out[name], work / f"{name}.head", args.epochs
                )
        together, detached = work / "driving.bundle", work / "driving-detached.bundle"
        attach(args.detector, heads, together)
        attach(args.detector, heads, detached, detached=True)
        record: dict[str, Any] = {
            "machine": machine,
            "frames": {"fitted_on": len(range(0, first_held_out, EVERY)), "held_out_from": first_held_out},
            "heads": {
                name: {
                    "reads": list(head.manifest.reads),
                    "parameters": head.manifest.report["parameters"],
                    "fit_s": head.manifest.report["seconds"],
                    "bytes": len(head.graph),
                }
                for name, head in heads.items()
            },
            "iou_held_out": agreement(together, held_out),
        }
        if elsewhere:
            record["iou_elsewhere"] = agreement(together, elsewhere)
        record["boxes"] = {
            f"{engine} {precision}": boxes_alike(args.detector, together, frames[::EVERY], engine, precision)
            for engine, precision in ENGINES
        }
        for key in ("heads", "iou_held_out", "iou_elsewhere", "boxes"):
            print(key, record.get(key), flush=True)
        record["timings"] = timings(args.detector, args.teacher, together, detached, frames, args.turns)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")


if __name__ == "__main__":
    main()
