"""``edgebone quantize``: variants with fewer bits, under an accuracy budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgebone.cli import options
from edgebone.cli.output import notice, say, say_json
from edgebone.cli.random_weights import say_if_random
from edgebone_export.cli.steps import Steps

if TYPE_CHECKING:
    from edgebone_export.quantization.quantizer import Outcome


def quantize_command(
    bundle: options.Bundle,
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", help="Pictures to measure ranges on: a folder, a labelled set, or a video."),
    ] = None,
    evaluate: Annotated[
        Path | None,
        typer.Option(
            "--eval",
            help="What the budget is counted on: labels as `edgebone eval` takes them, or pictures alone (agreement "
            "with FP32). The calibration pictures if not given.",
        ),
    ] = None,
    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0, max=100, help="Points of 100 that may be lost.")
    ] = 0.5,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            help="int8, fp16, bf16, fp8 or int4; repeat for several.",
            autocompletion=lambda incomplete: options.matching(incomplete, ("int8", "fp16", "bf16", "fp8", "int4")),
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="onnxruntime, openvino or tensorrt; repeat for several; all if not given.",
            autocompletion=lambda incomplete: options.matching(incomplete, ("onnxruntime", "openvino", "tensorrt")),
        ),
    ] = None,
    method: Annotated[
        Literal["auto", "minmax", "entropy", "percentile", "mse"],
        typer.Option("--method", help="How ranges are chosen; auto takes the best of the others."),
    ] = "auto",
    pictures: Annotated[int, typer.Option("--pictures", min=1, help="How many pictures to calibrate on.")] = 128,
    head: Annotated[str | None, typer.Option("--head", help="The head that the labels are for.")] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="The pictures of boxes and areas; images beside the labels if not given."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Add variants with fewer bits, each only when it holds the accuracy budget and is faster on its engine.

    A variant that loses too much is tried again with its costliest layers left in FP32.
    """
    from edgebone_export.given import check_there

    check_there(calibrate, evaluate, images)
    say_if_random(bundle)
    with Steps() as steps:
        steps.begin("loading ONNX")
        from edgebone_export.need_packages import need

        need("quantization", "quantize", "onnx", "onnx_ir", "ml_dtypes")
        from edgebone_export.errors import ExportError
        from edgebone_export.quantization.recipes import KNOWN, RECIPES

        wanted = [(own, of) for own, of in RECIPES if own in (precision or ["int8"]) and (not target or of in target)]
        unknown = {*(precision or ()), *(target or ())} - {word for pair in RECIPES for word in pair}
        if unknown or not wanted:
            raise ExportError(f"no variant {' '.join(sorted(unknown)) or 'of these'}; choose from {KNOWN}")
        need("quantization", "quantize", "onnxruntime")
        from edgebone_export.quantization.quantizer import quantize

        outcomes = quantize(
            bundle,
            calibrate,
            evaluate,
            variants=wanted,
            max_drop=max_drop,
            pictures=pictures,
            method=None if method == "auto" else method,
            head=head,
            images=images,
            progress=steps.begin,
            notice=notice,
        )
    if json:
        import msgspec

        say_json(msgspec.json.encode(outcomes))
    else:
        for outcome in outcomes:
            say(_line(outcome))
    if not any(outcome.kept for outcome in outcomes):
        from edgebone_export.errors import ExportError

        raise ExportError(f"{bundle}: no variant was added; the bundle is as it was")


def _line(outcome: Outcome) -> str:
    accuracy = outcome.accuracy
    parts = [f"{outcome.name}: {outcome.reason}"]
    if accuracy is not None:
        figure = f"{accuracy.metric} {accuracy.value:.2f}"
        if accuracy.metric != "agreement":
            figure += f" ({accuracy.fp32:.2f} in FP32), agreement {accuracy.agreement:.2f} %"
        parts.append(f"{figure} on {accuracy.pictures} pictures")
    if outcome.speedup is not None:
        parts.append(f"{outcome.speedup:.2f}x FP32's speed here")
    if outcome.size_bytes:
        parts.append(f"{outcome.size_bytes / 1e6:.1f} MB")
    return "; ".join(parts)
