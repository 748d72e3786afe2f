"""Runs a target's inputs in a process of its own, and tells what went wrong with which of them."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import random
import re
import resource
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mutators import Mutate

HANG_S = 10.0
"""No input may take longer."""
PEAK_MB = 1024
"""A process with everything that it has imported stays below."""
_PROJECT = Path(__file__).parents[2]
_START_S = 120.0
_SPARE_MB = 2048
_TWO_PATHS = ("os.rename", "os.link", "os.symlink")
# What says which machine this is.
_SYSTEM = ("/dev/null", "/dev/urandom", "/etc/localtime", "/etc/nv_tegra_release")
_ADDRESSES_BYTES = 16 << 30


@dataclass(frozen=True)
class Target:
    """Something that reads what others made.

    Attributes:
        seeds: Makes good inputs; the folder is for whatever else is needed.
        mutate: Makes a bad one of a good one.
        use: Reads an input and uses it to the end. EdgeboneError is a refusal; whatever else it raises is a failure.
            The folder is the one place where it may write, and has the seeds' folder beside it.
    """

    seeds: Callable[[Path], list[bytes]]
    mutate: Mutate
    use: Callable[[bytes, Path], object]


@dataclass
class Outcome:
    """What became of a target's inputs.

    Attributes:
        target: Its name.
        executed: How many inputs were used.
        accepted: How many were taken for good.
        refused: How many ended in an EdgeboneError.
        failures: How many of each kind: ``traceback``, ``crash``, ``hang``, ``memory``, ``outside``.
        places: How often each failure came, by kind and place.
        peak_mb: The largest resident size of a process.
        seconds: How long it took.
    """

    target: str
    executed: int = 0
    accepted: int = 0
    refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    peak_mb: int = 0
    seconds: float = 0.0


def input_of(target: Target, seeds: Sequence[bytes], seed: int, number: int) -> bytes:
    """The same numbers make the same input; each seed is used once as it is."""
    if number < len(seeds):
        return seeds[number]
    rng = random.Random(f"{seed}/{number}")
    return target.mutate(rng.choice(seeds), rng)


def fuzz(
    name: str, target: Target, folder: Path, *, seconds: float = float("inf"), inputs: int = 2**62, seed: int = 0
) -> Outcome:
    """Use mutated inputs until the time or the number is reached.

    Args:
        name: The target's name.
        target: The target.
        folder: Where failing inputs are saved, as ``NAME-KIND-NUMBER`` with what was raised beside it.
        seconds: For how long.
        inputs: How many inputs at most.
        seed: Makes other inputs.
    """
    outcome = Outcome(name)
    scratch = folder / f".{name}"
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "seeds").mkdir(parents=True)
    seeds = target.seeds(scratch / "seeds")
    context = multiprocessing.get_context("spawn")
    # Where the process is: the input's number, and how many it has used, taken, refused.
    state = context.RawArray("q", 4)
    began = time.monotonic()
    number = 0
    while number < inputs and (left_s := seconds - (time.monotonic() - began)) > 0:
        reader, writer = context.Pipe(duplex=False)
        arguments = (target, seeds, scratch, seed, range(number, inputs), left_s, state, writer)
        state[0] = number
        process = context.Process(target=_work, args=arguments)
        process.start()
        writer.close()
        for kind, failed, text in _watch(process, reader, state, outcome, scratch):
            _note(outcome, kind, text)
            if outcome.places[_place(kind, text)] <= 3:
                saved = folder / f"{name}-{kind}-{failed}"
                saved.write_bytes(input_of(target, seeds, seed, failed))
                saved.with_suffix(".txt").write_text(text, encoding="utf-8", errors="replace")
        number = state[0] + 1
    outcome.executed, outcome.accepted, outcome.refused = state[1], state[2], state[3]
    outcome.seconds = time.monotonic() - began
    shutil.rmtree(scratch, ignore_errors=True)
    return outcome


def _note(outcome: Outcome, kind: str, text: str) -> None:
    outcome.failures[kind] += 1
    outcome.places[_place(kind, text)] += 1


def _place(kind: str, text: str) -> str:
    """Where a failure came from: the innermost line of the project, and what was raised; else the text itself."""
    lines = [line.strip() for line in text.strip().splitlines()]
    frames = [line for line in lines if line.startswith('File "')]
    own = [line for line in frames if "/edgebone" in line] or frames
    if not own:
        return f"{kind}: {text.strip()[:100]}"
    raised = next((line for line in reversed(lines) if re.match(r"[\w.]+(:|$)", line)), "")
    return f"{kind}: {own[-1].removeprefix('File ')}: {raised.partition(':')[0]}"


def _watch(
    process: Any, reader: Connection, state: Any, outcome: Outcome, scratch: Path
) -> Iterator[tuple[str, int, str]]:
    """What a process reports, and what becomes of it: kind, input's number, text."""
    seen, since = -1, time.monotonic()
    limit_s = _START_S
    reported = False
    while True:
        try:
            while reader.poll(0.02):
                kind, number, text = reader.recv()
                if kind == "ready":
                    limit_s, since = HANG_S, time.monotonic()
                    continue
                reported = kind == "memory"
                yield kind, number, text
        except EOFError:
            break
        if state[0] != seen:
            seen, since = state[0], time.monotonic()
        resident = _resident_mb(process.pid)
        outcome.peak_mb = max(outcome.peak_mb, resident)
        hangs = time.monotonic() - since > limit_s
        if hangs or resident > _SPARE_MB:
            process.kill()
            process.join()
            state[1] += 1
            yield ("hang" if hangs else "memory"), state[0], f"after {limit_s:g} s" if hangs else f"{resident} MB"
            return
    process.join()
    if limit_s == _START_S:
        raise RuntimeError(f"{outcome.target}: the process ended before it had used a good input: {process.exitcode}")
    if process.exitcode and not reported:
        state[1] += 1
        yield "crash", state[0], f"exit code {process.exitcode}\n{_last_words(scratch)}"


