"""Test whether a stream survives camera network faults: real RTSP and HTTP servers, random faults, half an hour.

Usage: python benchmarks/soak.py outages [--times 20] [--seconds 20]
       python benchmarks/soak.py faults [--minutes 30] [--seed 0]

``outages`` kills one RTSP server ``--times`` times for ``--seconds``, and reports how soon frames arrive after its
return. ``faults`` runs six cameras (three RTSP, one of them with damaged packets, one MJPEG, two synthetic) into one
model and, every few seconds, does one of these: kills or pauses a server, blocks the caller for up to three
seconds, fills the JSON lines' disk, swaps the model, or offers a broken bundle. Both need GStreamer's RTSP server.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import cv2

import edgebone
from edgebone.core.errors import BundleError, OutputError
from edgebone.engines.table import this_machine
from edgebone.sinks.guarded import GuardedSink
from edgebone.sinks.jsonl import JsonLines
from edgebone.telemetry.sensors import read_process
from support.bundles import write_colors_bundle
from support.camera_servers import RtspServer, mjpeg_server
from support.pictures import GREEN, RED, picture


def account() -> dict[str, float]:
    now = {reading.quantity: reading.value for reading in read_process()}
    return {
        "memory_mb": round(now["memory_bytes"] / 1024**2, 1),
        "threads": threading.active_count(),
        "open_files": int(now["open_files"]),
    }


def outages(bundle: Path, times: int, seconds: float) -> dict[str, Any]:
    server = RtspServer().start()
    back_s: list[float] = []
    accounts = []
    arrived = threading.Condition()
    latest_s = [0.0]
    stop = threading.Event()

    def watch(stream: Any) -> None:
        for _ in stream:
            with arrived:
                latest_s[0] = time.monotonic()
                arrived.notify_all()
            if stop.is_set():
                return

    with edgebone.load(bundle) as model:
        stream = model.stream(server.url)
        worker = threading.Thread(target=watch, args=(stream,))
        worker.start()
        for number in range(times + 1):
            returned_s = time.monotonic()
            with arrived:
                assert arrived.wait_for(lambda since=returned_s: latest_s[0] > since, 60), "it never came back"
                if number:
                    back_s.append(latest_s[0] - returned_s)
            time.sleep(2)
            accounts.append(account())
            if number < times:
                server.kill()
                time.sleep(seconds)
                server.start()
                print(json.dumps({"outage": number, "back_s": back_s[-1:], **accounts[-1]}), flush=True)
        (source,) = stream.stats.sources
        stop.set()
        worker.join()
    server.kill()
    return {
        "outages": times,
        "each_s": seconds,
        "back_after_s": {"median": round(sorted(back_s)[times // 2], 2), "most": round(max(back_s), 2)},
        "reconnects": source.reconnects,
        "before": accounts[0],
        "after": accounts[-1],
    }


class FullDisk:
    """JSON lines on a disk that is full from time to time."""

    def __init__(self, path: Path) -> None:
        self._file = JsonLines(path)
        self.full = False
        self.written = 0

    def write(self, frame: Any, result: Any) -> None:
        if self.full:
            raise OutputError("lines.jsonl cannot be written: the disk is full")
        self._file.write(frame, result)
        self.written += 1

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        self._file.discard()


def faults(folder: Path, bundle: Path, minutes: float, seed: int) -> dict[str, Any]:
    chance = random.Random(seed)
    other = write_colors_bundle(folder / "other.bundle")
    broken = folder / "broken.bundle"
    shutil.copytree(other, broken)
    (broken / "onnx/fp32.onnx").write_bytes(b"damaged")
    servers = [RtspServer().start(), RtspServer().start(damage=0.2), RtspServer().start(fps=15)]
    up = [True] * len(servers)
    done: dict[str, int] = {}
    accounts: list[dict[str, float]] = []
    last: dict[str, int] = {}
    parts = [cv2.imencode(".jpg", picture(color))[1].tobytes() for color in (RED, GREEN)] + [b"", b"\xff\xd8damaged"]
    disk = FullDisk(folder / "lines.jsonl")
    sink = GuardedSink(disk, "log")
    disordered = frames = 0
    began_s = time.monotonic()
    next_fault_s, next_account_s = began_s + 5, began_s + 30
    with mjpeg_server(parts, fps=20) as url, edgebone.load(bundle) as model:
        sources = [server.url for server in servers] + [url, "synthetic://640x480@30", "synthetic://320x240@15"]
        with model.stream(*sources) as stream:
            for frame, result in stream:
                frames += 1
                disordered += frame.index <= last.get(frame.source, -1)
                last[frame.source] = frame.index
                sink.write(frame, result)
                now_s = time.monotonic()
                if now_s > next_account_s:
                    next_account_s = now_s + 30
                    accounts.append(account())
                    print(json.dumps({"minute": round((now_s - began_s) / 60, 1), **accounts[-1]}), flush=True)
                if now_s - began_s > 60 * minutes:
                    break
                if now_s < next_fault_s:
                    continue
                next_fault_s = now_s + chance.uniform(2, 6)
                what = chance.choice(("kill", "pause", "return", "return", "block", "disk", "swap", "broken"))
                done[what] = done.get(what, 0) + 1
                which = chance.randrange(len(servers))
                if what == "kill" and up[which]:
                    servers[which].kill()
                    up[which] = False
                elif what == "pause" and up[which]:
                    servers[which].pause()
                    threading.Timer(chance.uniform(1, 9), servers[which].go_on).start()
                elif what == "return" and not all(up):
                    which = up.index(False)
                    servers[which].start()
                    up[which] = True
                elif what == "block":
                    time.sleep(chance.uniform(0.2, 3))
                elif what == "disk":
                    disk.full = not disk.full
                elif what == "swap":
                    stream.swap(other if stream.model.bundle.path != other else bundle)
                elif what == "broken":
                    try:
                        stream.swap(broken)
                        raise SystemExit("a broken bundle was accepted")
                    except BundleError:
                        pass
            stats = stream.stats
    sink.close()
    for server in servers:
        server.kill()
    time.sleep(11)
    lines = (folder / "lines.jsonl").read_bytes().splitlines()
    return {
        "minutes": minutes,
        "faults": done,
        "frames": frames,
        "out_of_order": disordered,
        "lines_written": disk.written,
        "lines_readable": sum(1 for line in lines if json.loads(line)),
        "lines_lost_to_a_full_disk": sink.lost,
        "sources": [
            {"name": s.name.split("@")[0], "frames": s.frames, "dropped": s.dropped, "damaged": s.damaged,
             "reconnects": s.reconnects, "seen_to_index": last.get(s.name)}
            for s in stats.sources
        ],
        "first": accounts[0],
        "middle": accounts[len(accounts) // 2],
        "last": accounts[-1],
        "after_the_end": {**account(), "names": [thread.name for thread in threading.enumerate()]},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("outages", "faults"))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.disable()
    machine = this_machine()
    print(machine)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = write_colors_bundle(folder / "colors.bundle")
        if args.what == "outages":
            record = outages(bundle, args.times, args.seconds)
        else:
            record = faults(folder, bundle, args.minutes, args.seed)
    print(json.dumps(record, indent=1))
    if args.json:
        args.json.write_text(json.dumps({"machine": str(machine), **record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
