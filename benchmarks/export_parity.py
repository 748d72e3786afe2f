"""Export models with random weights and print how far each graph is from eager PyTorch.

Usage: python benchmarks/export_parity.py [MODEL...] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec

from edgebone.engines.table import this_machine
from edgebone_export import export

MODELS = (
    "resnet50",
    "efficientnet_b0",
    "vit_b_16",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "convnext_tiny",
    "swin_t",
    "regnet_y_400mf",
    "timm/resnet18",
    "timm/vit_tiny_patch16_224",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    print(machine)
    print(f"{'model':26} {'max abs diff':>12} {'max rel':>9} {'cosine':>12} {'top-1':>6} {'seconds':>8} {'ONNX MB':>8}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            bundle = Path(folder) / "model.bundle"
            report = export(name, bundle, weights="random", overwrite=True)
            size_mb = (bundle / report.manifest.variants["fp32"].file).stat().st_size / 1e6
            parity = report.parity
            print(
                f"{name:26} {parity.max_abs:12.2e} {parity.max_rel:9.1e} {parity.cosine:12.9f} "
                f"{100 * (parity.top1_agreement or 0):5.0f}% {report.seconds:8.1f} {size_mb:8.1f}",
                flush=True,
            )
            rows.append({"model": name, "parity": parity, "seconds": report.seconds, "onnx_mb": round(size_mb, 1)})
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))


if __name__ == "__main__":
    main()
