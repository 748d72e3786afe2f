"""Compare the top-1 of eager PyTorch, with the library's own transforms, with every engine of this machine.

Usage: python benchmarks/accuracy.py BUNDLE --data CSV_OR_FOLDER --weights NAME_OR_FILE [--json FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec
import torch
from PIL import Image, ImageOps

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.engines.select import check, precisions_of
from edgebone.engines.spec import Candidate, Fit
from edgebone.engines.table import names, this_machine
from edgebone.evaluate.classification import LabelledPicture, evaluate_classifier, read_labels
from edgebone.evaluate.heads import choose_head
from edgebone_export.models.contract import ModelRequest
from edgebone_export.models.registry import load_backbone


def eager_top1(name: str, weights: str, pictures: list[LabelledPicture]) -> float:
    """Return the top-1 of PyTorch used as documented: PIL picture, the weights' transforms, eager module."""
    backbone = load_backbone(ModelRequest(name, weights=weights))
    assert backbone.reference_transform is not None
    hits = 0
    with torch.inference_mode():
        for picture in pictures:
            rgb = ImageOps.exif_transpose(Image.open(picture.path)).convert("RGB")
            scores = backbone.module(backbone.reference_transform(rgb)[None])
            hits += int(scores.argmax()) == picture.class_index
    return 100 * hits / len(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    with open_bundle(args.bundle) as bundle:
        manifest = bundle.manifest
    pictures = read_labels(args.data, manifest.heads[choose_head(manifest.heads)[0]].labels)
    eager = eager_top1(manifest.model.name, args.weights, pictures)
    print(f"{machine}\n{manifest.model.name}, {len(pictures)} pictures of {args.data.name}")
    print(f"{'':24} {'top-1 %':>8} {'points from eager':>18}")
    print(f"{'eager PyTorch fp32':24} {eager:8.2f}", flush=True)
    rows: list[dict[str, Any]] = [{"engine": "eager PyTorch", "precision": "fp32", "top1": eager}]
    for engine in names():
        for precision in precisions_of(engine):
            if not isinstance(check(Candidate(engine, precision, "fp32"), machine), Fit):
                continue
            with edgebone.load(args.bundle, engine=engine, precision=precision) as model:
                top1 = evaluate_classifier(model, "classification", pictures).top1
            print(f"{engine + ' ' + precision:24} {top1:8.2f} {top1 - eager:+18.2f}", flush=True)
            rows.append({"engine": engine, "precision": precision, "top1": top1})
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))


if __name__ == "__main__":
    main()
