"""Good inputs, made by code: what the mutators start from."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mutators import make_zip
from PIL import Image

from edgebone.core.machine import Machine
from support.bundles import COLORS, write_boxes_bundle, write_colors_bundle
from support.pictures import write_video


def bundles(folder: Path) -> list[bytes]:
    """Bundles as zips: a classifier, one with plans and accuracies, boxes with areas, and detached heads."""
    colors = zipped(write_colors_bundle(folder / "colors.bundle"))
    boxes = zipped(write_boxes_bundle(folder / "boxes.bundle"))
    return [colors, zipped(_with_plans(folder)), boxes, zipped(two_heads(folder))]


def small_bundles(folder: Path) -> list[bytes]:
    """The first and the third of them."""
    return [
        zipped(write_colors_bundle(folder / "colors.bundle")),
        zipped(write_boxes_bundle(folder / "boxes.bundle")),
    ]


def zips(folder: Path) -> list[bytes]:
    """One bundle as a plain zip, compressed, and with a folder around it."""
    path = write_colors_bundle(folder / "colors.bundle")
    files = _files(path)
    inner = {f"colors.bundle/{name}": content for name, content in files.items()}
    return [make_zip(files), make_zip(files, 8), make_zip(inner, 8)]


def zipped(path: Path) -> bytes:
    """A folder as a zip."""
    return make_zip(_files(path))


def _files(path: Path) -> dict[str, bytes]:
    found = sorted(item for item in path.rglob("*") if item.is_file())
    return {str(item.relative_to(path)): item.read_bytes() for item in found}


def _with_plans(folder: Path) -> Path:
    path = write_colors_bundle(folder / "planned.bundle", (1, 4))
    manifest = json.loads((path / "manifest.json").read_bytes())
    accuracy = {
        "metric": "top-1", "value": 90.0, "fp32": 91.0, "agreement": 99.0, "pictures": 10, "data": "x", "engine": "y",
    }  # fmt: skip
    plan = {
        "machine": "this", "goal": "latency", "engine": "onnxruntime", "variant": "fp32", "precision": "fp32",
        "hint": "latency", "threads": 1, "batch": 1, "p50_ms": 1.0, "fps": 2.0, "fp32_p50_ms": 3.0, "fp32_fps": 1.0,
        "accuracy": accuracy,
        "measured_at": "now",
    }  # fmt: skip
    manifest["plans"] = {Machine.probe().key: plan}
    manifest["variants"]["fp32"]["accuracy"] = accuracy
    manifest["variants"]["fp32"]["quantization"] = {
        "dialect": "qdq", "method": "minmax", "calibration": "x", "calibration_pictures": 3, "layers": 4, "kept": ["a"],
    }  # fmt: skip
    manifest["taps"] = {"embedding": {"value": "means", "shape": [3], "fingerprint": "0" * 64}}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def two_heads(folder: Path) -> Path:
    """A classifier with a detached head; the head's own file lies beside it as ``slow.head``."""
    from edgebone_export.heads.attach.attach import attach
    from support.heads import linear_head, saved
    from support.networks import classifier, write_network

    network = write_network(folder / "network.bundle", classifier(batch="batch"), (1, 4))
    head = linear_head(network, "slow", labels=("old a", "old b", "old c"))
    saved(head, folder)
    attach(network, [head], folder / "two.bundle", detached=True)
    return folder / "two.bundle"


def heads(folder: Path) -> list[bytes]:
    """A head."""
    two_heads(folder)
    return [(folder / "slow.head").read_bytes()]


def galleries(folder: Path) -> list[bytes]:
    """Galleries in all storages, one of them calibrated."""
    from edgebone.gallery import Gallery

    found = []
    for storage in ("float32", "float16", "int8"):
        gallery = Gallery("a" * 64, 16, storage, "tests")
        rng = np.random.default_rng(1)
        for label in ("milk", "tea", "jam"):
            gallery.add(rng.normal(size=(5, 16)), label, sources=f"/x/{label}.jpg")
        if storage == "float32":
            gallery.calibrate(0.1)
        found.append(gallery.save(folder / f"{storage}.gallery").read_bytes())
    return found


def indexed_galleries(folder: Path) -> list[bytes]:
    """A gallery with usearch's index."""
    from edgebone.gallery import Gallery

    gallery = Gallery("a" * 64, 16, "float32", "tests")
    gallery.add(np.random.default_rng(1).normal(size=(300, 16)), [f"label {row % 7}" for row in range(300)])
    gallery._entries = gallery._entries.indexed("float32")
    return [gallery.save(folder / "indexed.gallery").read_bytes()]


def graphs(folder: Path) -> list[bytes]:
    """The networks of two bundles."""
    return [
        (path / "onnx/fp32.onnx").read_bytes()
        for path in (write_colors_bundle(folder / "colors.bundle"), two_heads(folder))
    ]


def foreign_graphs(folder: Path) -> list[bytes]:
    """A detector as other people export one."""
    from support.foreign import yolox

    return [yolox(folder / "foreign.onnx", 3).read_bytes()]


