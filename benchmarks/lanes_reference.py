"""Compare a bundle's masks with those of a plain onnxruntime script of TwinLiteNet that shares no code with edgebone.

Usage: python benchmarks/lanes_reference.py twinlitenet.onnx BUNDLE VIDEO_OR_PICTURES... [--json FILE]

The plain script follows TwinLiteNet's own test_image.py: OpenCV's resize to 640x360, RGB, 0 to 1, argmax.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

import edgebone

HEADS = ("da", "ll")


def frames(paths: list[Path]) -> Iterator[np.ndarray]:
    for path in paths:
        if path.suffix == ".mp4":
            video = cv2.VideoCapture(str(path))
            while (read := video.read())[0]:
                yield read[1]
        else:
            yield cv2.imread(str(path))


def plain(session: onnxruntime.InferenceSession, image: np.ndarray) -> list[np.ndarray]:
    small = cv2.resize(image, (640, 360))[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
    # The class of the cell that contains a pixel's centre; OpenCV's INTER_NEAREST is half a pixel off.
    rows = ((np.arange(image.shape[0]) + 0.5) * 360 / image.shape[0]).astype(int)
    columns = ((np.arange(image.shape[1]) + 0.5) * 640 / image.shape[1]).astype(int)
    return [scores[0].argmax(axis=0)[rows][:, columns] for scores in session.run(list(HEADS), {"images": small})]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    session = onnxruntime.InferenceSession(str(args.model), providers=["CPUExecutionProvider"])
    both, either = dict.fromkeys(HEADS, 0), dict.fromkeys(HEADS, 0)
    count = 0
    with edgebone.load(args.bundle, engine=args.engine, precision=args.precision) as model:
        for image in frames(args.sources):
            results = model(image)
            count += 1
            for name, wanted in zip(HEADS, plain(session, image), strict=True):
                found = results[name].class_id
                both[name] += int(((wanted == 1) & (found == 1)).sum())
                either[name] += int(((wanted == 1) | (found == 1)).sum())
        used = f"{model.engine.name} {model.engine.precision}"
    record = {"engine": used, "frames": count, "iou": {name: round(both[name] / either[name], 6) for name in HEADS}}
    print(json.dumps(record))
    if args.json:
        args.json.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