def _last_words(scratch: Path) -> str:
    """What Python said of a signal that ended it."""
    said = (scratch / "stderr").read_text(encoding="utf-8", errors="replace")
    return said[said.rfind("Fatal Python error") :][:4000] if "Fatal Python error" in said else ""


def _resident_mb(pid: int) -> int:
    """The most that a process had in memory so far."""
    try:
        fields = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = fields.partition("VmHWM:")[2].split()
    return int(found[0]) // 1024 if found else 0


def _work(
    target: Target,
    seeds: list[bytes],
    scratch: Path,
    seed: int,
    numbers: range,
    seconds: float,
    state: Any,
    writer: Connection,
) -> None:
    """The process: uses one input after the other."""
    from edgebone.core.errors import EdgeboneError

    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES_BYTES, _ADDRESSES_BYTES))
    # Caches, and what OpenVINO keeps at home.
    os.environ["XDG_CACHE_HOME"] = os.environ["HOME"] = str(scratch / "home")
    guard = Guard(scratch)
    place = scratch / "place"
    place.mkdir(exist_ok=True)
    os.chdir(place)
    with (scratch / "stderr").open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable()
    # A first one loads what is loaded once, and has more time.
    with suppress(EdgeboneError):
        target.use(seeds[0], place)
    writer.send(("ready", 0, ""))
    guard.start()
    until = time.monotonic() + seconds
    for number in numbers:
        if time.monotonic() > until:
            break
        state[0] = number
        data = input_of(target, seeds, seed, number)
        try:
            target.use(data, place)
            state[2] += 1
        except EdgeboneError as error:
            state[3] += 1
            # Python names what a refusal came from; a refusal without words is none.
            if not str(error).strip():
                writer.send(("traceback", number, traceback.format_exc()))
        except BaseException:
            writer.send(("traceback", number, traceback.format_exc()))
        state[1] += 1
        for path in guard.outside():
            writer.send(("outside", number, path))
        if (peak_mb := _resident_mb(os.getpid())) > PEAK_MB:
            writer.send(("memory", number, f"{peak_mb} MB"))
            os._exit(1)
    os._exit(0)


class Guard:
    """Notices what is opened, written or started outside of the folder, Python's own files aside.

    What Python opens is seen by an audit hook, what native code opens by a watch on the folder ``outside``, which
    hostile paths lead to.
    """

    def __init__(self, scratch: Path) -> None:
        self._found: list[str] = []
        self._on = False
        own = (scratch, _PROJECT / "runtime", _PROJECT / "export", _PROJECT / "tests")
        python = (sys.prefix, sys.base_prefix, *filter(os.path.isabs, sys.path))
        self._allowed = tuple(f"{os.path.realpath(path)}/" for path in (*own, *python, "/proc", "/sys", "/dev/shm"))
        outside = scratch / "outside"
        outside.mkdir(exist_ok=True)
        (outside / "secret").write_bytes(b"secret")
        libc = ctypes.CDLL(None, use_errno=True)
        self._watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        everything = 0xFFF
        if self._watch < 0 or libc.inotify_add_watch(self._watch, os.fsencode(outside), everything) < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        sys.addaudithook(self._hook)

    def start(self) -> None:
        """From here on."""
        self._on = True

    def outside(self) -> list[str]:
        """What was noticed since the last time."""
        with suppress(BlockingIOError):
            if os.read(self._watch, 1 << 16):
                self._found.append("native code looked at the folder outside")
        found, self._found = self._found, []
        return found

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
            self._found.append(f"{event} {arguments[0]}")
        elif event in (
            "open",
            "os.mkdir",
            "os.remove",
            "os.rename",
            "os.rmdir",
            "os.symlink",
            "os.link",
            "os.truncate",
        ):
            # What a symbolic link says is no place that anything is done at.
            for path in arguments[event == "os.symlink" : 2 if event in _TWO_PATHS else 1]:
                if isinstance(path, (str, bytes)) and not self._is_allowed(os.fsdecode(path)):
                    self._found.append(f"{event} {os.fsdecode(path)!r}")

    def _is_allowed(self, path: str) -> bool:
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            return True
        return f"{real}/".startswith(self._allowed) or real in _SYSTEM