def pictures(folder: Path) -> list[bytes]:
    """Pictures in the formats that are read, in every mode that Pillow writes."""
    image = _noise()
    exif = Image.Exif()
    exif[0x112] = 6
    modes = ("L", "P", "1", "LA", "RGBA", "CMYK")
    written = _written(
        *(("RGB", name, {}) for name in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "DIB", "PPM", "MPO")),
        *((mode, name, {}) for mode in ("RGB", "L", "RGBA") for name in ("AVIF", "JPEG2000")),
        *(("I;16", name, {}) for name in ("PNG", "PPM", "TIFF", "JPEG2000")),
        ("I", "PNG", {}),
        ("RGB", "JPEG2000", {"no_jp2": True}),
        *((mode, name, {}) for mode in modes for name in ("PNG", "TIFF", "JPEG")),
        *(("RGB", "TIFF", {"compression": name}) for name in ("tiff_lzw", "jpeg", "tiff_deflate")),
        ("RGB", "JPEG", {"progressive": True}),
        ("RGB", "JPEG", {"exif": exif}),
        ("RGB", "GIF", {"save_all": True, "append_images": [image] * 3}),
        *(
            ("RGB", name, {"save_all": True, "append_images": [image] * 2})
            for name in ("WEBP", "PNG", "TIFF", "AVIF", "MPO")
        ),
    )
    return [*written, _PAM]


_PAM = b"P7\nWIDTH 8\nHEIGHT 4\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + bytes(range(128))


def other_pictures(folder: Path) -> list[bytes]:
    """Pictures in formats that Pillow reads, by starting programs at times, and edgebone does not."""
    names = ("ICO", "TGA", "PCX", "SGI", "EPS", "PDF", "IM", "DDS", "ICNS")
    return _written(*(("RGB", name, {}) for name in names))


def rangeless_pictures(folder: Path) -> list[bytes]:
    """Pictures of 32 bits, which state no range that could be scaled to 8."""
    return _written(("I", "TIFF", {}), ("F", "TIFF", {}), ("F", "PPM", {}))


def _written(*forms: tuple[str, str, dict[str, Any]]) -> list[bytes]:
    found = []
    for mode, name, options in forms:
        made = io.BytesIO()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                _noise().convert(mode).save(made, name, **options)
        except (OSError, KeyError, ValueError):
            # Not a mode of this format, or the codec is not in this Pillow.
            continue
        found.append(made.getvalue())
    return found


def _noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))


def jpegs(folder: Path) -> list[bytes]:
    """A camera's frame."""
    return [cv2.imencode(".jpg", np.asarray(_noise()))[1].tobytes()]


def streams(folder: Path) -> list[bytes]:
    """Five parts of Motion JPEG, as a camera sends them over HTTP."""
    frame = jpegs(folder)[0]
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(frame), frame)
    return [part * 5]


def videos(folder: Path) -> list[bytes]:
    """Short videos in three containers, and Motion JPEG with none."""
    shades = [(shade, shade, shade) for shade in range(0, 150, 10)]
    found = [write_video(folder / f"a{suffix}", shades).read_bytes() for suffix in (".avi", ".mp4", ".mkv")]
    return [*found, jpegs(folder)[0] * 5]


ZONES = {
    "schema": 1,
    "zones": [
        {
            "name": "shelf", "polygon": [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9], [0.1, 0.9]], "dwell_s": 5,
            "labels": ["red"], "anchor": "center", "source": "x",
        },
        {"name": "corner", "polygon": [[0, 0], [1, 0], [1, 1]]},
    ],
    "lines": [{"name": "door", "start": [0.5, 1.0], "end": [0.5, 0.0], "labels": ["red"], "source": None}],
}  # fmt: skip
SHELF = {
    "schema": 1, "units": "shares", "agree": 3, "looks": 5, "changed": 4.0,
    "zones": [
        {
            "name": "top", "xyxy": [0.0, 0.0, 1.0, 0.5], "rows": 1, "columns": 2,
            "expected": [{"product": "milk", "minimum": 1}],
        },
        {"name": "bottom", "xyxy": [0.0, 0.5, 1.0, 1.0], "rows": 2, "columns": 3},
    ],
}  # fmt: skip


def zones(folder: Path) -> list[bytes]:
    """A file of zones."""
    return [json.dumps(ZONES).encode()]


def shelves(folder: Path) -> list[bytes]:
    """A file of a shelf."""
    return [json.dumps(SHELF).encode()]


def annotations(folder: Path) -> list[bytes]:
    """COCO's annotations of one picture, and a folder of pictures around them."""
    (folder / "images").mkdir()
    for place in (folder / "images", folder):
        (place / "a.png").write_bytes(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    write_boxes_bundle(folder / "boxes.bundle", "found")
    annotation = {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0,
        "segmentation": [[1, 1, 2, 2, 3, 1]],
    }  # fmt: skip
    whole = {
        "images": [{"id": 1, "file_name": "a.png", "height": 48, "width": 64}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": COLORS[2]}],
    }
    return [json.dumps(whole).encode()]


def tables(folder: Path) -> list[bytes]:
    """A CSV of pictures and their classes."""
    annotations(folder)
    write_colors_bundle(folder / "colors.bundle")
    return [b'file,class_index,label\na.png,1,red\n"images/a.png",2,blue\n']


def labels(folder: Path) -> list[bytes]:
    """A file of class names."""
    return ["\n".join(COLORS).encode(), b"\xef\xbb\xbfa\r\nb\r\n"]


def masks(folder: Path) -> list[bytes]:
    """A mask."""
    made = cv2.imencode(".png", np.eye(16, 24, dtype=np.uint8))[1].tobytes()
    return [made]


def addresses(folder: Path) -> list[bytes]:
    """Addresses of cameras, with a secret in each."""
    return [
        b"rtsp://bobby:S3cretXy@cam.local:554/a",
        b"http://bobby:S3cretXy@cam.local/a?user=q&password=S3cretXy",
        b"rtsp://cam.local/a?token=S3cretXy",
        b"https://[::1]:8080/cam.mjpg?key=S3cretXy#x",
        b"usb:0?size=1280x720&fps=30&format=mjpg",
        b"csi:0?size=1280x720",
    ]
