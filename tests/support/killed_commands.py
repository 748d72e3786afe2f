"""Kills real commands at random while they write, and looks at what they leave.

python tests/support/killed_commands.py FOLDER 1000      so many kills of each command, in an empty folder
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).parents[1]))
from edgebone.core.bundle import open_bundle
from edgebone.core.manifest import Head
from edgebone.gallery import Gallery
from support.bundles import write_colors_bundle
from support.pictures import BLUE, GREEN, RED, picture

PROGRAM = Path(sys.executable).with_name("edgebone")
# Within this time after the first trace of a writer beside the target.
WINDOW_S = 0.05


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
        target: What it writes; nothing else lies beside it.
        words: Its words.
        check: Reads the target whole, and raises where it is not.
    """

    target: Path
    words: tuple[object, ...]
    check: Callable[[Path], object]


def commands(folder: Path) -> dict[str, Command]:
    photos = folder / "photos"
    rows = ["file,class_index"]
    for index, color in enumerate((BLUE, GREEN, RED)):
        (photos / str(index)).mkdir(parents=True)
        cv2.imwrite(str(photos / str(index) / "0.png"), picture(color))
        rows.append(f"{index}/0.png,{index}")
    (photos / "labels.csv").write_text("\n".join(rows))
    source = write_colors_bundle(folder / "source.bundle")
    embedding = write_colors_bundle(folder / "embedding.bundle", heads={"e": Head("embedding@1", ("logits",))})
    plain, zipped = folder / "plain" / "a.bundle", folder / "zipped" / "a.zip"
    gallery, model = folder / "galleries" / "a.gallery", folder / "models" / "a"
    for bundle in (plain, zipped):
        write_colors_bundle(bundle)

    def opens(path: Path) -> None:
        open_bundle(path).close()

    def is_model(path: Path) -> None:
        assert (path / "config.pbtxt").read_text().endswith("}\n")
        assert (path / "1" / "model.onnx").read_bytes() == (source / "onnx/fp32.onnx").read_bytes()

    tuned = ("--eval", photos / "labels.csv", "--seconds", "0.1")
    return {
        "tune a folder": Command(plain, ("tune", plain, *tuned), opens),
        "tune a zip": Command(zipped, ("tune", zipped, *tuned), opens),
        "enrol": Command(gallery, ("gallery", "enrol", gallery, photos, "--model", embedding), Gallery.load),
        "export-triton": Command(
            model, ("export-triton", source, "--out", model.parent, "--name", model.name, "--force"), is_model
        ),
    }


def start(command: Command) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(PROGRAM), *map(str, command.words)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def run(command: Command) -> None:
    with start(command) as process:
        said = process.communicate()[1].decode()
        assert process.returncode == 0, said
    command.check(command.target)
    beside = names(command.target.parent)
    assert beside == {command.target.name}, f"a whole run left {beside}"


def names(folder: Path) -> set[str]:
    return {item.name for item in folder.iterdir()}


def kill_once(command: Command) -> str:
    """Kill a command a moment after its first trace; whether it was too late, or left anything beside the target."""
    folder = command.target.parent
    before = names(folder)
    with start(command) as process:
        while process.poll() is None and names(folder) <= before:
            time.sleep(0.0005)
        time.sleep(random.random() * WINDOW_S)
        is_late = process.poll() is not None
        if not is_late:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    command.check(command.target)
    if is_late:
        return "too late"
    return "left something" if names(folder) != {command.target.name} else "left nothing"


def kill(command: Command, kills: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    run(command)
    while sum(counts.values()) - counts["too late"] < kills:
        counts[kill_once(command)] += 1
    run(command)
    return counts


if __name__ == "__main__":
    known = commands(Path(sys.argv[1]))
    for name in sys.argv[3:] or known:
        sys.stdout.write(json.dumps({name: kill(known[name], int(sys.argv[2]))}) + "\n")
        sys.stdout.flush()
