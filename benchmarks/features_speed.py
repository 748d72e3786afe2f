"""Compare the speed of features, evaluation and galleries with the engine that computes them.

Three ways take turns in one run, in a changing order: the engine alone on prepared inputs, with as many runs in flight
as the pipeline has; one picture at a time, read, augmented by the plain formula, preprocessed and inferred in sequence;
and edgebone. A ratio is the median of the turns' ratios. Before timing, edgebone's results are checked to be bitwise
equal to the plain loop's.

Evaluation is timed if the bundle has a classification, galleries if it has an embedding.

Usage: python benchmarks/features_speed.py BUNDLE PICTURES [--pictures N] [--views N]... [--turns N] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np

from edgebone.core.ahead import ahead
from edgebone.core.bundle import Bundle, open_bundle
from edgebone.core.results import Classification, Embedding
from edgebone.engines.table import this_machine
from edgebone.evaluate.answers import answers, refuse
from edgebone.evaluate.pictures import find_pictures, spread
from edgebone.gallery.embedding import embed_pictures
from edgebone.gallery.enrolment import Sample, embed_samples
from edgebone.gallery.gallery import Gallery
from edgebone.model.model import Model, load
from edgebone.preprocess import preprocess
from edgebone.sources.images import read_image
from edgebone_export.heads.data.views import views_of
from edgebone_export.heads.features.features import FeatureEngine, extract, pick
from edgebone_export.heads.features.readings import default_readings
from edgebone_export.heads.features.taps import taps_of

ALONE, PLAIN, OURS = "engine alone", "one after the other", "edgebone"


@dataclass(frozen=True)
class Task:
    """One task in each way; ``views`` is the number of network inputs per picture."""

    name: str
    views: int
    ways: dict[str, Callable[[], Any]]
    same: Callable[[Any, Any], bool]


def plainly_lit(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change the lighting with a formula over whole pixels."""
    brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
    tint = rng.uniform(0.93, 1.07, 3)
    pixels = picture.astype(np.float32)
    gray = pixels @ np.asarray((0.114, 0.587, 0.299), np.float32)
    pixels = gray[..., None] + (pixels - gray[..., None]) * np.float32(saturation)
    mean = float(gray.mean())
    pixels = (mean + (pixels - mean) * np.float32(contrast)) * np.float32(brightness * tint)
    return np.asarray(np.clip(pixels, 0, 255), np.uint8)


def features(bundle: Bundle, engine: FeatureEngine, pictures: list[Path], views: int) -> Task:
    spec = bundle.manifest.preprocess
    ready = np.random.default_rng(0).integers(0, 256, (views, *spec.size_hw, 3), np.uint8)

    def plain() -> np.ndarray:
        rows = []
        for path in pictures:
            inputs = np.zeros((views, *spec.size_hw, 3), np.uint8)
            seed = int(hashlib.sha256(path.read_bytes()).hexdigest()[:8], 16)
            for view, out in zip(views_of(read_image(path), views, seed), inputs, strict=True):
                preprocess(spec, view, out)
            rows.append(engine.run(inputs)["vector"])
        return np.concatenate(rows)

    def with_plain_views() -> np.ndarray:
        with patch("edgebone_export.heads.data.views._relit", plainly_lit):
            return plain()

    return Task(
        f"features, {views} view{'s' * (views > 1)}",
        views,
        {
            ALONE: lambda: list(ahead(lambda _: engine.run(ready), pictures)),
            PLAIN: with_plain_views,
            OURS: lambda: extract(engine, pictures, views=views).arrays["vector"],
        },
        lambda a, b: bool(np.array_equal(a, b)),
    )


def alone(model: Model, pictures: list[Path]) -> Callable[[], Any]:
    prepared = model.prepare([])
    return lambda: list(ahead(lambda _: model.run(prepared), pictures))


def evaluation(model: Model, pictures: list[Path]) -> Task:
    def ours() -> list[Any]:
        return [result for _, result in answers(model, pictures, refuse, lambda _: None)]

    return Task(
        "evaluation",
        1,
        {ALONE: alone(model, pictures), PLAIN: lambda: [model([path])[0] for path in pictures], OURS: ours},
        lambda a, b: all(np.array_equal(x.probabilities, y.probabilities) for x, y in zip(a, b, strict=True)),
    )


