"""Measure which copies signatures find, and the cost of a search in a gallery of a million vectors.

Half of the pictures are references, the other half distractors, and then the other way round. Every picture is looked
up under every distortion. A distractor that matches anything is a false match; each method's threshold is the one at
which one distractor in a thousand of the other half matches, so it is never tested on the pictures that it was chosen
on.

The parameters of a signature (its views, the thumbnail's size and quality) were chosen on all of these
distortions of ImageNet's pictures, so results on that set are optimistic. Pass another folder that was not used.

Usage: python benchmarks/signatures.py BUNDLE PICTURES... [--vectors N] [--dimension D] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

import edgebone
from edgebone.engines.table import this_machine
from edgebone.gallery import Gallery
from edgebone.gallery import gallery as gallery_module
from edgebone.gallery.calibration import wilson
from edgebone.gallery.embedding import embed_pictures
from edgebone.gallery.signature import embed_references
from edgebone.gallery.views import OWN, SIGNATURE
from edgebone.sources.folders import pictures_in
from edgebone.sources.images import read_image

FALSE_MATCH_RATE = 1e-3
QUERIES = 500


def jpeg(image: np.ndarray, quality: int = 30) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def crop(image: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random part of the picture with ``side`` of each side."""
    height, width = (round(length * side) for length in image.shape[:2])
    top, left = (rng.integers(0, whole - part + 1) for whole, part in zip(image.shape, (height, width), strict=False))
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def half(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def flip(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


DISTORTIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "unchanged": lambda image, _: image,
    "JPEG quality 30": lambda image, _: jpeg(image),
    "crop, 80 % of the area": lambda image, rng: crop(image, 0.8**0.5, rng),
    "crop, 80 % of each side": lambda image, rng: crop(image, 0.8, rng),
    "half the size": lambda image, _: half(image),
    "mirrored": lambda image, _: flip(image),
    "all, 80 % of the area": lambda image, rng: jpeg(half(flip(crop(image, 0.8**0.5, rng)))),
    "all, 80 % of each side": lambda image, rng: jpeg(half(flip(crop(image, 0.8, rng)))),
    # Beyond what signatures are meant for.
    "JPEG quality 10": lambda image, _: jpeg(image, 10),
    "blurred": lambda image, _: cv2.GaussianBlur(image, (0, 0), max(image.shape[:2]) / 150),
    "grey": lambda image, _: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
}


def phash(image: np.ndarray) -> np.ndarray:
    """Return 64 bits: the signs of the lowest 8 × 8 frequencies of a grey 32 × 32 thumbnail, about their median."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
    return low > np.median(low[1:])


def dhash(image: np.ndarray) -> np.ndarray:
    """Return 64 bits: whether each pixel of a grey 9 × 8 thumbnail is brighter than the one to its left."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def agreement(references: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return equal bits less unequal ones: (m, 64) against (n, 64)."""
    return (2.0 * queries.astype(np.float32) - 1) @ (2.0 * references.astype(np.float32) - 1).T


class Method:
    """Features of references and queries, and their similarity.

    Args:
        references: (n, r, d), r for each picture.
        queries: (distortions, n, q, d), q for each picture.
    """

    def __init__(self, references: np.ndarray, queries: np.ndarray, bits: bool) -> None:
        self.references, self.queries, self.bits = references, queries, bits

    def similarity(self, queries: np.ndarray, references: np.ndarray) -> np.ndarray:
        """Return the best similarity of each query with each reference: (distortions, m, n)."""
        found = None
        for each in range(self.queries.shape[2]):
            for one in range(self.references.shape[1]):
                asked, known = self.queries[:, queries, each], self.references[references, one]
                alike = np.stack([agreement(known, part) if self.bits else part @ known.T for part in asked])
                found = alike if found is None else np.maximum(found, alike)
        assert found is not None
        return found


def evaluate(method: Method, folds: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Return recall under each distortion and the number of false matches, with thresholds from the other half."""
    thresholds = []
    for references, distractors in folds:
        nearest = method.similarity(distractors, references).max(axis=2).ravel()
        thresholds.append(np.sort(nearest)[::-1][int(FALSE_MATCH_RATE * len(nearest))])
    hits, false, asked = np.zeros(len(DISTORTIONS), int), 0, 0
    for (references, distractors), threshold in zip(folds, reversed(thresholds), strict=True):
        alike = method.similarity(references, references)
        own = np.einsum("dnn->dn", alike)
        hits += ((own > threshold) & (own >= alike.max(axis=2))).sum(axis=1)
        nearest = method.similarity(distractors, references).max(axis=2)
        false, asked = false + int((nearest > threshold).sum()), asked + nearest.size
    count = sum(len(references) for references, _ in folds)
    return {
        "recall": {
            name: {"found": int(hit), "of": count, "interval": wilson(int(hit), count)}
            for name, hit in zip(DISTORTIONS, hits, strict=True)
        },
        "false_matches": {"found": false, "of": asked, "interval": wilson(false, asked)},
        "thresholds": [float(threshold) for threshold in thresholds],
    }


def copies(bundle: str, folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Return every method's figures, and the cost per picture."""
    files = pictures_in(folder, deep=True)
    kinds = ("own", "whole and mirror", "thumbnail", "pHash", "dHash")
    queries: dict[str, list[list[np.ndarray]]] = {kind: [] for kind in kinds}
    references: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    seconds = {"signature": 0.0, "pHash": 0.0}
    with edgebone.load(bundle, precision="fp32") as model:
        for number, file in enumerate(files):
            image = read_image(file)
            rng = np.random.default_rng(number)
            altered = [distort(image, rng) for distort in DISTORTIONS.values()]
            references["own"].append(embed_pictures(model, [image], views=OWN))
            both = embed_references(model, [image])[0]
            references["whole and mirror"].append(both[:1])
            references["thumbnail"].append(both)
            queries["own"].append(list(embed_pictures(model, altered, views=OWN)[:, None]))
            started = time.perf_counter()
            found = list(embed_pictures(model, altered, views=SIGNATURE)[:, None])
            hashed = time.perf_counter()
            hashes = [np.stack([phash(item), phash(flip(item))]) for item in altered]
            seconds["signature"] += hashed - started
            seconds["pHash"] += time.perf_counter() - hashed
            queries["whole and mirror"].append(found)
            queries["thumbnail"].append(found)
            queries["pHash"].append(hashes)
            queries["dHash"].append([dhash(item)[None] for item in altered])
            references["pHash"].append(phash(image)[None])
            references["dHash"].append(dhash(image)[None])

    def method(kind: str, most: int = 2) -> Method:
        asked = np.stack([np.stack(item) for item in queries[kind]], axis=1)
        return Method(np.stack(references[kind]), asked[:, :, :most], kind.endswith("Hash"))

    order = np.random.default_rng(0).permutation(len(files))
    halves = np.array_split(order, 2)
    folds = [(halves[0], halves[1]), (halves[1], halves[0])]
    methods = {
        "pHash": method("pHash", 1),
        "pHash, both ways round": method("pHash"),
        "dHash": method("dHash"),
        "embedding": method("own"),
        "whole picture, both ways round": method("whole and mirror"),
        "the same with thumbnails (edgebone's signatures)": method("thumbnail"),
    }
    pictures = len(files) * len(DISTORTIONS)
    costs = {f"{name}_ms": 1000 * taken / pictures for name, taken in seconds.items()}
    return {name: evaluate(item, folds) for name, item in methods.items()}, costs


def clustered(count: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    """Return unit vectors in groups of twenty, like pictures of one object."""
    centres = rng.standard_normal((max(1, count // 20), dimension), np.float32)
    vectors = rng.standard_normal((count, dimension), np.float32)
    vectors *= 0.5
    for start in range(0, count, 65_536):
        part = vectors[start : start + 65_536]
        part += centres[rng.integers(0, len(centres), len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def many(count: int, dimension: int, folder: Path) -> dict[str, Any]:
    """Measure a large gallery: build, save, load in another process, search, and compare with an exhaustive search."""
    rng = np.random.default_rng(0)
    vectors = clustered(count, dimension, rng)
    queries = vectors[rng.integers(0, count, QUERIES)] + 0.35 / np.sqrt(dimension) * rng.standard_normal(
        (QUERIES, dimension)
    ).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    nearest = np.concatenate([(part @ vectors.T).argmax(axis=1) for part in np.array_split(queries, QUERIES // 10)])
    exact_ms = _each_ms(vectors.dot, queries[:100])
    gallery = Gallery("synthetic", dimension, "int8")
    started = time.perf_counter()
    gallery.add(vectors, "entry", same=None)
    built = time.perf_counter()
    path = gallery.save(folder / "million.gallery")
    saved = time.perf_counter()
    np.save(folder / "queries.npy", queries)
    del gallery, vectors
    # In a separate process: its memory is that of a device that only searches.
    command = [sys.executable, __file__, "--search", str(path), str(folder / "queries.npy")]
    searched = msgspec.json.decode(subprocess.run(command, check=True, capture_output=True).stdout)
    found = np.array(searched.pop("nearest"))
    return {
        "vectors": count,
        "dimension": dimension,
        "storage": "int8",
        "build_s": built - started,
        "save_s": saved - built,
        "file_mb": path.stat().st_size / 1e6,
        **searched,
        "recall_at_1": float((found == nearest).mean()),
        "exact_float32_ms": exact_ms,
    }


def _each_ms(search: Callable[[np.ndarray], Any], queries: np.ndarray) -> dict[str, float]:
    times = []
    for query in queries:
        started = time.perf_counter()
        search(query)
        times.append(1000 * (time.perf_counter() - started))
    return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}


def search_in_own_process(path: str, asked: str) -> None:
    """Print the cost of searching a gallery, as JSON."""
    queries = np.load(asked)
    before = _resident_mb()
    started = time.perf_counter()
    gallery = Gallery.load(path)
    loaded = time.perf_counter()
    nearest = [int(gallery.search(query, 1).ids[0]) for query in queries]
    figures = {
        "load_s": loaded - started,
        "query_ms": _each_ms(lambda query: gallery.search(query, 5), queries),
        "memory_mb": _resident_mb() - before,
        "nearest": nearest,
    }
    print(msgspec.json.encode(figures).decode())


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def sizes(dimension: int, most: int) -> list[dict[str, Any]]:
    """Compare exhaustive search with the index by the number of entries, to find where the index pays."""
    rng = np.random.default_rng(0)
    usual = gallery_module.EXACT_NUMBERS
    rows = []
    for count in (size for size in (5_000, 10_000, 25_000) if size <= most):
        vectors = clustered(count, dimension, rng)
        row: dict[str, Any] = {"vectors": count, "dimension": dimension}
        for name, numbers in (("exact", 1 << 40), ("index", 1)):
            gallery_module.EXACT_NUMBERS = numbers
            gallery = Gallery("synthetic", dimension)
            started = time.perf_counter()
            gallery.add(vectors, "entry", same=None)
            row[name] = _each_ms(gallery.search, vectors[:200]) | {"add_s": time.perf_counter() - started}
        rows.append(row)
    gallery_module.EXACT_NUMBERS = usual
    return rows


def show(pictures: str, methods: dict[str, Any], costs: dict[str, float]) -> None:
    print(f"{pictures}: recall in % (95 %) where one distractor in {1 / FALSE_MATCH_RATE:.0f} should match")
    for name, found in methods.items():
        false = found["false_matches"]
        low, high = false["interval"]
        print(f"\n{name}: {false['found']} of {false['of']} distractors matched ({100 * low:.3f}-{100 * high:.3f} %)")
        for distortion, recall in found["recall"].items():
            low, high = recall["interval"]
            share = recall["found"] / recall["of"]
            print(f"  {distortion:26} {100 * share:6.1f}  ({100 * low:.1f}-{100 * high:.1f})")
    print(
        f"\n{costs['signature_ms']:.1f} ms per signature, {costs['pHash_ms']:.1f} ms per pHash\n",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("pictures", type=Path, nargs="+", help="folders, each measured on its own")
    parser.add_argument("--vectors", type=int, default=1_000_000, help="number of synthetic vectors")
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    print(f"{machine}; {machine.packages}")
    sets = []
    for folder in args.pictures:
        methods, costs = copies(args.bundle, folder)
        sets.append({"pictures": folder.name, "methods": methods, "costs": costs})
        show(folder.name, methods, costs)
    by_size = sizes(1280, args.vectors)
    for row in by_size:
        print(
            f"{row['vectors']} × {row['dimension']} float32: each {row['exact']['p50']:.2f} ms, "
            f"index {row['index']['p50']:.2f} ms (added in {row['index']['add_s']:.1f} s)",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        million = many(args.vectors, args.dimension, Path(folder))
    print(
        f"{million['vectors']} × {million['dimension']} int8 in the index: query p50 {million['query_ms']['p50']:.2f} "
        f"ms, p99 {million['query_ms']['p99']:.2f} ms, recall@1 {million['recall_at_1']:.3f}; exhaustive "
        f"float32 p50 {million['exact_float32_ms']['p50']:.1f} ms; built in {million['build_s']:.0f} s, saved in "
        f"{million['save_s']:.1f} s, loaded in {million['load_s']:.2f} s, {million['file_mb']:.0f} MB on disk, "
        f"{million['memory_mb']:.0f} MB in memory"
    )
    if args.json:
        content = {
            "machine": machine, "false_match_rate": FALSE_MATCH_RATE, "sets": sets, "sizes": by_size,
            "million": million,
        }  # fmt: skip
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(content)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--search"]:
        search_in_own_process(*sys.argv[2:])
    else:
        main()
