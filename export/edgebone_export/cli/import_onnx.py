"""``edgebone import``: a foreign ONNX file becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebone.cli.options import matching
from edgebone_export.cli.add_frame import add_frames, show_frames
from edgebone_export.cli.options import INPUT, Frames, InputSize, Nv12, check_frames, note_sizes, parse_batch
from edgebone_export.cli.report import show
from edgebone_export.cli.steps import Steps
from edgebone_export.models.output_kinds import Decode

if TYPE_CHECKING:
    from edgebone_export.importers.heads import HeadSpec

_READING = "What the outputs are"


def _complete_decoder(incomplete: str) -> list[str]:
    from edgebone_export.importers.heads import DECODERS

    head, equals, word = incomplete.rpartition("=")
    return [f"{head}{equals}{name}" for name in matching(word, DECODERS)]


def _complete_convention(incomplete: str) -> list[str]:
    from edgebone_export.importers.conventions import CONVENTIONS

    return matching(incomplete, CONVENTIONS)


def import_onnx(
    model: Annotated[Path, typer.Argument(help="The ONNX file.")],
    output: Annotated[Path, typer.Option("-o", "--out", help="The bundle; NAME.zip gives a single file.")],
    decoder: Annotated[
        list[str],
        typer.Option(
            help="How outputs are read: yolox, yolov5, yolov8, yolo-end2end (also with -seg, -pose or -obb, such as "
            "yolov8-seg and yolo-end2end-pose), detr, ssd, depth, classification, multilabel, "
            "regression, segmentation, embedding, features or raw. For several heads: HEAD=DECODER[:OUTPUT,OUTPUT], "
            "once a head.",
            autocompletion=_complete_decoder,
            rich_help_panel=_READING,
        ),
    ],
    preprocess: Annotated[
        str | None,
        typer.Option(
            help="How pictures become the input: yolox, ultralytics, ultralytics-classify, rt-detr, rf-detr, stretch, "
            "imagenet, or a JSON file. Not needed where the file says it itself (ultralytics' do).",
            autocompletion=_complete_convention,
            rich_help_panel=INPUT,
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="[HEAD=] and a file with one name a line, names with commas between, one name, coco or imagenet.",
            rich_help_panel=_READING,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[HEAD.]KEY=VALUE",
            help="A decoder's setting, such as iou=0.5; or how its outputs are written: batch_axis=1, "
            "unit=relative, columns=cx,cy,width,height,score,class.",
            rich_help_panel=_READING,
        ),
    ] = None,
    binding: Annotated[
        list[str] | None,
        typer.Option(
            "--bind",
            metavar="INPUT=VALUE",
            help="An input beside the picture's that is the same for every picture: a number or a JSON list. Those of "
            "RT-DETR and PaddleDetection are known.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    decode: Annotated[
        Decode,
        typer.Option(
            help="graph: boxes or classes leave the graph decoded; host: the runtime decodes.",
            rich_help_panel=_READING,
        ),
    ] = "graph",
    boxes: Annotated[
        int, typer.Option(min=1, help="How many boxes a decoded graph gives, at most.", rich_help_panel=_READING)
    ] = 1000,
    size: InputSize = None,
    batch: Annotated[
        str | None, typer.Option(help="1, or 1-8, where the file leaves it free.", rich_help_panel=INPUT)
    ] = None,
    samples: Annotated[Path | None, typer.Option(help="Pictures to verify on.")] = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            help="JSON with answers of your own that the bundle must give, too: by picture, seen from the file, a "
            'class\'s name, or boxes {"label": …, "bbox": [left, top, width, height]}.'
        ),
    ] = None,
    frame: Frames = None,
    nv12: Nv12 = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Wrap an ONNX file of any origin into a bundle, checking every step against the file itself."""
    batch_range, frames = None if batch is None else parse_batch(batch), check_frames(frame, nv12)
    from edgebone.core.bundle_writing import check_target
    from edgebone_export.given import check_onnx_file, check_there

    check_onnx_file(model)
    check_there(samples, expect)
    check_target(output, force)
    note_sizes(size, frames)
    with Steps() as steps:
        steps.begin("loading ONNX")
        from edgebone_export.need_packages import need

        need("the import", "export", "onnx", "onnx_ir")
        from edgebone_export.importers.conventions import check_convention
        from edgebone_export.importers.heads import name_heads

        heads, bound = _heads(decoder, labels or [], settings or []), _bound(binding or [])
        name_heads(heads)
        check_convention(preprocess)
        from edgebone_export.need_packages import need_torch

        need_torch()
        from edgebone_export.importers.importer import import_onnx as run_import

        report = run_import(
            model,
            output,
            heads=heads,
            preprocess=preprocess,
            decode=decode,
            boxes=boxes,
            size_hw=size,
            batch=batch_range,
            samples=samples,
            bound=bound,
            expect=expect,
            overwrite=force,
            progress=steps.begin,
        )
        added = add_frames(output, frames, nv12, steps, ["fp32"], samples)
    show(report)
    show_frames(added)


def _heads(decoders: list[str], labels: list[str], settings: list[str]) -> dict[str, HeadSpec] | HeadSpec:
    from edgebone_export.importers.conventions import find_labels
    from edgebone_export.importers.heads import HeadSpec

    named: dict[str, tuple[str, tuple[str, ...]]] = {}
    for text in decoders:
        name, equals, rest = text.rpartition("=")
        if not equals and len(decoders) > 1:
            raise typer.BadParameter(f"with several heads each needs a name: --decoder HEAD={text}")
        if name in named:
            raise typer.BadParameter(f"head {name} is given twice")
        kind, _, outputs = rest.partition(":")
        named[name] = (kind, tuple(item for item in outputs.split(",") if item))
    own_labels: dict[str, tuple[str, ...] | None] = {}
    for text in labels:
        name, value = _addressed(text, named, "=")
        own_labels[name] = find_labels(value)
    own_settings: dict[str, dict[str, Any]] = {}
    for text in settings:
        name, pair = _addressed(text, named, ".")
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set takes KEY=VALUE, not {text!r}")
        own_settings.setdefault(name, {})[key] = _value(value)
    heads = {
        name: HeadSpec(kind, outputs, own_labels.get(name, own_labels.get("")), _merged(own_settings, name))
        for name, (kind, outputs) in named.items()
    }
    return heads[""] if list(heads) == [""] else heads


def _bound(bindings: list[str]) -> dict[str, Any]:
    found = {}
    for text in bindings:
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"--bind takes INPUT=VALUE, not {text!r}")
        found[name] = _value(value)
    return found


def _addressed(text: str, heads: dict[str, tuple[str, tuple[str, ...]]], separator: str) -> tuple[str, str]:
    """Split what is for one head from its name; without a name of a head it is for all."""
    name, found, rest = text.partition(separator)
    return (name, rest) if found and name in heads else ("", text)


def _merged(settings: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    return {**settings.get("", {}), **settings.get(name, {})}


def _value(text: str) -> Any:
    """A number, true, null or a list as JSON has them; a bare word as it is."""
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
