"""Export the smallest network of each torchvision and timm family, with random weights, and count the passes.

Usage: python benchmarks/sweep.py [MODEL...] [--library torchvision|timm] [--families N] [--json FILE]

Each export is a separate process with a time limit. It passes if every graph pass was verified against PyTorch; a
refusal is a one-line error of edgebone's own; anything else is a crash. Exports that passed according to FILE are not
repeated, unless their MODEL is named.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from edgebone.core.errors import EdgeboneError
from edgebone.engines.table import this_machine
from edgebone_export.pictures import synthesize

KINDS = ("logits", "embedding", "features")
# A graph does not depend on the size of its maps; networks built for one size are exported at that size.
SMALL_HW = (96, 96)
PICTURES_HW = ((240, 320), (300, 220))
# Publishers' terms for small networks, smallest first.
SMALLEST = ("atto", "femto", "pico", "nano", "xxs", "xxtiny", "xtiny", "ti", "tiny", "xs", "mini", "s", "small")
CANDIDATES = 3
# Imports of an export, some of which it makes only on use.
PRELOAD = [
    "edgebone_export.exporter",
    "edgebone_export.models.taps",
    "edgebone_export.models.timm_models",
    "onnxruntime",
    "onnxscript",
    "onnxslim",
    "timm",
    "torch._functorch._aot_autograd.graph_compile",
    "torch._inductor.codecache",
]


class Row(msgspec.Struct):
    """The result of one export.

    Attributes:
        model: Name of the network.
        kind: Requested output kind.
        result: ``passed``, ``refused``, ``crashed`` or ``timed out``.
        size_hw: Input height and width in pixels.
        cpu_s: Processor time of all threads, in seconds.
        max_rel: Largest difference from PyTorch, relative to the largest output; None if it did not pass.
        strides: Strides of the feature maps.
        words: Message if it did not pass.
    """

    model: str
    kind: str
    result: str
    size_hw: tuple[int, int] | None = None
    cpu_s: float = 0.0
    max_rel: float | None = None
    strides: tuple[int, ...] = ()
    words: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--library", choices=("torchvision", "timm"))
    parser.add_argument("--families", type=int, default=110, help="number of timm families")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--limit-s", type=float, default=3600)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    models = args.models or [
        *(() if args.library == "timm" else torchvision_families()),
        *(() if args.library == "torchvision" else timm_families(args.families)),
    ]
    machine = this_machine()
    print(machine)
    rows = {(row.model, row.kind): row for row in rows_of(args.json)}
    print(f"{'model':44} {'output':9} {'result':9} {'size':>9} {'CPU s':>6} {'max rel':>8}")
    # The parent process has imported torch but never runs it: each fork starts after the imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        (samples := Path(folder) / "samples").mkdir()
        for index, size_hw in enumerate(PICTURES_HW):
            cv2.imwrite(str(samples / f"{index}.png"), synthesize(size_hw, rng))
        for model in models:
            for kind in args.kinds:
                before = rows.get((model, kind))
                if before is not None and before.result == "passed" and not args.models:
                    continue
                rows[model, kind] = row = in_a_process(context, model, kind, Path(folder), args.limit_s)
                show(row)
                if args.json:
                    content = {"machine": machine, "rows": list(rows.values())}
                    args.json.write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    counts = collections.Counter(row.result for row in rows.values())
    cpu_s = sum(row.cpu_s for row in rows.values())
    passed = [row.max_rel for row in rows.values() if row.max_rel is not None]
    networks = len({model for model, _ in rows})
    print(f"{len(rows)} exports of {networks} networks: {dict(counts)}; {cpu_s:.0f} CPU s", end="")
    print(f"; largest relative difference {max(passed):.1e}" if passed else "")


def rows_of(path: Path | None) -> list[Row]:
    """Return the exports in an existing results file."""
    if path is None or not path.exists():
        return []
    return msgspec.convert(msgspec.json.decode(path.read_bytes())["rows"], list[Row])


def show(row: Row) -> None:
    size = "x".join(map(str, row.size_hw or ()))
    rel = "" if row.max_rel is None else f"{row.max_rel:8.1e}"
    print(f"{row.model:44} {row.kind:9} {row.result:9} {size:>9} {row.cpu_s:6.1f} {rel:8} {row.words}", flush=True)


def in_a_process(
    context: multiprocessing.context.ForkServerContext, model: str, kind: str, folder: Path, limit_s: float
) -> Row:
    """Export in a process that may run out of time or memory, or be killed."""
    answer, words = answer_of(context, _export, (model, kind, folder), limit_s)
    return answer or Row(model, kind, "timed out" if words.endswith(" s") else "crashed", words=words)


def answer_of(
    context: multiprocessing.context.ForkServerContext,
    target: Callable[..., None],
    args: tuple[Any, ...],
    limit_s: float,
) -> tuple[Any, str]:
    """Return a function's answer from a separate process, or None and the reason for having none."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(theirs, *args))
    process.start()
    theirs.close()
    try:
        if not ours.poll(limit_s):
            process.kill()
            return None, f"{limit_s:.0f} s"
        return ours.recv(), ""
    except EOFError:
        process.join()
        return None, f"the process ended with {process.exitcode}"
    finally:
        process.join()


