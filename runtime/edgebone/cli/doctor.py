"""``edgebone doctor``: this machine's engines, and whether they reproduce a bundle's proof."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebone.cli import options
from edgebone.cli.output import say_json
from edgebone.cli.rows import print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgebone.core.bundle import Bundle
    from edgebone.core.manifest import Variant
    from edgebone.engines.proved import Replay
    from edgebone.engines.spec import Fit, Reject


def doctor_command(
    bundle: Annotated[str | None, typer.Argument(metavar="[BUNDLE]", help="A bundle to replay.")] = None,
    json: options.Json = False,
) -> None:
    """Show this machine's engines; with a bundle, replay its golden sample on each engine that fits.

    Fails if an engine that fits exceeds the bundle's tolerance.
    """
    from edgebone.core.bundle import open_bundle
    from edgebone.core.errors import EngineError
    from edgebone.engines.select import check, precisions_of
    from edgebone.engines.spec import Candidate, Fit
    from edgebone.engines.table import names, this_machine

    machine = this_machine()
    opened = open_bundle(bundle) if bundle else None
    variants: Mapping[str, Variant | None] = opened.manifest.variants if opened else {"fp32": None}
    verdicts = [
        check(Candidate(engine, precision, name), machine, variant)
        for name, variant in variants.items()
        for engine in names()
        for precision in precisions_of(engine, variant)
    ]
    report: dict[str, Any] = {
        "machine": machine,
        "engines": [
            {
                "engine": verdict.candidate.engine,
                "precision": verdict.candidate.precision,
                "fits": isinstance(verdict, Fit),
                "reason": verdict.reason,
            }
            for verdict in verdicts
        ],
    }
    replays: list[Replay] = []
    off_by = 0
    if opened:
        with opened:
            off_by, replays = _replay(opened, verdicts)
        report["preprocess_off_by"] = off_by
        report["replays"] = [asdict(replay) for replay in replays]
    if json:
        import msgspec

        say_json(msgspec.json.encode(report))
    else:
        _show(report, verdicts, off_by if opened else None, replays)
    failed = [f"{replay.engine} {replay.precision}" for replay in replays if not replay.passed]
    if off_by > 1:
        failed.append("preprocessing")
    if failed:
        raise EngineError(f"{bundle}: the golden sample does not replay on: {', '.join(failed)}")
    if not any(isinstance(verdict, Fit) for verdict in verdicts):
        raise EngineError('no engine is installed: pip install "edgebone[cpu]"')


def _replay(bundle: Bundle, verdicts: list[Fit | Reject]) -> tuple[int, list[Replay]]:
    from edgebone.core.golden import read_golden
    from edgebone.engines.spec import Fit
    from edgebone.selftest import preprocess_off_by, replay

    sample = read_golden(bundle)
    fits = [verdict.candidate for verdict in verdicts if isinstance(verdict, Fit)]
    return preprocess_off_by(bundle, sample), [replay(bundle, sample, candidate) for candidate in fits]


def _show(report: dict[str, Any], verdicts: list[Fit | Reject], off_by: int | None, replays: list[Replay]) -> None:
    from edgebone.engines.spec import Fit

    machine = report["machine"]
    rows = [
        ("machine", str(machine)),
        ("memory", f"{machine.memory_gb} GB"),
        ("cpu features", " ".join(machine.cpu_features) or "none relevant"),
        ("python", machine.python),
        ("packages", ", ".join(f"{name} {version}" for name, version in machine.packages.items())),
    ]
    if machine.l4t:
        rows.append(("jetson linux", machine.l4t))
    for verdict in verdicts:
        verb = "can run" if isinstance(verdict, Fit) else "cannot"
        rows.append((verb, f"{verdict.candidate}: {verdict.reason}"))
    if off_by is not None:
        rows.append(("preprocess", f"off by {off_by} of 255 from the recorded input"))
    for replay in replays:
        verdict_text = "passed" if replay.passed else "FAILED"
        detail = f" ({replay.detail})" if replay.detail else ""
        figures = f"max relative difference {replay.max_rel:.2g}, cosine {replay.cosine:.7f}"
        if replay.matched is not None:
            share = f"{100 * replay.matched:.2f} % of boxes or pixels as recorded"
            figures = share if replay.cosine == 1 else f"{figures}, {share}"
        rows.append((verdict_text, f"{replay.engine} {replay.precision}: {figures}{detail}"))
    print_rows(rows)
