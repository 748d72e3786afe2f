"""Measure fine-grained accuracy on the Grocery Store dataset: heads fitted by `edgebone fit` on frozen backbones.

The head and its strength are chosen by cross-validation on the training photos; the val photos are used once.
Each fit runs twice; the second, from cached features, measures the seconds of the head alone.

Usage: python benchmarks/grocery.py DATASET BUNDLE... [--views N] [--read READINGS] [--kind KIND] [--json FILE]
(DATASET is the folder with train.txt, val.txt and classes.csv of github.com/marcusklasson/GroceryStoreDataset.)
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from edgebone.engines.table import this_machine
from edgebone_export.heads.fit.fit import FitReport, fit
from edgebone_export.heads.fit.work import Settings


def write_labels(dataset: Path, name: str, folder: Path) -> Path:
    """Write the dataset's list as a CSV with file and label, using the names of fine labels."""
    with (dataset / "classes.csv").open(newline="", encoding="utf-8") as file:
        names = {int(row["Class ID (int)"]): row["Class Name (str)"] for row in csv.DictReader(file)}
    rows = [line.split(",") for line in (dataset / f"{name}.txt").read_text(encoding="utf-8").splitlines() if line]
    out = folder / f"{name}.csv"
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label"))
        writer.writerows(((dataset / path.strip()).resolve(), names[int(fine)]) for path, fine, _coarse in rows)
    return out


def figures(bundle: Path, computed: FitReport, cached: FitReport, views: int) -> dict[str, Any]:
    report = cached.head.manifest.report
    held_out, folds = report["held_out"], report["cross_validation"]
    return {
        "bundle": bundle.name,
        "preprocess": cached.head.manifest.backbone.preprocess,
        "reads": cached.reads,
        "features_by": str(cached.candidate),
        "views": views,
        "chosen": report["chosen"],
        "cross_validation": folds["accuracy"],
        "held_out": held_out["accuracy"],
        "ece_before": held_out["ece_before"],
        "ece": held_out["ece"],
        "features_s": round(computed.features_s, 1),
        "features_from_cache_s": round(cached.features_s, 1),
        "fit_s": round(cached.fit_s, 1),
        "kilobytes": round(len(cached.head.graph) / 1000, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--read")
    parser.add_argument("--kind", default="linear")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    print(machine)
    print(f"{'bundle':28} views   CV %  val %           95 %  ECE % features s  fit s")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, val = (write_labels(args.dataset, part, folder) for part in ("train", "val"))
        settings = Settings(kind=args.kind, val=val, read=args.read, views=args.views)
        for bundle in args.bundles:
            computed, cached = (
                fit(bundle, train, folder / "grocery.head", settings, cache=folder / "features", overwrite=True)
                for _ in range(2)
            )
            row = figures(bundle, computed, cached, args.views)
            rows.append(row)
            low, high = row["held_out"]["interval95"]
            print(
                f"{row['bundle']:28} {args.views:5} {100 * row['cross_validation']['value']:6.2f} "
                f"{100 * row['held_out']['value']:6.2f} {100 * low:6.1f} - {100 * high:5.1f} {100 * row['ece']:6.1f} "
                f"{row['features_s']:10} {row['fit_s']:6}",
                flush=True,
            )
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))


if __name__ == "__main__":
    main()
