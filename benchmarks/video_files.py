"""Compare the cost of reading a video file in edgebone and in OpenCV, in turns, on H.264 made here.

Usage: python benchmarks/video_files.py [--turns 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import msgspec
import numpy as np

from edgebone.engines.table import this_machine
from edgebone.sources.video import VideoFile

SIZES_HW = {"540p": (540, 960), "1080p": (1080, 1920)}
FRAMES = 150


def make_video(path: Path, size_hw: tuple[int, int]) -> None:
    """Write a blurred pattern that moves sideways."""
    height, width = size_hw
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (height // 16, width // 8, 3)).astype(np.uint8)
    wide = cv2.resize(small, (2 * width, height), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(FRAMES):
            image = np.ascontiguousarray(wide[:, 4 * index : 4 * index + width])
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def with_edgebone(path: Path) -> int:
    video = VideoFile(path)
    count = 0
    while (frame := video.read()) is not None:
        count += frame.image.shape[2] == 3
    video.close()
    return count


def with_opencv(path: Path) -> int:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    count = 0
    while True:
        good, image = capture.read()
        if not good:
            break
        count += image.shape[2] == 3
    capture.release()
    return count


def measure(read: Callable[[Path], int], path: Path) -> tuple[float, float]:
    """Return frames per second, and milliseconds of one core per frame."""
    began_s, used_s = time.perf_counter(), _used_s()
    count = read(path)
    took_s, used_s = time.perf_counter() - began_s, _used_s() - used_s
    assert count == FRAMES, f"{read.__name__} read {count} of {FRAMES} frames"
    return count / took_s, 1000 * used_s / count


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    rows = []
    print(
        f"{'video':<8} {'edgebone fps':>12} {'OpenCV fps':>12} {'ratio':>7} {'core-ms':>9} {'OpenCV':>9} {'ratio':>7}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, size_hw in SIZES_HW.items():
            path = Path(folder) / f"{name}.mp4"
            make_video(path, size_hw)
            with_edgebone(path), with_opencv(path)
            turns = [(measure(with_edgebone, path), measure(with_opencv, path)) for _ in range(args.turns)]
            row: dict[str, Any] = {"video": name}
            for place, unit in enumerate(("fps", "core_ms")):
                row[f"edgebone_{unit}"] = statistics.median(ours[place] for ours, _ in turns)
                row[f"opencv_{unit}"] = statistics.median(theirs[place] for _, theirs in turns)
                row[f"{unit}_ratio"] = statistics.median(ours[place] / theirs[place] for ours, theirs in turns)
            rows.append(row)
            print(f"{name:<8}", *(f"{row[key]:>12.2f}" for key in row if key != "video"))
    if args.json:
        versions = {"av": av.__version__, "opencv": cv2.__version__}
        record = {"machine": this_machine(), "versions": versions, "frames": FRAMES, "turns": args.turns, "rows": rows}
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")


if __name__ == "__main__":
    main()
