"""Wrap a detector's ONNX file into a bundle, prove that it still computes the same, and run it."""

import sys
from pathlib import Path

import edgebone
from edgebone_export import HeadSpec, import_onnx

file, classes, picture, bundle = sys.argv[1:]
labels = tuple(Path(classes).read_text(encoding="utf-8").splitlines())
report = import_onnx(file, bundle, heads=HeadSpec("yolox", labels=labels), preprocess="yolox", overwrite=True)
print(report.parity)
with edgebone.load(bundle, score=0.3) as model:
    found = model(picture)
    print(found)
    for label, xyxy in zip(found.labels, found.xyxy.tolist(), strict=True):
        print(label, [round(edge) for edge in xyxy])
