"""Kills writers, before each change that they make to the file system or at random, and looks at what they leave.

A program of its own, since a fork of a process with threads is not a writer. KIND is ``folder``, ``zip``, ``head`` or
``gallery``, TEMPLATE a bundle, FOLDER an empty place.

    python tests/support/killed_writers.py KIND TEMPLATE FOLDER changes     each change, of an old one and of none
    python tests/support/killed_writers.py KIND TEMPLATE FOLDER syscalls    each system call likewise, by strace(1)
    python tests/support/killed_writers.py KIND TEMPLATE FOLDER 1000        so many kills at random
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgebone.core import staging
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import Update, update_bundle, write_bundle
from edgebone.core.head_file import Backbone, HeadManifest, read_head, write_head
from edgebone.core.manifest import Tap
from edgebone.gallery import Gallery, changing

# What Python tells of before it is done (sys.addaudithook); fsync and renameat2, of which it does not, are wrapped.
CHANGES = {
    "open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir", "fcntl.flock",
    "tempfile.mkdtemp", "shutil.rmtree",
}  # fmt: skip
SYSCALLS = (
    "openat", "write", "close", "fsync", "flock", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir",
    "mkdirat", "rmdir", "getdents64",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """Something that is written in numbered versions.

    Attributes:
        name: The file's or folder's name.
        write: Writes the version of a number.
        read: Which version is there, all of it verified; 0 for none.
    """

    name: str
    write: Callable[[Path, int], object]
    read: Callable[[Path], int]


def kinds(template: Path) -> dict[str, Kind]:
    with open_bundle(template) as opened:
        manifest, files = opened.manifest, {name: opened.read(name) for name in opened.manifest.files}

    def write(path: Path, number: int) -> None:
        if path.exists():
            changed = {"number": str(number).encode() * 1000}
            update_bundle(path, lambda now: Update(msgspec.structs.replace(now, name=str(number)), changed))
        else:
            write_bundle(path, msgspec.structs.replace(manifest, name=str(number)), files)

    def read(path: Path) -> int:
        if not os.path.lexists(path):
            return 0
        with open_bundle(path) as opened:
            return int(opened.manifest.name)

    head = HeadManifest(
        1, "head", "tests", "", manifest.heads["classification"], manifest.outputs, {"features": Tap("x", (3,), "")},
        Backbone("colors", "fixed", manifest.preprocess, "fp32", "onnxruntime fp32"), {}, "",
    )  # fmt: skip

    def write_numbered_head(path: Path, number: int) -> None:
        write_head(
            path, msgspec.structs.replace(head, name=str(number)), files[manifest.variants["fp32"].file], overwrite=True
        )

    def add(path: Path, number: int) -> None:
        with changing(path, lambda: Gallery("space", 32)) as gallery:
            vectors = np.random.default_rng(number).standard_normal((number - len(gallery), 32))
            gallery.add(vectors, "label", same=None)

    return {
        "folder": Kind("a.bundle", write, read),
        "zip": Kind("a.zip", write, read),
        "head": Kind("a.head", write_numbered_head, lambda at: int(read_head(at).manifest.name) if at.exists() else 0),
        "gallery": Kind("a.gallery", add, lambda at: len(Gallery.load(at)) if at.exists() else 0),
    }


def kill_before(change: int) -> None:
    """Have this process killed before it makes its change of that number, counted from 1."""
    left = change

    def step(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepping(real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: (step(), real(*arguments))[1]

    os.fsync = stepping(os.fsync)
    staging.exchange = stepping(staging.exchange)
    sys.addaudithook(lambda event, _: step() if event in CHANGES else None)


def kill_at(child: int, call: str, number: int) -> None:
    """Have a stopped child killed as it enters its n-th system call of a name, counted from 1, and let it go on."""
    os.waitid(os.P_PID, child, os.WSTOPPED)
    tracer = subprocess.Popen(
        ["strace", "-o", "/dev/null", "-e", f"inject=?{call}:signal=KILL:when={number}", "-p", str(child)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    assert "attached" in said, said
    os.kill(child, signal.SIGCONT)
    tracer.communicate()


def killed(kind: Kind, path: Path, number: int, die: Callable[[int], None], prepare: Callable[[], None]) -> bool:
    """Write a version in a fork, which is killed on the way; whether it was.

    Args:
        kind: What is written.
        path: Where.
        number: The version.
        die: Called with the child's process id.
        prepare: Called in the child before it writes.
    """
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            prepare()
            kind.write(path, number)
            os._exit(0)
        os._exit(1)
    die(child)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), f"the writer failed: {status}"
    return status != 0


def look(kind: Kind, path: Path, before: int, counts: Counter[str]) -> int:
    """What is there after a kill: the old or the new one. The next writer clears up."""
    found = kind.read(path)
    assert found in (before, before + 1), f"version {found} after {before + 1} was written over {before}"
    counts["old" if found == before else "new"] += 1
    counts["left something"] += len(list(path.parent.iterdir())) > (found > 0)
    kind.write(path, found + 1)
    assert kind.read(path) == found + 1
    beside = [item.name for item in path.parent.iterdir()]
    assert beside == [path.name], f"the next writer left {beside}"
    return found + 1


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def kill_everywhere(kind: Kind, folder: Path, calls: Sequence[str]) -> dict[str, int]:
    """Kill at each of the system calls of these names, or, where there are none, before each change."""
    counts: Counter[str] = Counter()
    path = folder / kind.name

    def was_killed(number: int, call: str, point: int) -> bool:
        if not call:
            return killed(kind, path, number, lambda _: None, lambda: kill_before(point))
        stop = partial(signal.raise_signal, signal.SIGSTOP)
        return killed(kind, path, number, lambda child: kill_at(child, call, point), stop)

    for is_new, call in itertools.product((False, True), calls or ("",)):
        remove(path)
        kind.write(path, 1)
        for point in itertools.count(1):
            if is_new:
                remove(path)
            before = kind.read(path)
            if not was_killed(before + 1, call, point):
                assert kind.read(path) == before + 1
                break
            look(kind, path, before, counts)
    return counts


def kill_at_random(kind: Kind, folder: Path, kills: int) -> dict[str, int]:
    counts: Counter[str] = Counter()
    path = folder / kind.name
    kind.write(path, 1)
    began_s = time.monotonic()
    for number in range(2, 12):
        kind.write(path, number)
    once_s = (time.monotonic() - began_s) / 10

    def die(child: int) -> None:
        time.sleep(random.random() * once_s * 2)
        os.kill(child, signal.SIGKILL)

    while counts["old"] + counts["new"] < kills:
        before = kind.read(path)
        if killed(kind, path, before + 1, die, lambda: None):
            look(kind, path, before, counts)
        else:
            counts["too late"] += 1
    return counts


if __name__ == "__main__":
    asked = kinds(Path(sys.argv[2]))[sys.argv[1]]
    place = Path(sys.argv[3])
    how = sys.argv[4]
    if how.isdigit():
        done = kill_at_random(asked, place, int(how))
    else:
        done = kill_everywhere(asked, place, SYSCALLS if how == "syscalls" else ())
    sys.stdout.write(json.dumps(done) + "\n")