def _export(answer: Connection, model: str, kind: str, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    row = Row(model, kind, "refused")
    for size_hw in (SMALL_HW, None):
        try:
            row = _passed(model, kind, folder, size_hw)
            break
        except EdgeboneError as error:
            row = Row(model, kind, "refused", size_hw, words=str(error))
        except Exception as error:
            row = Row(model, kind, "crashed", size_hw, words=f"{type(error).__name__}: {error}"[:300])
    row.cpu_s = round(time.process_time(), 1)
    answer.send(row)


def _passed(model: str, kind: str, folder: Path, size_hw: tuple[int, int] | None) -> Row:
    from edgebone_export import export

    report = export(
        model,
        folder / "model.bundle",
        weights="random",
        size_hw=size_hw,
        output_kind=kind,  # type: ignore[arg-type]
        samples=folder / "samples",
        overwrite=True,
    )
    (head,) = report.manifest.heads.values()
    strides = tuple(head.params.get("strides", ()))
    return Row(model, kind, "passed", report.manifest.preprocess.size_hw, 0.0, report.parity.max_rel, strides)


def torchvision_families() -> list[str]:
    """Return the network with the fewest parameters of each family of torchvision's classifiers."""
    import torchvision

    from edgebone_export.models import torchvision_models

    def parameters(name: str) -> int:
        return int(torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"])

    return [min(members, key=parameters) for members in _by_family(torchvision_models.names()).values()]


def timm_families(count: int) -> list[str]:
    """Return the network with the fewest parameters tried of each family in timm's files, smallest first."""
    import timm

    found = []
    for file in timm.list_modules():
        members = [name for name in timm.list_models(module=file) if not name.startswith("test_")]
        found += [_smallest(names) for names in _by_family(members).values()]
    return [f"timm/{name}" for _, name in sorted(found)[:count]]


def _by_family(names: Sequence[str]) -> dict[str, list[str]]:
    """Group names by their leading letters: ``resnet``, ``resnext``."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        found[re.split(r"[\d_]", name)[0]].append(name)
    return found


def _rank(name: str) -> tuple[int, list[Any]]:
    words = re.split(r"[_\d]+", name)
    size = min((SMALLEST.index(word) for word in words if word in SMALLEST), default=len(SMALLEST))
    return size, [int(number) for number in re.findall(r"\d+", name)]


def _smallest(names: Sequence[str]) -> tuple[int, str]:
    """Return the network with the fewest parameters, and their number."""
    import timm
    import torch

    def parameters(name: str) -> int:
        with torch.device("meta"):
            try:
                return sum(parameter.numel() for parameter in timm.create_model(name).parameters())
            except Exception:
                # Some networks read values while they are built.
                return 10**9

    return min((parameters(name), name) for name in sorted(names, key=_rank)[:CANDIDATES])


if __name__ == "__main__":
    main()
