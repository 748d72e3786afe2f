"""Reload a run repeatedly and count the processes that survive.

Usage: python benchmarks/reload_storm.py [sighup|swap] [--bundle BUNDLE] [--head NAME=FILE] [--engine NAME]...
           [--processes 10] [--at-once 2] [--every 0.05] [--seconds 60] [--busy 2] [--json FILE]

``sighup`` starts ``edgebone run BUNDLE synthetic://64x48@60`` and sends it SIGHUP every ``--every`` seconds. ``swap``
starts a Python process in which four threads swap the model of one stream as fast as they can, or with ``--head`` a
detached head. ``--busy`` processes load the machine beside them: races show when cores are short.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from edgebone.engines.table import this_machine
from support.bundles import write_colors_bundle

PROGRAM = Path(sys.executable).with_name("edgebone")
SOURCE = "synthetic://64x48@60"
START_S = 60.0
SWAPS = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import edgebone

bundle, engine, source, seconds, head = sys.argv[1:]
stop_s = time.monotonic() + float(seconds)

def swap():
    swaps = 0
    while time.monotonic() < stop_s:
        if head:
            model.swap_head(*head.split("=", 1))
        else:
            stream.swap(bundle, engine=engine)
        swaps += 1
    return swaps

with (
    edgebone.load(bundle, engine=engine) as model,
    model.stream(source) as stream,
    ThreadPoolExecutor(4) as pool,
):
    swapped = [pool.submit(swap) for _ in range(4)]
    for _ in stream:
        if all(thread.done() for thread in swapped):
            break
    print(sum(thread.result() for thread in swapped))
"""


@dataclass(frozen=True)
class Outcome:
    """The end of one process.

    Attributes:
        code: Exit code; below 0 the signal that killed it.
        reloads: Number of successful reloads.
        last_words: Last line that it wrote, if it died.
    """

    code: int
    reloads: int
    last_words: str = ""


def sighup(bundle: Path, engine: str, every_s: float, seconds: float) -> Outcome:
    """Run one ``edgebone run`` under SIGHUP; it passes if it is still alive and SIGTERM ends it cleanly."""
    with tempfile.TemporaryFile("w+") as said:
        command = [str(PROGRAM), "run", str(bundle), SOURCE, "--engine", engine]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        with _ended(run):
            # A signal before the run listens for it would end it.
            _wait_until_it_listens(run)
            end_s = time.monotonic() + seconds
            while run.poll() is None and time.monotonic() < end_s:
                run.send_signal(signal.SIGHUP)
                time.sleep(every_s)
            if run.poll() is None:
                run.send_signal(signal.SIGTERM)
            code = run.wait(START_S)
        said.seek(0)
        lines = said.read().splitlines()
    reloads = sum("loaded again" in line for line in lines)
    return Outcome(0 if code == 143 else code, reloads, "" if code == 143 else "".join(lines[-1:]))


def _wait_until_it_listens(run: subprocess.Popen[bytes]) -> None:
    """Wait until the process catches SIGHUP, which Linux shows as a bit in its status."""
    end_s = time.monotonic() + START_S
    while run.poll() is None and time.monotonic() < end_s:
        status = Path(f"/proc/{run.pid}/status").read_text()
        caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
        if caught >> (signal.SIGHUP - 1) & 1:
            return
        time.sleep(0.05)


def swap(bundle: Path, engine: str, seconds: float, head: str = "") -> Outcome:
    """Run one process of four threads that swap; it passes if it ends by itself."""
    command = [sys.executable, "-c", SWAPS, str(bundle), engine, SOURCE, str(seconds), head]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 2 * START_S)
    return Outcome(done.returncode, int(done.stdout or 0), "".join(done.stderr.splitlines()[-1:]))


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Run busy processes in the background."""
    with contextlib.ExitStack() as stack:
        for _ in range(processes):
            stack.enter_context(_ended(subprocess.Popen([sys.executable, "-c", "while True: pass"])))
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("sighup", "swap"), default="sighup")
    parser.add_argument("--bundle", type=Path, help="default a network that names the picture's colour")
    parser.add_argument("--head", default="", metavar="NAME=FILE", help="for swap: this head, not the model")
    parser.add_argument("--engine", action="append", help="default openvino and onnxruntime")
    parser.add_argument("--processes", type=int, default=10, help="for each engine")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--every", type=float, default=0.05, help="seconds between two SIGHUPs")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    print(f"{machine}; {args.busy} busy processes, {args.at_once} at once, load {os.getloadavg()[0]:.1f}")
    record = {}
    with tempfile.TemporaryDirectory() as folder, busy(args.busy), ThreadPoolExecutor(args.at_once) as pool:
        bundle = args.bundle or write_colors_bundle(Path(folder, "colors.bundle"))
        for engine in args.engine or ["openvino", "onnxruntime"]:
            if args.what == "sighup":
                runs = [pool.submit(sighup, bundle, engine, args.every, args.seconds) for _ in range(args.processes)]
            else:
                runs = [pool.submit(swap, bundle, engine, args.seconds, args.head) for _ in range(args.processes)]
            outcomes = [run.result() for run in runs]
            dead = [outcome for outcome in outcomes if outcome.code]
            reloads = [outcome.reloads for outcome in outcomes]
            print(f"{engine}: {len(dead)} of {len(outcomes)} dead, {sum(reloads)} reloads {reloads}", flush=True)
            for outcome in dead:
                print(f"  {outcome.code} after {outcome.reloads} reloads: {outcome.last_words}", flush=True)
            record[engine] = [asdict(outcome) for outcome in outcomes]
    if args.json:
        args.json.write_text(json.dumps({"machine": str(machine), "args": vars(args), **record}, indent=1, default=str))


if __name__ == "__main__":
    main()
