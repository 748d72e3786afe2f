"""Pictures, folders of them and videos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def picture(bgr: tuple[int, int, int], size_hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A picture of one colour."""
    return np.full((*size_hw, 3), bgr, np.uint8)


BLUE, GREEN, RED = (250, 10, 5), (10, 250, 5), (5, 10, 250)


def write_video(path: Path, colors: list[tuple[int, int, int]], fps: float = 25.0) -> Path:
    """A small video, one colour a frame."""
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    assert writer.isOpened()
    for color in colors:
        writer.write(picture(color))
    writer.release()
    return path


TINTS = {"blue": (200, 60, 40), "green": (40, 200, 60), "red": (50, 50, 210)}


def tinted(bgr: tuple[int, int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 25, (40, 48, 3))
    return np.clip(np.asarray(bgr) + noise, 0, 255).astype(np.uint8)


def write_folder(folder: Path, each: int = 12, tints: dict[str, tuple[int, int, int]] = TINTS, seed: int = 0) -> Path:
    for number, (name, bgr) in enumerate(tints.items()):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            cv2.imwrite(str(folder / name / f"{index}.png"), tinted(bgr, seed + 1000 * number + index))
    return folder
