"""``edgebone export``: from a pre-trained network to a proved bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from edgebone.cli.options import matching
from edgebone_export.cli.add_frame import add_frames, show_frames
from edgebone_export.cli.options import INPUT, Frames, InputSize, Nv12, check_frames, note_sizes, parse_batch
from edgebone_export.cli.report import show
from edgebone_export.cli.steps import Steps
from edgebone_export.models.hf_folder import PREFIX, find_hf_folder
from edgebone_export.models.output_kinds import Decode, Kind, OutputKind, check_kinds

if TYPE_CHECKING:
    from edgebone.core.manifest import Preprocess

_NETWORK = "Network"


def export(
    model: Annotated[str, typer.Argument(help="A name from `edgebone models`, package.module:callable, or hf:FOLDER.")],
    output: Annotated[Path, typer.Option("-o", "--out", help="The bundle; NAME.zip gives a single file.")],
    weights: Annotated[
        str,
        typer.Option(
            help="default, a publisher's name such as IMAGENET1K_V1, a file, or random.", rich_help_panel=_NETWORK
        ),
    ] = "default",
    weights_dir: Annotated[
        Path | None, typer.Option(help="A folder with publishers' weights files.", rich_help_panel=_NETWORK)
    ] = None,
    size: InputSize = None,
    resize: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Length of a picture's shorter side before the centre is cut out, such as 224: nothing is cut off it.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    batch: Annotated[str, typer.Option(help="1, or 1-8 for a dynamic batch.", rich_help_panel=INPUT)] = "1",
    output_kind: Annotated[
        str | None,
        typer.Option(
            "--output",
            help="Of a classifier: logits (what it has if nothing is said), embedding, features; of your own network "
            "also segmentation, or raw: all that it returns.",
            autocompletion=lambda incomplete: matching(incomplete, get_args(OutputKind)),
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="What the numbers are that a network gives for a picture: binary (one label, which holds or not), "
            "multilabel, regression, or classification, which is taken where they can be classes.",
            autocompletion=lambda incomplete: matching(incomplete, get_args(Kind)),
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="The backbone under fasterrcnn, retinanet or fcos: any that has feature maps.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    decode: Annotated[
        Decode,
        typer.Option(
            help="Of segmentation: graph gives each pixel's best class, host the logits.", rich_help_panel=_NETWORK
        ),
    ] = "graph",
    labels: Annotated[
        Path | None, typer.Option(help="Class names, one a line, UTF-8.", rich_help_panel=_NETWORK)
    ] = None,
    preprocess: Annotated[
        Path | None, typer.Option(help="JSON with the preprocessing, for your own network.", rich_help_panel=INPUT)
    ] = None,
    samples: Annotated[Path | None, typer.Option(help="Pictures to verify on.")] = None,
    frame: Frames = None,
    nv12: Nv12 = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Export a pre-trained network to a bundle, checking every step against PyTorch."""
    batch_range, frames = parse_batch(batch), check_frames(frame, nv12)
    from edgebone.core.bundle_writing import check_target
    from edgebone_export.given import check_model_name, check_there

    check_model_name(model)
    check_kinds(output_kind, kind)
    check_there(samples, weights_dir)
    names, preparation = _read_labels(labels), _read_preprocess(preprocess)
    check_target(output, force)
    if model.startswith(PREFIX):
        find_hf_folder(model, weights)
    note_sizes(size, frames)
    with Steps() as steps:
        steps.begin("loading PyTorch")
        from edgebone_export.need_packages import need_torch

        need_torch()
        from edgebone_export.exporter import export as run_export

        report = run_export(
            model,
            output,
            weights=weights,
            weights_dir=weights_dir,
            size_hw=size,
            batch=batch_range,
            output_kind=output_kind,  # type: ignore[arg-type]
            labels=names,
            preprocess=preparation,
            backbone=backbone,
            decode=decode,
            resize=resize,
            kind=kind,  # type: ignore[arg-type]
            samples=samples,
            overwrite=force,
            progress=steps.begin,
        )
        added = add_frames(output, frames, nv12, steps, ["fp32"], samples)
    show(report)
    show_frames(added)


def _read_labels(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    from edgebone_export.models.labels import read_labels

    return list(read_labels(path))


def _read_preprocess(path: Path | None) -> Preprocess | None:
    if path is None:
        return None
    from edgebone_export.need_packages import need

    need("the export", "export", "onnx", "onnx_ir")
    from edgebone_export.importers.conventions import read_preprocess

    return read_preprocess(path)
