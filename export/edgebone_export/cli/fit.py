"""``edgebone fit``: a head of one's own on a bundle's frozen backbone."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebone.cli import options
from edgebone.cli.output import note, say, say_json
from edgebone_export.cli.attach import show as show_attached
from edgebone_export.cli.head_options import own_parameters, own_settings
from edgebone_export.cli.steps import Steps
from edgebone_export.heads.kinds import find_kind, names_of

if TYPE_CHECKING:
    from edgebone_export.heads.fit.fit import FitReport

_LISTED = 10
_DATA, _FEATURES = "Data", "Features"


def fit(
    bundle: options.Bundle,
    data: Annotated[
        Path,
        typer.Option(
            help="A folder with a folder a class, or a CSV with file and label (labels as a|b for multilabel, columns "
            "of numbers for regression). For segmentation a folder with images and masks; for detection COCO's JSON; "
            "for anomaly a folder of normal pictures.",
            rich_help_panel=_DATA,
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--out", help="The bundle to write, with the head; or NAME.head for the head alone.")
    ],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help=f"{', '.join(names_of())}.",
            autocompletion=lambda incomplete: options.matching(incomplete, names_of()),
        ),
    ] = "linear",
    head: Annotated[str | None, typer.Option("--head", help="The head's name in the bundle.")] = None,
    val: Annotated[
        Path | None,
        typer.Option(
            help="Pictures to measure on, labelled alike; a share is held out if not given.", rich_help_panel=_DATA
        ),
    ] = None,
    hold_out: Annotated[
        float, typer.Option(callback=options.share, help="The share that is held out.", rich_help_panel=_DATA)
    ] = 0.2,
    read: Annotated[
        str | None,
        typer.Option(
            help="What it reads of the backbone, such as embedding,features_s16:avg,features_s8:gem (features_s8 for "
            "heads on maps); what has served best if not given.",
            rich_help_panel=_FEATURES,
        ),
    ] = None,
    views: Annotated[
        int, typer.Option(min=1, help="Augmented views a picture, while fitting.", rich_help_panel=_DATA)
    ] = 1,
    engine: options.Engine = "auto",
    precision: options.Precision = None,
    variant: Annotated[
        str | None,
        typer.Option(
            help="The bundle's variant that features are of; the engine's choice if not given.",
            rich_help_panel=_FEATURES,
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the heads that the bundle has; else the new one is the only one.")
    ] = False,
    detached: Annotated[
        bool,
        typer.Option(
            "--detached",
            help="Attach the head as a graph of its own, outside the backbone's graph: own rate, swapped while "
            "serving. (edgebone detach takes a head off a bundle.)",
        ),
    ] = False,
    max_drop: Annotated[
        float, typer.Option(min=0, max=100, help="Points that a variant of fewer bits may lose before it is left out.")
    ] = 1.0,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache/--no-cache", help="Keep features on disk, by the pictures' content.", rich_help_panel=_FEATURES
        ),
    ] = True,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of all that is random.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace what exists.")] = False,
    json: options.Json = False,
    **said: Any,
) -> None:
    """Fit a head on your pictures in seconds; the backbone stays as it is, and its features are computed once."""
    own = own_settings(kind, said)
    if head in names_of() and head not in (kind, find_kind(kind).head):
        raise typer.BadParameter(f"--head is the head's name; for a head of the kind {head}: --kind {head}")
    if output.suffix == ".head" and (keep or detached):
        raise typer.BadParameter(
            "--keep and --detached are about a bundle; a head alone is attached with: edgebone attach"
        )
    from edgebone.core.bundle_writing import check_target
    from edgebone.core.head_file import SUFFIX, check_head_target
    from edgebone.engines.select import check_words
    from edgebone_export.given import check_bundle, check_there

    check_there(data, val, *(value for value in own.values() if isinstance(value, Path)))
    check_bundle(bundle)
    check_words(engine, precision or "auto")
    if output.suffix == SUFFIX:
        check_head_target(output, force)
    else:
        check_target(output, force)
    with Steps() as steps:
        steps.begin("loading scikit-learn and PyTorch")
        from edgebone_export.need_packages import need

        need("fitting heads", "heads", "onnx", "onnx_ir", "onnxruntime", "onnxslim", "scipy", "sklearn", "torch")
        from edgebone_export.heads.fit.fit import fit as run_fit
        from edgebone_export.heads.fit.work import Settings

        report = run_fit(
            bundle,
            data,
            output,
            Settings(
                kind=kind,
                name=head,
                val=val,
                hold_out=hold_out,
                read=read,
                views=views,
                engine=engine,
                precision=precision,
                variant=variant,
                options=own,
                seed=seed,
            ),
            keep=keep,
            detached=detached,
            max_drop=max_drop,
            cache="default" if cache else None,
            overwrite=force,
            progress=steps.begin,
            count=steps.count,
        )
    _warn(report)
    if json:
        _show_json(report)
    else:
        _show(report)


# Typer reads a command's options off its signature.
_SIGNATURE = inspect.signature(fit, eval_str=True)
fit.__signature__ = _SIGNATURE.replace(  # type: ignore[attr-defined]
    parameters=[
        *(item for item in _SIGNATURE.parameters.values() if item.name != "said"),
        # A package's kind may have a setting of the name of an option: it is Python's alone.
        *(item for item in own_parameters() if item.name not in _SIGNATURE.parameters),
    ]
)


def _warn(report: FitReport) -> None:
    if report.unreadable:
        _list(
            f"{len(report.unreadable)} pictures cannot be read and are left out",
            [f"{path}: {why}" if path not in why else why for path, why in report.unreadable.items()],
        )
    if report.contradictory:
        _list(
            f"{len(report.contradictory)} pictures are there several times, with different targets",
            report.contradictory,
        )
    if report.leaked:
        _list(f"{len(report.leaked)} held-out pictures are among those to fit on and are not counted", report.leaked)


def _list(what: str, items: list[str] | tuple[str, ...]) -> None:
    note(f"edgebone: {what}:")
    for item in items[:_LISTED]:
        note(f"  {item}")
    if len(items) > _LISTED:
        note(f"  and {len(items) - _LISTED} more")


def _show(report: FitReport) -> None:
    from edgebone_export.heads.fit.report_text import report_text

    cached, of = report.from_cache
    say(
        f"features: {', '.join(report.reads)} by {report.candidate}; {report.features_s:.1f} s, {cached} of {of} "
        f"pictures from the cache; the head was fitted in {report.fit_s:.1f} s"
    )
    for line in report_text(report.head.manifest.report):
        say(line)
    for name, found in report.accuracies.items():
        if found is None:
            say(f"variant {name}: not measured, no engine here runs it")
        elif len(report.accuracies) > 1:
            say(f"variant {name}: {found.metric} {found.value:.2f} on {found.pictures} pictures")
    if report.attached is not None:
        show_attached(report.attached)
    else:
        say(f"{report.path}: head {report.head.manifest.name}")


def _show_json(report: FitReport) -> None:
    import msgspec

    shown = {
        "path": str(report.path),
        "head": report.head.manifest.name,
        "reads": report.reads,
        "features_by": str(report.candidate),
        "features_s": round(report.features_s, 3),
        "fit_s": round(report.fit_s, 3),
        "pictures_from_cache": report.from_cache[0],
        "pictures": report.from_cache[1],
        "unreadable": report.unreadable,
        "leaked": report.leaked,
        "contradictory": report.contradictory,
        "accuracies": report.accuracies,
        "report": report.head.manifest.report,
    }
    say_json(msgspec.json.encode(shown))
