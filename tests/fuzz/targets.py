"""Everything that reads what others made: a row each."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import json
import os
import random
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import seeds
from harness import Target
from mutators import (
    either,
    make_zip,
    mutate_bytes,
    mutate_graph,
    mutate_json,
    mutate_names,
    mutate_npy,
    mutate_npz,
    mutate_text,
    of_manifest,
    of_members,
    unzip,
    with_graph_hash,
    with_hashes,
)

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.errors import EdgeboneError, SourceError

_PICTURE = np.full((48, 64, 3), (5, 10, 250), np.uint8)


def use_bundle(path: Path, engine: str) -> None:
    """All that a bundle is read for: looked at, replayed, run on pictures, written as text."""
    from edgebone.cli.inspect import inspect_command
    from edgebone.core.frame import Frame
    from edgebone.core.golden import read_golden
    from edgebone.core.results import results_to_text
    from edgebone.decode import make_decoders
    from edgebone.engines.spec import Candidate
    from edgebone.selftest import preprocess_off_by, replay
    from edgebone.sinks.jsonl import to_line

    with contextlib.redirect_stdout(io.StringIO()):
        inspect_command(str(path))
    with open_bundle(path) as bundle:
        make_decoders(bundle.manifest)
        sample = read_golden(bundle)
        preprocess_off_by(bundle, sample)
        for variant in bundle.manifest.variants:
            replay(bundle, sample, Candidate(engine, "fp32", variant))
        planned = bool(bundle.manifest.plans)
    # A plan is looked at where nothing else is asked for.
    with edgebone.load(path, engine="auto" if planned else engine) as model:
        results = model(_PICTURE)
        results_to_text(results)
        to_line(Frame(_PICTURE, 0, 0, "x"), results)
        model([_PICTURE] * 3)


def as_folder(data: bytes, place: Path, engine: str = "onnxruntime") -> None:
    """A bundle in a folder, links in it where the zip has some; what has another name cannot be there."""
    path = place / "folder.bundle"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            target = path / info.filename.replace("\0", "")
            inside = os.path.normpath(target).startswith(f"{path}/")
            with contextlib.suppress(OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
                if inside:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    # Not through a link of the same name.
                    target.unlink(missing_ok=True)
                    if info.external_attr >> 16 == 0o120777:
                        target.symlink_to(archive.read(info).decode())
                    else:
                        target.write_bytes(archive.read(info))
    use_bundle(path, engine)


def as_zip(data: bytes, place: Path) -> None:
    """A bundle in a zip."""
    path = place / "bundle.zip"
    path.write_bytes(data)
    use_bundle(path, "onnxruntime")


def either_way(data: bytes, place: Path) -> None:
    """A bundle in a zip and in a folder: the zip's refusal must not keep the folder from being tried."""
    first: EdgeboneError | None = None
    for use in (as_zip, as_folder):
        try:
            use(data, place)
        except EdgeboneError as error:
            first = first or error
    if first is not None:
        raise first


def same_or_refused(data: bytes, place: Path) -> None:
    """A damaged zip is refused, or holds what it held."""
    path = place / "bundle.zip"
    path.write_bytes(data)
    with open_bundle(path) as bundle, open_bundle(place.parent / "seeds" / "colors.bundle") as good:
        found = {name: bundle.read(name) for name in bundle.manifest.files}
        assert found == {name: good.read(name) for name in good.manifest.files}, "other content was accepted"


def use_graph(engine: str, data: bytes, place: Path) -> None:
    """A network in a bundle that says of it what the original one was."""
    folder = place.parent / "seeds"
    for base in ("colors.bundle", "two.bundle"):
        files = unzip(_zipped(folder / base))
        if len(files["onnx/fp32.onnx"]) > 2000 or len(data) < 2000:
            break
    files["onnx/fp32.onnx"] = data
    manifest = with_hashes(files.pop("manifest.json"), files)
    whole = {"manifest.json": manifest, **files}
    if len(data) % 3:
        as_folder(make_zip(whole), place, engine)
    else:
        path = place / "bundle.zip"
        path.write_bytes(make_zip(whole))
        use_bundle(path, engine)


@functools.cache
def _zipped(path: Path) -> bytes:
    return seeds.zipped(path)


@functools.cache
def _two_heads(path: Path) -> Any:
    return edgebone.load(path, engine="onnxruntime")


def use_head(data: bytes, place: Path) -> None:
    """A head, put into a running model."""
    from edgebone.core.head_file import read_head

    path = place / "a.head"
    path.write_bytes(data)
    head = read_head(path)
    model = _two_heads(place.parent / "seeds" / "two.bundle")
    model.swap_head("slow", head)
    model(_PICTURE)


