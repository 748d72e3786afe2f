"""``python tests/fuzz/fuzz.py [TARGET ...] --seconds 60``: mutated inputs for everything that reads what others made.

Prints a line a target: inputs used, accepted, refused, and what must not be: tracebacks, crashes, hangs, too much
memory, anything outside touched. Exits with 1 where there is any; the inputs are saved, ``--replay`` uses one again.
Where atheris is installed, ``--atheris`` lets it choose the inputs by what they reach, and stops at the first failure.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

COLUMNS = ("traceback", "crash", "hang", "memory", "outside")


def main() -> int:
    """Parse, run, print."""
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all, or: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for how long, a target")
    parser.add_argument("--inputs", type=int, default=2**62, help="how many inputs, a target")
    parser.add_argument("--seed", type=int, default=0, help="another number makes other inputs")
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"), help="where failing inputs are saved")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="use one saved input, in this process")
    parser.add_argument("--atheris", action="store_true", help="guided by coverage; one target")
    asked = parser.parse_args()
    unknown = set(asked.targets) - TARGETS.keys()
    if unknown or ((asked.replay or asked.atheris) and len(asked.targets) != 1):
        parser.error(f"there is no target {', '.join(unknown)}" if unknown else "this takes one target")
    endless = asked.seconds == float("inf") and (asked.atheris or asked.inputs == 2**62)
    if endless and not asked.replay:
        parser.error("say for how long: --seconds" + ("" if asked.atheris else ", or --inputs"))
    asked.out.mkdir(parents=True, exist_ok=True)
    out = asked.out.absolute()
    if asked.replay:
        return replay(asked.targets[0], asked.replay.read_bytes(), out)
    if asked.atheris:
        return guided(asked.targets[0], out, int(asked.seconds), asked.seed)
    return plain(asked.targets or list(TARGETS), out, asked.seconds, asked.inputs, asked.seed)


def plain(names: list[str], out: Path, seconds: float, inputs: int, seed: int) -> int:
    """Run targets one after the other and print a table."""
    from harness import fuzz
    from targets import TARGETS

    heads = ("target", "inputs", "per s", "accepted", "refused", *COLUMNS, "peak MB")
    print(f"{heads[0]:<18}", *(f"{head:>9}" for head in heads[1:]), flush=True)
    failed = False
    for name in names:
        found = fuzz(name, TARGETS[name], out, seconds=seconds, inputs=inputs, seed=seed)
        rate = round(found.executed / max(found.seconds, 1e-9), 1)
        figures = (found.executed, rate, found.accepted, found.refused, *(found.failures[key] for key in COLUMNS))
        print(f"{name:<18}", *(f"{figure:>9}" for figure in (*figures, found.peak_mb)), flush=True)
        for place, times in found.places.most_common(20):
            print(f"  {times:>5} x {place}", flush=True)
        failed = failed or bool(found.failures)
    return int(failed)


def replay(name: str, data: bytes, out: Path) -> int:
    """Use one input, and let what it raises through."""
    from targets import TARGETS

    from edgebone.core.errors import EdgeboneError

    place = _prepared(name, out)
    try:
        TARGETS[name].use(data, place)
    except EdgeboneError as error:
        print(f"refused: {error}")
    else:
        print("accepted")
    return 0


def guided(name: str, out: Path, seconds: int, seed: int) -> int:
    """Let atheris choose; libFuzzer ends the process."""
    import atheris
    from harness import HANG_S, PEAK_MB

    with atheris.instrument_imports(include=["edgebone"]):
        from targets import TARGETS

        from edgebone.core.errors import EdgeboneError

        place = _prepared(name, out)
        target = TARGETS[name]
        corpus = out / f"corpus-{name}"
        corpus.mkdir(exist_ok=True)
        for number, data in enumerate(target.seeds(_empty(out / ".corpus"))):
            (corpus / f"seed-{number}").write_bytes(data)
            try:
                target.use(data, place)
            except EdgeboneError as error:
                print(f"seed {number}: refused: {error}")

    def one(data: bytes) -> None:
        try:
            target.use(data, place)
        except EdgeboneError:
            return

    def mutate(data: bytes, most: int, number: int) -> bytes:
        return target.mutate(bytes(data), random.Random(number))[:most]

    limits = (f"-timeout={HANG_S:g}", f"-rss_limit_mb={PEAK_MB}", f"-max_total_time={seconds}", f"-seed={seed + 1}")
    options = ("-max_len=1048576", f"-artifact_prefix={out / name}-", str(corpus))
    atheris.Setup([sys.argv[0], *limits, *options], one, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


def _prepared(name: str, out: Path) -> Path:
    """The folder that an input may write in, with the seeds' own beside it."""
    from targets import TARGETS

    scratch = _empty(out / f".{name}")
    place = scratch / "place"
    place.mkdir()
    TARGETS[name].seeds(_empty(scratch / "seeds"))
    return place


def _empty(folder: Path) -> Path:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
