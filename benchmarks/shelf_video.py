"""Compare the counts and events of ``edgebone shelf`` with the truth, on a shelf that is emptied and refilled.

The video is composed: real photos of packages, taken in shops, are placed side by side on a drawn shelf, removed one by
one by a drawn arm, one is put back in the wrong place, and others are refilled; with noise, drifting light, and a hand
that takes nothing. The packages are real, the shop is not. The photos are those of the data set's validation part that
show packages on a shelf instead of in a hand. Heads are fitted and galleries filled with the training part's photos of
packages, whatever they show, and with drawn pictures of the empty shelf. Three ways are compared: a gallery of the
backbone's own vectors, one of vectors fitted to distinguish packages, and a head with classes.

Usage: python benchmarks/shelf_video.py BUNDLE GROCERY FOLDER [--json FILE]

BUNDLE has an embedding; GROCERY is the Grocery Store data set. FOLDER receives shelf.mp4, shelf.json, truth.json,
products.bundle and products.gallery.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame
from edgebone.core.results import Embedding
from edgebone.engines.table import this_machine
from edgebone.gallery import Gallery
from edgebone.gallery.embedding import about, dimension_of, embed_pictures, space_of
from edgebone.pipeline.recogniser import recogniser
from edgebone.sources import open_source
from edgebone.vision.shelf import Recognise, Shelf
from edgebone.vision.shelf_file import EMPTY, facings_of, read_shelf

FPS, SECONDS = 10, 28
SIZE_WH = (1280, 600)
TILE_WH, LEFT, TOPS, COLUMNS = (150, 190), 40, (62, 338), 8
# The initial product of each facing, and the index of its validation photo.
APPLE, ORANGE, BRAVO = "God-Morgon-Apple-Juice", "God-Morgon-Orange-Juice", "Bravo-Orange-Juice"
MEDIUM, STANDARD, OATLY = "Garant-Ecological-Medium-Fat-Milk", "Garant-Ecological-Standard-Milk", "Oatly-Oat-Milk"
STOCK = {
    "juice": ((APPLE, 2), (APPLE, 4), (APPLE, 5), (ORANGE, 1), (ORANGE, 4), (ORANGE, 2), (BRAVO, 3), (BRAVO, 5)),
    "milk": (
        (MEDIUM, 1),
        (MEDIUM, 2),
        (MEDIUM, 4),
        (STANDARD, 1),
        (STANDARD, 2),
        (STANDARD, 5),
        (OATLY, 2),
        (OATLY, 5),
    ),
}
MINIMUM = {APPLE: 2, ORANGE: 2, BRAVO: 1, MEDIUM: 2, STANDARD: 2, OATLY: 2}
# Time, place and new product of each change; None is the empty shelf. A change to the same product is only a hand.
SCRIPT: tuple[tuple[float, str, int, tuple[str, int] | None], ...] = (
    (3.0, "juice", 0, None),
    (5.0, "juice", 1, None),
    (7.5, "juice", 2, None),
    (10.0, "milk", 7, None),
    (12.0, "milk", 6, None),
    (14.5, "juice", 0, (MEDIUM, 4)),
    (17.0, "milk", 3, (STANDARD, 1)),
    (19.0, "juice", 1, (APPLE, 4)),
    (20.5, "juice", 2, (APPLE, 5)),
    (22.5, "juice", 0, (APPLE, 2)),
    (24.0, "milk", 6, (OATLY, 2)),
    (25.5, "milk", 7, (OATLY, 5)),
)
REACH_S = 0.4
SETTLE_S = 1.2
LATE_S = 2.0
Image = NDArray[np.uint8]


def product_photos(grocery: Path, part: str) -> dict[str, list[Path]]:
    """Return photos by product name."""
    rows = [line.split(", ") for line in (grocery / f"{part}.txt").read_text().splitlines() if line.strip()]
    found: dict[str, list[Path]] = {}
    for file, *_ in rows:
        found.setdefault(Path(file).parent.name, []).append(grocery / file)
    return found


def read(path: Path) -> Image:
    image = cv2.imread(str(path))
    if image is None:
        raise SourceError(f"{path}: expected a picture of the Grocery Store data set")
    return np.asarray(image, np.uint8)


def tile(photo: Image) -> Image:
    """Return the middle of a photo, in a facing's shape."""
    height, width = photo.shape[:2]
    wide = round(height * TILE_WH[0] / TILE_WH[1])
    left = (width - wide) // 2
    return np.asarray(cv2.resize(photo[:, left : left + wide], TILE_WH, interpolation=cv2.INTER_AREA), np.uint8)