def use_gallery(data: bytes, place: Path) -> None:
    """A gallery: asked, calibrated, added to, written and read again."""
    from edgebone.gallery import Gallery

    path = place / "a.gallery"
    path.write_bytes(data)
    gallery = Gallery.load(path)
    vectors = np.random.default_rng(0).normal(size=(3, gallery.dimension)).astype(np.float32)
    gallery.identify_all(vectors)
    gallery.entries()
    str(gallery.calibration)
    with contextlib.suppress(EdgeboneError):
        gallery.calibrate()
    gallery.add(vectors, "new")
    gallery.remove(label="new")
    gallery.save(path, overwrite=True)
    Gallery.load(path)


def use_picture(data: bytes, place: Path) -> None:
    """A picture's file, prepared for a network."""
    from edgebone.preprocess import preprocess
    from edgebone.sources.images import describe_pages, is_picture, read_image, read_pages, stored_and_upright_hw
    from support.bundles import COLORS_PREPROCESS

    path = place / "a.jpg"
    path.write_bytes(data)
    is_picture(path)
    with contextlib.suppress(EdgeboneError):
        for page, _ in zip(read_pages(path), range(5), strict=False):
            assert page.image.dtype == np.uint8 and page.image.ndim == 3
    for look in (describe_pages, stored_and_upright_hw):
        with contextlib.suppress(EdgeboneError):
            look(path)
    image = read_image(path)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    preprocess(COLORS_PREPROCESS, image, np.zeros((32, 32, 3), np.uint8))


def use_frame(data: bytes, place: Path) -> None:
    """What a camera sends, as Motion JPEG."""
    from edgebone.sources.jpeg import decode_jpeg

    decode_jpeg(np.frombuffer(data or b"x", np.uint8), "camera")


def use_video(data: bytes, place: Path) -> None:
    """A video's file."""
    from edgebone.sources import open_source

    kind = {b"RIFF": ".avi", b"\x1a\x45\xdf\xa3": ".mkv", b"\xff\xd8\xff\xe0": ".mjpeg"}.get(data[:4], ".mp4")
    path = place / f"a{kind}"
    path.write_bytes(data)
    with contextlib.closing(open_source(str(path))) as source:
        for _ in range(50):
            frame = source.read()
            if frame is None:
                break
            _ = frame.image


class _Answer(http.server.BaseHTTPRequestHandler):
    """What a camera on the network answers: the input, whatever it is."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(_Answer.body)

    def log_message(self, *arguments: object) -> None:
        """Nothing is written."""


@functools.cache
def _camera() -> int:
    """The port of a camera on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


def use_stream(data: bytes, place: Path) -> None:
    """Motion JPEG from a camera on the network, its parts and their headers included."""
    from edgebone.sources import open_source

    _Answer.body = data
    with contextlib.closing(open_source(f"http://127.0.0.1:{_camera()}/cam.mjpg", give_up_s=0.1)) as source:
        for _ in range(3):
            frame = source.read()
            assert frame is not None
            _ = frame.image


def use_zones(data: bytes, place: Path) -> None:
    """A file of zones, with something that walks through them."""
    from edgebone.core.detections import Detections
    from edgebone.core.frame import Frame
    from edgebone.vision import Zones, draw_zones

    path = place / "zones.json"
    path.write_bytes(data)
    zones = Zones.load(path)
    for step in range(4):
        box = np.array([[10 + step * 5, 10, 30 + step * 5, 30]], np.float32)
        names = {"class_name": np.array(["red"])}
        found = Detections(box, np.array([0.9], np.float32), np.array([0]), names, np.array([1]))
        frame = Frame(np.zeros((48, 64, 3), np.uint8), step, step * 10**9, "x")
        for event in zones.update(frame, found):
            json.dumps(event.to_dict())
        draw_zones(frame.image.copy(), zones, "x", zones.counts("x"))


def use_shelf(data: bytes, place: Path) -> None:
    """A file of a shelf, with a picture of it."""
    from edgebone.core.frame import Frame
    from edgebone.vision.shelf import Shelf
    from edgebone.vision.shelf_file import read_shelf

    path = place / "shelf.json"
    path.write_bytes(data)
    shelf = Shelf(read_shelf(path), lambda pictures: ["milk"] * len(pictures))
    for step in range(3):
        stock, events = shelf.update(Frame(np.zeros((48, 64, 3), np.uint8), step, step * 10**9, "x"))
        json.dumps([stock.to_dict(), *(event.to_dict() for event in events)])


class _Nothing:
    """A model that finds nothing."""

    max_batch = 8

    def __call__(self, pictures: list[Any]) -> list[Any]:
        from edgebone.core.detections import CLASS_NAME, Detections

        empty = Detections(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), {CLASS_NAME: np.array([])}
        )
        return [empty for _ in pictures]


def use_annotations(data: bytes, place: Path) -> None:
    """COCO's annotations: for evaluating, for fitting, and as a list of pictures."""
    from edgebone.evaluate.evaluation_set import read_evaluation
    from edgebone.evaluate.pictures import find_pictures
    from edgebone_export.heads.data.dense import read_detection

    path = place.parent / "seeds" / "instances.json"
    path.write_bytes(data)
    find_pictures(path)
    with open_bundle(place.parent / "seeds" / "boxes.bundle") as bundle:
        counted = read_evaluation(path, bundle.manifest, "found").count
    if counted is not None:
        counted(_Nothing())
    read_detection(path, None)


