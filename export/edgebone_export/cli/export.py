"""``edgebone export``: from a pre-trained network to a proved bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebone_export.cli.add_frame import add_frames, show_frames
from edgebone_export.cli.options import Frames, Nv12, parse_batch, parse_frames, parse_size
from edgebone_export.cli.report import show
from edgebone_export.cli.steps import Steps

if TYPE_CHECKING:
    from edgebone.core.manifest import Preprocess


def export(
    model: Annotated[str, typer.Argument(help="A name from `edgebone models`, or package.module:callable.")],
    output: Annotated[Path, typer.Option("-o", "--out", help="The bundle; NAME.zip gives a single file.")],
    weights: Annotated[
        str, typer.Option(help="default, a publisher's name such as IMAGENET1K_V1, a file, or random.")
    ] = "default",
    weights_dir: Annotated[Path | None, typer.Option(help="A folder with publishers' weights files.")] = None,
    size: Annotated[str | None, typer.Option(help="Another input size, HEIGHTxWIDTH.")] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Length of a picture's shorter side before the centre is cut out, such as 224: nothing is cut off it.",
        ),
    ] = None,
    batch: Annotated[str, typer.Option(help="1, or 1-8 for a dynamic batch.")] = "1",
    output_kind: Annotated[
        str | None,
        typer.Option(
            "--output",
            help="Of a classifier: logits (what it has if nothing is said), embedding, features; of your own network "
            "also segmentation, or raw: all that it returns.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="What the numbers are that a network gives for a picture: binary (one label, which holds or not), "
            "multilabel, regression, or classification, which is taken where they can be classes."
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="The backbone under fasterrcnn, retinanet or fcos: any that has feature maps.")
    ] = None,
    decode: Annotated[
        str, typer.Option(help="Of segmentation: graph gives each pixel's best class, host the logits.")
    ] = "graph",
    labels: Annotated[Path | None, typer.Option(help="Class names, one a line, UTF-8.")] = None,
    preprocess: Annotated[Path | None, typer.Option(help="JSON with the preprocessing, for your own network.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Pictures to verify on.")] = None,
    frame: Frames = None,
    nv12: Nv12 = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Export a pre-trained network to a bundle, checking every step against PyTorch."""
    if decode not in ("graph", "host"):
        raise typer.BadParameter(f"--decode is graph or host, not {decode!r}")
    size_hw, batch_range = parse_size(size), parse_batch(batch)
    frames = parse_frames(frame, nv12)
    from edgebone.core.bundle_writing import check_target
    from edgebone_export.given import check_model_name, check_there
    from edgebone_export.models.output_kinds import check_kinds

    check_model_name(model)
    check_kinds(output_kind, kind)
    check_there(samples, weights_dir)
    names, preparation = _read_labels(labels), _read_preprocess(preprocess)
    check_target(output, force)
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
            size_hw=size_hw,
            batch=batch_range,
            output_kind=output_kind,  # type: ignore[arg-type]
            labels=names,
            preprocess=preparation,
            backbone=backbone,
            decode=decode,  # type: ignore[arg-type]
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