def gallery(model: Model, pictures: list[Path], dimension: int) -> Task:
    samples = [Sample(str(path), "label") for path in pictures]
    kind = Gallery("space", dimension)
    return Task(
        "gallery",
        1,
        {
            ALONE: alone(model, pictures),
            PLAIN: lambda: np.concatenate([embed_pictures(model, [read_image(path)]) for path in pictures]),
            OURS: lambda: embed_samples(model, kind, samples, None, True).vectors[:, 0],
        },
        lambda a, b: bool(np.array_equal(a, b)),
    )


def timed(task: Task, pictures: int, turns: int) -> dict[str, Any]:
    """Measure a task, whose ways take turns."""
    same = task.same(task.ways[OURS](), task.ways[PLAIN]())
    wall_s: dict[str, list[float]] = {name: [] for name in task.ways}
    cpu_s: dict[str, list[float]] = {name: [] for name in task.ways}
    names = list(task.ways)
    for turn in range(turns):
        for place in range(len(names)):
            name = names[(place + turn) % len(names)]
            wall, cpu = time.perf_counter(), time.process_time()
            task.ways[name]()
            wall_s[name].append(time.perf_counter() - wall)
            cpu_s[name].append(time.process_time() - cpu)
    ways = {
        name: {
            "pictures_a_second": round(pictures / statistics.median(wall_s[name]), 1),
            "views_a_second": round(pictures * task.views / statistics.median(wall_s[name]), 1),
            "cpu_ms_a_picture": round(1e3 * statistics.median(cpu_s[name]) / pictures, 2),
            "of_engine_alone": round(statistics.median(map(_ratio, wall_s[ALONE], wall_s[name])), 3),
            "of_engines_cpu": round(statistics.median(map(_ratio, cpu_s[ALONE], cpu_s[name])), 3),
        }
        for name in task.ways
    }
    times = round(statistics.median(map(_ratio, wall_s[PLAIN], wall_s[OURS])), 3)
    return {"task": task.name, "same_to_the_bit": same, "times_as_fast": times, "ways": ways}


def _ratio(a: float, b: float) -> float:
    return a / b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path, help="folder of pictures")
    parser.add_argument("--pictures", type=int, default=60, help="a turn")
    parser.add_argument("--views", type=int, action="append", help="default 1 and 6")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    pictures = spread(find_pictures(args.data) or [], args.pictures)
    machine, load_before = this_machine(), os.getloadavg()[0]
    rows = []
    with ExitStack() as stack:
        bundle = stack.enter_context(open_bundle(args.bundle))
        taps = taps_of(bundle)
        candidate = pick(bundle, args.engine, None)
        engine = stack.enter_context(FeatureEngine(bundle, candidate, taps, default_readings(taps)))
        model = stack.enter_context(load(args.bundle, engine=candidate.engine, precision=candidate.precision))
        tasks = [features(bundle, engine, pictures, views) for views in args.views or (1, 6)]
        first = model(pictures[0])
        if isinstance(first, Classification):
            tasks.append(evaluation(model, pictures))
        if isinstance(first, Embedding):
            tasks.append(gallery(model, pictures, len(first.vector)))
        print(f"{machine}\n{args.bundle.name}, {candidate}, {len(pictures)} pictures, {args.turns} turns")
        for task in tasks:
            row = timed(task, len(pictures), args.turns)
            rows.append(row)
            same = "the same to the bit" if row["same_to_the_bit"] else "NOT THE SAME"
            print(f"{task.name}: {row['times_as_fast']:.2f} times as fast as one after the other, {same}")
            for name, way in row["ways"].items():
                print(
                    f"  {name:20} {way['pictures_a_second']:7.1f} pictures/s {way['views_a_second']:7.1f} views/s"
                    f" {way['cpu_ms_a_picture']:7.2f} ms of CPU a picture; of the engine alone"
                    f" {way['of_engine_alone']:.2f}, by CPU {way['of_engines_cpu']:.2f}"
                )
    load_after = os.getloadavg()[0]
    print(f"load {load_before:.1f} before, {load_after:.1f} after")
    if args.json:
        found = {
            "machine": machine, "bundle": args.bundle.name, "candidate": str(candidate), "pictures": len(pictures),
            "turns": args.turns, "load": [round(load_before, 1), round(load_after, 1)], "rows": rows,
        }  # fmt: skip
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))


if __name__ == "__main__":
    main()