def empty_shelf() -> Image:
    """Draw a dark back with holes, two boards with price tags, and a lamp above."""
    width, height = SIZE_WH
    canvas = np.full((height, width, 3), (74, 70, 66), np.uint8)
    for y in range(12, height, 26):
        for x in range(12, width, 26):
            cv2.circle(canvas, (x, y), 3, (40, 38, 36), -1, cv2.LINE_AA)
    shaded = canvas * np.linspace(0.75, 1.15, height)[:, None, None]
    shaded[:34] = (205, 214, 216)
    for top in TOPS:
        # Shadow of the board above, which fades downwards.
        shaded[top - 14 : top + TILE_WH[1]] *= np.linspace(0.45, 1.1, TILE_WH[1] + 14)[:, None, None]
        board = top + TILE_WH[1]
        shaded[board : board + 34] = np.linspace(225, 165, 34)[:, None, None]
        shaded[board + 34 : board + 44] *= 0.4
    canvas = shaded.clip(0, 255).astype(np.uint8)
    cv2.putText(canvas, "JUICE & MILK", (LEFT, 25), cv2.FONT_HERSHEY_DUPLEX, 0.75, (70, 60, 50), 1, cv2.LINE_AA)
    for top in TOPS:
        board = top + TILE_WH[1]
        for column in range(COLUMNS):
            x = LEFT + column * TILE_WH[0] + 42
            cv2.rectangle(canvas, (x, board + 6), (x + 66, board + 28), (250, 252, 252), -1)
            price = f"{17 + (5 * column + top) % 14}:90"
            cv2.putText(canvas, price, (x + 8, board + 23), cv2.FONT_HERSHEY_DUPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    return canvas


def place_of(zone: str, column: int) -> tuple[int, int]:
    return LEFT + column * TILE_WH[0], TOPS[list(STOCK).index(zone)]


def put(canvas: Image, image: Image, at: tuple[int, int]) -> None:
    """Draw a package on the shelf, with a small margin."""
    height, width = image.shape[:2]
    x, y = at
    canvas[y + 4 : y + height, x + 4 : x + width - 4] = image[4:, 4:-4]


def arm(canvas: Image, to_xy: tuple[int, int]) -> Image:
    """Draw a sleeve and a hand from below."""
    layer = canvas.copy()
    x, y = to_xy
    shoulder = (x + 170, SIZE_WH[1] + 80)
    cv2.line(layer, shoulder, (x + 30, y + 70), (72, 52, 44), 84, cv2.LINE_AA)
    cv2.line(layer, (x + 34, y + 78), (x + 12, y + 34), (128, 158, 206), 56, cv2.LINE_AA)
    for finger in (-34, -12, 10, 30):
        cv2.line(layer, (x + 8 + finger // 2, y + 24), (x + finger, y - 34), (134, 166, 214), 17, cv2.LINE_AA)
    return np.where(layer == canvas, layer, cv2.GaussianBlur(layer, (5, 5), 0))


def compose(photos: dict[str, list[Path]]) -> Iterator[tuple[Image, dict[str, list[str]]]]:
    """Yield frames, and the products in each."""
    rng = np.random.default_rng(0)
    shelf = empty_shelf()
    tiles = {key: tile(read(photos[key[0]][key[1] - 1])) for row in STOCK.values() for key in row}
    now: dict[str, list[tuple[str, int] | None]] = {zone: list(row) for zone, row in STOCK.items()}
    for index in range(FPS * SECONDS):
        at_s = index / FPS
        hand = None
        for when_s, zone, column, then in SCRIPT:
            if index == round(when_s * FPS):
                now[zone][column] = then
            if abs(at_s - when_s) <= REACH_S:
                x, y = place_of(zone, column)
                # Deepest in the shelf at the moment of the change.
                away = abs(at_s - when_s) / REACH_S
                hand = (x + TILE_WH[0] // 2 + round(40 * away), y + TILE_WH[1] // 2 + round(260 * away))
        canvas = shelf.copy()
        for zone, row in now.items():
            for column, key in enumerate(row):
                if key is not None:
                    put(canvas, tiles[key], place_of(zone, column))
        if hand:
            canvas = arm(canvas, hand)
        light = 1 + 0.06 * np.sin(2 * np.pi * at_s / 20)
        noisy = canvas * light + rng.normal(0, 3, canvas.shape)
        yield (
            noisy.clip(0, 255).astype(np.uint8),
            {zone: [EMPTY if key is None else key[0] for key in row] for zone, row in now.items()},
        )


def empty_pictures() -> list[Image]:
    """Return pictures of the empty shelf as a shop would take them: every facing, in brighter and darker light."""
    rng = np.random.default_rng(1)
    shelf = empty_shelf()
    found = []
    for zone in STOCK:
        for column in range(0, COLUMNS, 2):
            x, y = place_of(zone, column)
            crop = shelf[y : y + TILE_WH[1], x : x + TILE_WH[0]]
            found += [
                (crop * light + rng.normal(0, 3, crop.shape)).clip(0, 255).astype(np.uint8) for light in (0.9, 1.0, 1.1)
            ]
    return found


def fit(bundle: str, photos: dict[str, list[Path]], folder: Path) -> Path:
    """Make a bundle with two more heads: vectors that distinguish packages, and the shelf's own products as classes."""
    from edgebone_export.heads.attach.artefact import make_artefact
    from edgebone_export.heads.attach.attach import attach
    from edgebone_export.heads.features.features import pick
    from edgebone_export.heads.features.fitted import Samples
    from edgebone_export.heads.features.readings import Reading
    from edgebone_export.heads.features.taps import EMBEDDING, taps_of
    from edgebone_export.heads.vectors.classifier import fit_classifier
    from edgebone_export.heads.vectors.embedding import fit_embedding

    # The shelf's products first, so that they are the first ids.
    names = [*MINIMUM, EMPTY, *(name for name in photos if name not in MINIMUM)]
    pictures = {name: empty_pictures() if name == EMPTY else list(map(facing_of, photos[name])) for name in names}
    with edgebone.load(bundle) as model:
        results = [result for name in names for result in model(pictures[name])]
    vectors = [result.vector for result in results if isinstance(result, Embedding)]
    x, y = np.stack(vectors), np.repeat(np.arange(len(names)), [len(pictures[name]) for name in names])
    own = y <= len(MINIMUM)
    everything = Samples(x, y, np.arange(len(x)))
    fitted = {
        "alike": fit_embedding(everything, names),
        "products": fit_classifier(everything.take(own), None, names[: len(MINIMUM) + 1]),
    }
    with open_bundle(bundle) as opened:
        taps, candidate = taps_of(opened), pick(opened, "onnxruntime", None)
        reads = [Reading(EMBEDDING, "none")]
        heads = [make_artefact(name, head, opened, taps, reads, candidate) for name, head in fitted.items()]
    return attach(bundle, heads, folder / "products.bundle", overwrite=True).path


def facing_of(path: Path) -> Image:
    """Return a photo as a facing shows it."""
    return tile(read(path))


def enrol(model: edgebone.Model, head: str, photos: dict[str, list[Path]], strangers: bool) -> Gallery:
    """Enrol the shelf's products and the empty shelf; the threshold for strangers comes from the other packages."""
    gallery = Gallery(space_of(model, head), dimension_of(model, head), about=about(model, head))
    for product in MINIMUM:
        vectors = embed_pictures(model, list(map(facing_of, photos[product])), head)
        gallery.add(vectors, product, sources=[str(path) for path in photos[product]])
    gallery.add(embed_pictures(model, empty_pictures(), head), EMPTY)
    others = [facing_of(path) for product, paths in photos.items() if product not in MINIMUM for path in paths]
    if strangers:
        print(
            f"gallery of {head}: {len(gallery)} entries; {gallery.calibrate(0.05, embed_pictures(model, others, head))}"
        )
    return gallery


def shelf_file() -> dict[str, Any]:
    zones = []
    for zone, row in STOCK.items():
        left, top = place_of(zone, 0)
        products = list(dict.fromkeys(product for product, _ in row))
        zones.append({
            "name": zone, "xyxy": [left, top, left + COLUMNS * TILE_WH[0], top + TILE_WH[1]], "columns": COLUMNS,
            "expected": [{"product": product, "minimum": MINIMUM[product]} for product in products],
        })  # fmt: skip
    return {"schema": 1, "units": "pixels", "agree": 8, "looks": 12, "zones": zones}


def true_events(truth: list[dict[str, list[str]]]) -> list[tuple[int, str, str, str, int]]:
    """Return the true events of the script: frame, event, zone, product, count."""
    found = []
    for index in range(1, len(truth)):
        for zone, row in truth[index].items():
            before, now = Counter(truth[index - 1][zone]), Counter(row)
            own = {product for product, _ in STOCK[zone]}
            for product in sorted(own):
                was, count, least = before[product], now[product], MINIMUM[product]
                if count == 0 < was:
                    found.append((index, "out_of_stock", zone, product, 0))
                elif was >= least > count or (was == 0 < count < least):
                    found.append((index, "low_stock", zone, product, count))
                elif was < least <= count:
                    found.append((index, "restocked", zone, product, count))
            strays = [product for product in now if product not in own | {EMPTY} and now[product] > before[product]]
            found += [(index, "misplaced", zone, product, now[product]) for product in strays]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("grocery", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(asked.folder / "shelf.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), FPS, SIZE_WH)
    truth = []
    for image, standing in compose(product_photos(asked.grocery, "val")):
        writer.write(image)
        truth.append(standing)
    writer.release()
    (asked.folder / "truth.json").write_text(json.dumps(truth))
    (asked.folder / "shelf.json").write_text(json.dumps(shelf_file(), indent=1))
    packages = {name: paths for name, paths in product_photos(asked.grocery, "train").items() if is_package(paths)}
    fitted = fit(asked.bundle, packages, asked.folder)
    print(this_machine())
    found = {}
    with edgebone.load(fitted) as model:
        own = next(name for name in model.manifest.heads if name not in ("alike", "products"))
        enrol(model, own, packages, False).save(asked.folder / "plain.gallery", overwrite=True)
        enrol(model, "alike", packages, True).save(asked.folder / "products.gallery", overwrite=True)
        ways = {
            "gallery, the backbone's own vectors": (own, "plain.gallery"),
            "gallery, fitted vectors": ("alike", "products.gallery"),
            "classes": ("products", None),
        }
        for way, (head, gallery) in ways.items():
            print(f"\n{way}; {model.engine.name} {model.engine.precision}")
            recognise, _ = recogniser(model, str(asked.folder / gallery) if gallery else None, head)
            found[way] = watch(recognise, asked.folder, truth)
            print("\n".join(f"  {name}: {value}" for name, value in found[way].items()))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


def is_package(paths: list[Path]) -> bool:
    return "Packages" in paths[0].parts


def without_skipping(recognise: Recognise, folder: Path, most: int = 60) -> float:
    """Return milliseconds per frame if every facing goes through the network every time."""
    shelf = Shelf(msgspec.structs.replace(read_shelf(folder / "shelf.json"), changed=0.0), recognise)
    busy_s = 0.0
    for frame in itertools.islice(frames_of(folder), most):
        began_s = time.perf_counter()
        shelf.update(frame)
        busy_s += time.perf_counter() - began_s
    assert shelf.embedded == shelf.looks
    return 1000 * busy_s / most


def watch(recognise: Recognise, folder: Path, truth: list[dict[str, list[str]]]) -> dict[str, Any]:
    """Run the shelf on the video, and compare it with the truth."""
    file = read_shelf(folder / "shelf.json")
    first = next(frames_of(folder))
    boxes = [box for zone in file.zones for box in facings_of(file, zone, first.size_hw)]
    named = recognise([first.image[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes])
    at_first = [product for row in truth[0].values() for product in row]
    shelf = Shelf(file, recognise)
    right: list[bool] = []
    steady: list[bool] = []
    errors: list[int] = []
    events = []
    busy_s: list[float] = []
    changes = [round(when_s * FPS) for when_s, *_ in SCRIPT]
    for frame in frames_of(folder):
        began_s = time.perf_counter()
        stock, new = shelf.update(frame)
        busy_s.append(time.perf_counter() - began_s)
        events += new
        standing = truth[frame.index]
        is_steady = frame.index >= SETTLE_S * FPS and not any(
            0 <= frame.index - change <= SETTLE_S * FPS for change in changes
        )
        for facing in stock.facings:
            right.append(facing.product == standing[facing.zone][facing.column])
            if is_steady:
                steady.append(right[-1])
        if is_steady:
            for zone, row in standing.items():
                true = Counter(row)
                counted = stock.counts[zone]
                errors += [abs(true[product] - (counted.get(product) or 0)) for product in true.keys() | counted.keys()]
    due = true_events(truth)
    left = list(events)
    # An event reported sooner than that many looks take has another reason.
    late_s = []
    for index, *what in due:
        match = next(
            (
                event for event in left
                if [event.event, event.zone, event.product, event.count] == what
                and file.agree - 1 <= event.frame - index <= LATE_S * FPS
            ),
            None,
        )  # fmt: skip
        if match is None:
            print(f"missed: {index / FPS:.1f} s {what}")
        else:
            late_s.append((match.frame - index) / FPS)
            left.remove(match)
    for event in left:
        print(f"false: {event}")
    busy = np.array(busy_s)
    return {
        "frames": len(busy),
        "facings named right at the first look": f"{sum(map(str.__eq__, named, at_first))} of {len(named)}",
        "facing accuracy, all frames": round(float(np.mean(right)), 4),
        f"facing accuracy, from {SETTLE_S} s after a change on": round(float(np.mean(steady)), 4),
        "count error, mean absolute, same frames": round(float(np.mean(errors)), 4),
        "events due": len(due),
        "events found": len(late_s),
        "events missed": len(due) - len(late_s),
        "events false": len(left),
        "told after (s), mean": round(float(np.mean(late_s)), 2) if late_s else None,
        "ms a frame, mean / p50 / p99": [
            round(1000 * float(x), 2) for x in (busy.mean(), *np.percentile(busy, (50, 99)))
        ],
        "ms a frame, all facings embedded": round(without_skipping(recognise, folder), 2),
        "fps of the watching alone": round(len(busy) / busy.sum(), 1),
        "facings embedded a frame": round(shelf.embedded / len(busy), 3),
        "share skipped because unchanged": round(1 - shelf.embedded / shelf.looks, 4),
    }


def frames_of(folder: Path) -> Iterator[Frame]:
    source = open_source(folder / "shelf.mp4")
    while (frame := source.read()) is not None:
        yield frame
    source.close()


if __name__ == "__main__":
    main()
