"""Export every detector and segmentation network at its defaults, with random weights, and compare the results.

Usage: python benchmarks/default_sizes.py [NETWORK...] [--limit-s S] [--json FILE]

Two pictures, a wide and a tall one, go through torchvision's own network and through the bundle. The placement of
pictures of eight aspects on the canvas is compared with torchvision's transform. Exports that passed according to FILE
are not repeated, unless their NETWORK is named.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from sweep import PRELOAD, answer_of

from edgebone.core.bundle import open_bundle
from edgebone.core.errors import EdgeboneError
from edgebone.engines.table import this_machine
from edgebone_export.pictures import synthesize

# Squares, cameras, phones held upright, panoramas; the first two are used for the export.
ASPECTS_HW = ((720, 1280), (1920, 1080), (256, 256), (480, 640), (640, 480), (333, 500), (300, 1000), (667, 1000))
EXPORTED = 2
# For the composed detectors, whose backbone is the user's choice.
BACKBONE = "mobilenet_v3_large"


class Row(msgspec.Struct):
    """The result of one export.

    Attributes:
        network: Name of the network.
        result: ``passed``, ``refused``, ``crashed`` or ``timed out``.
        size_hw: Input height and width in pixels.
        cpu_s: Processor time of all threads, in seconds.
        matched: Share of eager PyTorch's boxes or pixels that the graph reproduces, 0 to 1.
        matched_library: For detectors: the share of the boxes of torchvision's own detector, after suppression.
        boxes: Number of boxes that torchvision's detector found.
        max_steps: Largest difference of the preprocessing from torchvision's, over all aspects, in steps of 255.
        words: Message if it did not pass.
    """

    network: str
    result: str
    size_hw: tuple[int, int] | None = None
    cpu_s: float = 0.0
    matched: float | None = None
    matched_library: float | None = None
    boxes: int | None = None
    max_steps: float | None = None
    words: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--limit-s", type=float, default=3600)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: dict[str, Row] = {}
    if args.json and args.json.exists():
        rows = {
            row.network: row for row in msgspec.convert(msgspec.json.decode(args.json.read_bytes())["rows"], list[Row])
        }
    machine = this_machine()
    print(machine)
    print(f"{'network':38} {'result':9} {'size':>9} {'CPU s':>6} {'graph':>8} {'library':>8} {'boxes':>5} {'steps':>5}")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    for network in args.networks or everything():
        before = rows.get(network)
        if before is not None and before.result == "passed" and not args.networks:
            continue
        answer, words = answer_of(context, _export, (network,), args.limit_s)
        rows[network] = row = answer or Row(network, "timed out" if words.endswith(" s") else "crashed", words=words)
        show(row)
        if args.json:
            content = {"machine": machine, "rows": list(rows.values())}
            args.json.write_bytes(msgspec.json.format(msgspec.json.encode(content)))


def everything() -> list[str]:
    """Return the networks that the README names, the quick ones first."""
    from edgebone_export.models import segmenters
    from edgebone_export.models.contract import DETECTORS_ON_BACKBONES
    from edgebone_export.models.detectors import torchvision_detectors

    found = [*torchvision_detectors.names(), *segmenters.names(), *DETECTORS_ON_BACKBONES]
    return sorted(found, key=lambda name: ("resnet" in name, "vgg" in name, name in DETECTORS_ON_BACKBONES))


def show(row: Row) -> None:
    size = "x".join(map(str, row.size_hw or ()))
    shares = [f"{'' if share is None else f'{100 * share:.2f} %':>8}" for share in (row.matched, row.matched_library)]
    boxes, steps = ("" if value is None else value for value in (row.boxes, row.max_steps))
    figures = f"{size:>9} {row.cpu_s:6.0f} {' '.join(shares)} {boxes:>5} {steps:>5}"
    print(f"{row.network:38} {row.result:9} {figures} {row.words}", flush=True)


def _export(answer: Connection, network: str) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        row = _passed(network)
    except EdgeboneError as error:
        row = Row(network, "refused", words=str(error))
    except Exception as error:
        row = Row(network, "crashed", words=f"{type(error).__name__}: {error}"[:300])
    row.cpu_s = round(time.process_time(), 1)
    answer.send(row)


def _passed(network: str) -> Row:
    from edgebone_export import export
    from edgebone_export.models.contract import DETECTORS_ON_BACKBONES, ModelRequest
    from edgebone_export.models.registry import load_backbone
    from edgebone_export.proof.verify import check_preprocess

    rng = np.random.default_rng(5)
    pictures = [synthesize(size_hw, rng) for size_hw in ASPECTS_HW]
    asked: dict[str, Any] = {"weights": "random", "backbone": BACKBONE if network in DETECTORS_ON_BACKBONES else None}
    loaded = load_backbone(ModelRequest(network, **asked))
    steps = None
    if loaded.reference_transform is not None:
        steps = check_preprocess(loaded.preprocess, loaded.reference_transform, pictures, network).max_steps
    with tempfile.TemporaryDirectory() as folder:
        (samples := Path(folder) / "samples").mkdir()
        for index, picture in enumerate(pictures[:EXPORTED]):
            cv2.imwrite(str(samples / f"{index}.png"), picture)
        report = export(network, Path(folder) / "a.bundle", samples=samples, **asked)
        with open_bundle(report.path) as bundle:
            against = msgspec.json.decode(bundle.read("report.json"))["detections_against_library"] or {}
    size_hw = report.manifest.preprocess.size_hw
    return Row(
        network, "passed", size_hw, 0.0, report.parity.matched, against.get("matched"), against.get("boxes"), steps
    )


if __name__ == "__main__":
    main()
