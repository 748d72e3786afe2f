"""``edgebone add-frame``: a bundle learns to take the camera's own frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebone.cli import options
from edgebone.cli.output import say, say_json
from edgebone_export.cli.options import Frames, Nv12, check_frames, note_sizes
from edgebone_export.cli.steps import Steps

if TYPE_CHECKING:
    from edgebone.core.manifest import FrameVariant


def add_frame(
    bundle: options.Bundle,
    frame: Frames = None,
    nv12: Nv12 = False,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Whose network to use; repeat for several; fp32 if not given.")
    ] = None,
    samples: Annotated[Path | None, typer.Option(help="Pictures to verify on.")] = None,
    json: options.Json = False,
) -> None:
    """Add variants that take frames of a size as they are, and preprocess them on the accelerator.

    Each is held against the host's preprocessing before it is added.
    """
    sizes = check_frames(frame, nv12)
    if not sizes:
        raise typer.BadParameter("say how large the frames are: --frame 1920x1080")
    from edgebone_export.given import check_bundle, check_there

    check_bundle(bundle)
    check_there(samples)
    if not json:
        note_sizes(None, sizes)
    with Steps() as steps:
        added = add_frames(bundle, sizes, nv12, steps, variant or ["fp32"], samples)
    if json:
        import msgspec

        say_json(msgspec.json.encode(added))
    else:
        show_frames(added)


def add_frames(
    bundle: str | Path,
    sizes_hw: Sequence[tuple[int, int]],
    nv12: bool,
    steps: Steps,
    variants: list[str],
    samples: Path | None,
) -> dict[str, FrameVariant]:
    """Add frame variants, if sizes are given; gives what was added, by name."""
    if not sizes_hw:
        return {}
    steps.begin("loading ONNX")
    from edgebone_export.need_packages import need

    need("a frame variant", "quantize", "onnx", "onnx_ir", "onnxruntime")
    from edgebone_export.frame_input.add import add_frame_variants

    return add_frame_variants(
        bundle,
        sizes_hw,
        "nv12" if nv12 else "bgr",
        variants=variants,
        samples=samples,
        progress=steps.begin,
    )


def show_frames(added: dict[str, FrameVariant]) -> None:
    """Print what was added and how it was proved."""
    for name, item in added.items():
        outputs = ""
        if item.parity is not None:
            matched = item.parity.matched
            outputs = f"; outputs differ by at most {item.parity.max_abs:.2g}, cosine {item.parity.cosine:.7f}"
            outputs += "" if matched is None else f", {100 * matched:.2f} % of boxes or pixels the same"
        say(
            f"{name}: {options.Size(*item.size_hw)}, {item.layout}; input at most {item.input_steps} of 255 off "
            f"from the host's preprocessing on {item.frames} frames, {item.input_mean_steps:.2g} on average{outputs}"
        )
