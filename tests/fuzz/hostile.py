"""Inputs that were made to do harm, each of which did: all must be refused, in little memory and time."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import seeds
from mutators import make_zip, unzip, with_hashes

# Unpacked, more than a process may have.
_BOMB_BYTES = 1200 << 20


def _manifests(folder: Path) -> list[bytes]:
    colors, planned, boxes, _ = seeds.bundles(folder)
    plan = next(iter(json.loads(unzip(planned)["manifest.json"])["plans"]))
    head = ("heads", "found")
    return [
        *(_with(colors, ("preprocess", "size_hw"), value) for value in ([40_000, 40_000], [0, 32], [-1, -1])),
        *(_with(colors, ("preprocess", "resize"), value) for value in (20_000, 2**63 - 1, [1, 10**9])),
        *(_with(colors, ("variants", "fp32", "batch"), value) for value in ([0, 0], [1, 10**9], [10**9, 10**9])),
        *(_with(colors, ("outputs", 0, "shape"), value) for value in ([1, 2**62], [2**31] * 4, [])),
        *(_with(planned, ("plans", plan, "threads"), value) for value in (10**6, 2**40, 0, -1)),
        *(_with(planned, ("plans", plan, "batch"), value) for value in (10**9, 0)),
        *(_with(boxes, (*head, "decoder"), value) for value in ("yolox@1", "boxes@9", "x" * 10_000)),
        *(
            _with(_with(boxes, (*head, "decoder"), "yolox@1"), (*head, "params", "strides"), [value])
            for value in (0, -1, 2)
        ),
        _with(boxes, (*head, "params", "max_detections"), 10**30),
        _with(colors, ("heads", "classification", "params", "top_k"), 10**30),
        _with(colors, ("golden", "max_rel"), "@1e999@"),
        _with(colors, ("model", "parameters"), "@" + "[" * 5000 + "@"),
    ]


def _zips(folder: Path) -> list[bytes]:
    files = unzip(seeds.zips(folder)[0])
    manifest = json.loads(files["manifest.json"])
    manifest["files"]["golden/image.png"]["size"] = 1
    return [
        _with_bomb(files, "manifest.json"),
        _with_bomb({**files, "manifest.json": json.dumps(manifest).encode()}, "golden/image.png"),
    ]


def _heads(folder: Path) -> list[bytes]:
    files = unzip(seeds.heads(folder)[0])
    return [_with_bomb(files, "head.json"), _with_bomb(files, "head.onnx")]


def _galleries(folder: Path) -> list[bytes]:
    whole = seeds.galleries(folder)[0]
    files = unzip(whole)
    header = json.loads(files["gallery.json"])
    same = {f"copy {number}": header["files"]["vectors.npy"] for number in range(300)}
    vectors = np.load(io.BytesIO(files["vectors.npy"]))
    return [
        *(_with(whole, ("indexed",), value, "gallery.json") for value in (10**13, -1, 16, 2**63)),
        *(_with(whole, ("next_serial",), value, "gallery.json") for value in (2**63 - 1, 2**63, 0, -1)),
        *(_with(whole, ("dimension",), value, "gallery.json") for value in (0, -1, 10**9)),
        _with(whole, ("count",), 10**12, "gallery.json"),
        _with(whole, ("calibration", "false_accepts"), 10**6, "gallery.json"),
        _with(whole, ("calibration", "threshold"), "@1e999@", "gallery.json"),
        _with_bomb(files, "gallery.json"),
        _on_each_other(files, {**header, "files": {**header["files"], **same}}),
        *(
            _gallery(files, "vectors.npy", content)
            for content in (
                b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4'(\n",
                _npy(np.where(np.arange(len(vectors))[:, None] == 3, 1000 * vectors, vectors)),
                _npy(np.full_like(vectors, np.nan)),
            )
        ),
        _gallery(files, "ids.npy", _npy(np.zeros(15, np.int64))),
        _gallery(files, "ids.npy", _npy(np.arange(-15, 0, dtype=np.int64))),
    ]


def _golden(folder: Path) -> list[bytes]:
    files = unzip(seeds.small_bundles(folder)[0])
    arrays = unzip(files["golden/tensors.npz"])
    found = [{**files, "golden/image.png": png(13_300, 13_300)}, {**files, "golden/image.png": b""}]
    bad_arrays = (
        b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4'(\n",
        b"\x93NUMPY\x01\x00\x46\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,)}".ljust(69)
        + b"\n",
    )
    found += [{**files, "golden/tensors.npz": make_zip({**arrays, "logits.npy": bad})} for bad in bad_arrays]
    found += [{**files, "golden/tensors.npz": _with_bomb(arrays, "logits.npy")}]
    return [_right(item) for item in found]


def _pictures(folder: Path) -> list[bytes]:
    return [
        png(13_300, 13_300),
        jpeg(65_500, 65_500),
        jpeg(13_000, 13_000),
        *seeds.other_pictures(folder),
        *seeds.rangeless_pictures(folder),
    ]


def _frames(folder: Path) -> list[bytes]:
    return [jpeg(65_500, 65_500), jpeg(30_000, 30_000), b"\xff\xd8"]


def _zones(folder: Path) -> list[bytes]:
    line = {"name": "door", "start": [0, 0], "end": [1e-300, 0]}
    zone = {"name": "z", "polygon": [[0, 0], [1, 0], [1, 1]]}
    return [
        json.dumps({"schema": 1, "lines": [line]}).encode(),
        json.dumps({"schema": 1, "zones": [{**zone, "name": str(number)} for number in range(300)]}).encode(),
        json.dumps({"schema": 1, "zones": [{**zone, "polygon": [[0.5, 0.5]] * 20_000}]}).encode(),
        json.dumps({"schema": 1, "zones": [zone]}).encode() + b" " * (2 << 20),
        b"[" * 100_000,
    ]


def _shelves(folder: Path) -> list[bytes]:
    zone: dict[str, Any] = {"name": "z", "xyxy": [0, 0, 1, 1]}
    products = [{"product": str(number)} for number in range(20_000)]
    return [
        json.dumps({"schema": 1, "zones": [{**zone, "rows": 10**12}]}).encode(),
        json.dumps({"schema": 1, "zones": [{**zone, "expected": products}]}).encode(),
        json.dumps({"schema": 1, "zones": [zone], "looks": 10**9, "agree": 10**9}).encode(),
        json.dumps({"schema": 1, "zones": [{**zone, "xyxy": [0, 0, 1e308, 1e308]}], "units": "pixels"}).encode(),
    ]


def _annotations(folder: Path) -> list[bytes]:
    whole = json.loads(seeds.annotations(folder)[0])
    bare = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    return [
        b'{"images": ' + b"[" * 100_000,
        json.dumps({**whole, "images": [{"id": 1, "file_name": "a" * 300}]}).encode(),
        json.dumps({**whole, "images": [{"id": 1, "file_name": "a\0b"}]}).encode(),
        json.dumps({**whole, "annotations": [bare]}).encode(),
        json.dumps({**whole, "annotations": [{**bare, "id": [], "area": {}, "iscrowd": "x"}]}).encode(),
    ]


def _tables(folder: Path) -> list[bytes]:
    return [
        b"file,class_index,label\na.png," + b"9" * 5000 + b",red\n",
        b"file,class_index,label\na.png,1\n" + b"x" * 200_000,
        b"file,class_index,label\n" + b"a" * 5000 + b",1,red\n",
    ]


def _masks(folder: Path) -> list[bytes]:
    return [png(13_300, 13_300), jpeg(64, 48)]


HOSTILE: dict[str, Callable[[Path], list[bytes]]] = {
    "manifest": _manifests,
    "zip-bytes": _zips,
    "head": _heads,
    "gallery": _galleries,
    "golden": _golden,
    "picture": _pictures,
    "mjpeg": _frames,
    "zones": _zones,
    "shelf": _shelves,
    "coco": _annotations,
    "csv": _tables,
    "mask": _masks,
}


def png(width: int, height: int) -> bytes:
    """A grey PNG, all black: its pixels take a thousandth of what they unpack to."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose header says another size."""
    made = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    place = made.find(b"\xff\xc0") + 5
    return made[:place] + struct.pack(">HH", height, width) + made[place + 4 :]


