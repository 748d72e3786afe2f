"""``make demo``: run the main workflow on real input with the commands that a user would type.

Exports MobileNetV2 with its ImageNet weights, checks the bundle on every engine of this machine, and runs it on
the CC0 photographs that scikit-image ships and on a video made from them.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import missing

_PHOTOS = ("chelsea", "coffee", "rocket")
_VIDEO_WH = (640, 480)
_FRAMES_PER_PHOTO = 50
_FPS = 25.0


def main(out: Path) -> None:
    """Run the demo.

    Args:
        out: Output folder; created if missing.
    """
    photos = _write_photos(out / "photos")
    video = _write_video(photos, out / "photos.mp4")
    bundle, seen, lines = out / "mobilenet_v2.bundle", out / "annotated.mp4", out / "results.jsonl"
    _edgebone(
        "export",
        "mobilenet_v2",
        "--weights",
        "IMAGENET1K_V1",
        "-o",
        bundle,
        "--samples",
        photos[0].parent,
        "--force",
    )
    _edgebone("doctor", bundle)
    _edgebone("run", bundle, photos[0].parent, "--top-k", "3")
    _edgebone("run", bundle, video, "--video", seen, "--jsonl", lines)
    sys.stdout.write(
        f"\nbundle           {bundle}\nannotated video  {seen}\nresults          {lines}\n"
        f"Try it on your own: {_PROGRAM} run {bundle} PICTURE_VIDEO_OR_FOLDER\n"
    )


def _program() -> Path:
    """Return the path of the ``edgebone`` program in the environment that runs this module."""
    program = Path(sys.executable).with_name("edgebone")
    try:
        return program.relative_to(Path.cwd())
    except ValueError:
        return program


_PROGRAM = _program()


def _edgebone(*arguments: str | Path) -> None:
    command = [str(_PROGRAM), *map(str, arguments)]
    sys.stdout.write(f"\n$ {shlex.join(command)}\n")
    sys.stdout.flush()
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def _write_photos(folder: Path) -> list[Path]:
    try:
        import skimage.data
    except ModuleNotFoundError as error:
        raise missing("skimage", "demo", "the demo's photographs") from error
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in _PHOTOS:
        path = folder / f"{name}.jpg"
        rgb = np.asarray(getattr(skimage.data, name)(), np.uint8)
        if not cv2.imwrite(str(path), rgb[..., ::-1]):
            raise SystemExit(f"demo: {path} cannot be written")
        paths.append(path)
    return paths


def _write_video(photos: list[Path], path: Path) -> Path:
    """Write a video that zooms slowly into each photograph."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), _FPS, _VIDEO_WH)
    for photo in photos:
        image = cv2.imread(str(photo))
        for step in range(_FRAMES_PER_PHOTO):
            writer.write(_zoom(np.asarray(image, np.uint8), 1 + 0.5 * step / _FRAMES_PER_PHOTO))
    writer.release()
    return path


def _zoom(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    out_w, out_h = _VIDEO_WH
    scale = factor * max(out_w / width, out_h / height)
    matrix = np.array([[scale, 0, (out_w - width * scale) / 2], [0, scale, (out_h - height * scale) / 2]], np.float32)
    return np.asarray(cv2.warpAffine(image, matrix, _VIDEO_WH, flags=cv2.INTER_LINEAR), np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