def use_table(data: bytes, place: Path) -> None:
    """A CSV of pictures: for evaluating, and for a gallery."""
    from edgebone.evaluate.evaluation_set import read_evaluation
    from edgebone.evaluate.pictures import find_pictures
    from edgebone.gallery.enrolment import labelled

    path = place.parent / "seeds" / "labels.csv"
    path.write_bytes(data)
    find_pictures(path)
    labelled(str(path), None, False)
    with open_bundle(place.parent / "seeds" / "colors.bundle") as bundle:
        read_evaluation(path, bundle.manifest)


def use_import(data: bytes, place: Path) -> None:
    """A foreign network, as it is read before anything is made of it."""
    from edgebone_export.importers.onnx_file import read_onnx

    path = place / "foreign.onnx"
    path.write_bytes(data)
    read_onnx(path)


def use_labels(data: bytes, place: Path) -> None:
    """A file of class names."""
    from edgebone_export.importers.conventions import find_labels

    path = place / "labels.txt"
    path.write_bytes(data)
    find_labels(str(path))


def use_mask(data: bytes, place: Path) -> None:
    """A mask's file."""
    from edgebone.evaluate.segmentation import read_mask

    path = place / "mask.png"
    path.write_bytes(data)
    read_mask(path, 3)


def use_address(data: bytes, place: Path) -> None:
    """A camera's address: whatever is wrong with it, its name has no secret in it."""
    from edgebone.sources.address import parse_address
    from edgebone.sources.network_address import read_address, redact

    text = data.decode("utf-8", "surrogateescape")
    if text.startswith(("usb:", "csi:")):
        parse_address(text)
        return
    told = [redact(text)]
    try:
        address = read_address(text)
        told += [address.name, repr(address)]
    except SourceError as error:
        told.append(str(error))
        raise
    finally:
        assert not any("S3cretXy" in line for line in told), f"{text!r} is told as {told!r}"


def _mutate_address(data: bytes, rng: random.Random) -> bytes:
    """Characters around the secret, which stays where it is; or anything in a local camera's address."""
    if b"S3cretXy" not in data:
        return mutate_bytes(data, rng)
    letters = "aZ9:/?[]%=+ .é\\'\"<>|^`{}~!$*(),"
    if b"S3cretXy@" in data:
        letters += "@#&;"
    around = ["".join(rng.choice(letters) for _ in range(rng.randrange(4))).encode() for _ in range(2)]
    return data.replace(b"S3cretXy", around[0] + b"S3cretXy" + around[1], 1)


_BUNDLE = "manifest.json"
_ARRAYS = of_members("gallery.json", (".npy", ".json"), either(mutate_npy, mutate_bytes))
TARGETS: dict[str, Target] = {
    "manifest": Target(seeds.bundles, of_manifest(_BUNDLE), as_folder),
    "zip-bytes": Target(seeds.zips, mutate_bytes, same_or_refused),
    "zip-and-folder": Target(seeds.small_bundles, either(mutate_names, of_manifest(_BUNDLE)), either_way),
    "golden": Target(
        seeds.small_bundles,
        either(of_members(_BUNDLE, (".npz",), mutate_npz), of_members(_BUNDLE, (".png",), mutate_bytes)),
        as_folder,
    ),
    "onnx-onnxruntime": Target(seeds.graphs, mutate_graph, functools.partial(use_graph, "onnxruntime")),
    "onnx-openvino": Target(seeds.graphs, mutate_graph, functools.partial(use_graph, "openvino")),
    "import": Target(seeds.foreign_graphs, mutate_graph, use_import),
    "head": Target(
        seeds.heads,
        either(
            mutate_bytes,
            of_manifest("head.json"),
            of_members("head.json", (".onnx",), mutate_graph, with_graph_hash),
        ),
        use_head,
    ),
    "gallery": Target(seeds.galleries, either(mutate_bytes, of_manifest("gallery.json"), _ARRAYS), use_gallery),
    "index": Target(seeds.indexed_galleries, of_members("gallery.json", (".usearch",), mutate_bytes), use_gallery),
    "picture": Target(seeds.pictures, mutate_bytes, use_picture),
    "mjpeg": Target(seeds.jpegs, mutate_bytes, use_frame),
    "stream": Target(seeds.streams, mutate_bytes, use_stream),
    "video": Target(seeds.videos, mutate_bytes, use_video),
    "zones": Target(seeds.zones, mutate_json, use_zones),
    "shelf": Target(seeds.shelves, mutate_json, use_shelf),
    "coco": Target(seeds.annotations, mutate_json, use_annotations),
    "csv": Target(seeds.tables, mutate_text, use_table),
    "labels": Target(seeds.labels, mutate_text, use_labels),
    "mask": Target(seeds.masks, mutate_bytes, use_mask),
    "address": Target(seeds.addresses, _mutate_address, use_address),
}