def _with(data: bytes, place: tuple[Any, ...], value: Any, manifest: str = "manifest.json") -> bytes:
    """A zip whose manifest says something else; a text between two @ is put into the JSON as it stands."""
    files = unzip(data)
    read = json.loads(files[manifest])
    inner = read
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    text = json.dumps(read)
    if isinstance(value, str) and value.startswith("@"):
        text = text.replace(json.dumps(value), value.strip("@"))
    return make_zip({**files, manifest: text.encode()})


def _right(files: dict[str, bytes]) -> bytes:
    """A bundle as a zip, with the right hashes."""
    manifest = files.pop("manifest.json")
    return make_zip({"manifest.json": with_hashes(manifest, files), **files})


def _gallery(files: dict[str, bytes], name: str, content: bytes) -> bytes:
    """A gallery with another member, and the right hashes."""
    others = {key: value for key, value in {**files, name: content}.items() if key != "gallery.json"}
    return make_zip({"gallery.json": with_hashes(files["gallery.json"], others), **others})


def _npy(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def _with_bomb(files: dict[str, bytes], name: str) -> bytes:
    """A zip in which one member unpacks to more than there is memory for."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for other, content in files.items():
            if other != name:
                archive.writestr(zipfile.ZipInfo(other), content)
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        piece = b" " * (1 << 20)
        with archive.open(info, "w") as member:
            for _ in range(_BOMB_BYTES // len(piece)):
                member.write(piece)
    return made.getvalue()


def _on_each_other(files: dict[str, bytes], header: dict[str, Any]) -> bytes:
    """A gallery in whose zip many names have the same bytes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in {**files, "gallery.json": json.dumps(header).encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), content)
        first = archive.getinfo("vectors.npy")
        for name in header["files"]:
            if name not in files:
                copy = zipfile.ZipInfo(name)
                copy.header_offset, copy.CRC = first.header_offset, first.CRC
                copy.file_size, copy.compress_size = first.file_size, first.compress_size
                archive.filelist.append(copy)
        archive._didModify = True
    return made.getvalue()
