"""``edgebone export``: from a pre-trained network to a proved bundle."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgebone.core.manifest import Preprocess
    from edgebone_export.exporter import ExportReport


def export(
    model: Annotated[str, typer.Argument(help="A name from `edgebone models`, or package.module:callable.")],
    output: Annotated[Path, typer.Option("-o", "--out", help="The bundle; NAME.zip gives a single file.")],
    weights: Annotated[
        str, typer.Option(help="default, a publisher's name such as IMAGENET1K_V1, a file, or random.")
    ] = "default",
    weights_dir: Annotated[Path | None, typer.Option(help="A folder with publishers' weights files.")] = None,
    size: Annotated[str | None, typer.Option(help="Another input size, HEIGHTxWIDTH.")] = None,
    batch: Annotated[str, typer.Option(help="1, or 1-8 for a dynamic batch.")] = "1",
    output_kind: Annotated[str, typer.Option("--output", help="logits, embedding or features.")] = "logits",
    labels: Annotated[Path | None, typer.Option(help="Class names, one a line, UTF-8.")] = None,
    preprocess: Annotated[Path | None, typer.Option(help="JSON with the preprocessing, for your own network.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Pictures to verify on.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Export a pre-trained network to a bundle, checking every step against PyTorch."""
    size_hw, batch_range = _size(size), _batch(batch)
    with _Steps() as steps:
        steps.begin("loading PyTorch")
        from edgebone_export.need_torch import need_torch

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
            labels=_read_labels(labels),
            preprocess=_read_preprocess(preprocess),
            samples=samples,
            overwrite=force,
            progress=steps.begin,
        )
    _show(report)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise typer.BadParameter(f"a size is HEIGHTxWIDTH, such as 224x224, not {text!r}")
    return int(height), int(width)


def _batch(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    high = high or low
    if not (low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high)):
        raise typer.BadParameter(f"a batch is a number or a range, such as 1 or 1-8, not {text!r}")
    return int(low), int(high)


def _read_labels(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    from edgebone_export.errors import ExportError

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: labels cannot be read ({error})") from error
    return [line.strip() for line in lines if line.strip()]


def _read_preprocess(path: Path | None) -> Preprocess | None:
    if path is None:
        return None
    import msgspec

    from edgebone.core.manifest import Preprocess
    from edgebone_export.errors import ExportError

    try:
        return msgspec.json.decode(path.read_bytes(), type=Preprocess)
    except (OSError, msgspec.MsgspecError) as error:
        raise ExportError(f"{path}: preprocessing cannot be read ({error})") from error


def _show(report: ExportReport) -> None:
    weights, parity, pre = report.manifest.model.weights, report.parity, report.preprocess_parity
    agreement = parity.top1_agreement
    lines = [
        f"{report.path}: {report.manifest.name}, {report.size_bytes / 1e6:.1f} MB, {report.seconds:.1f} s",
        f"weights: {weights.name}, {weights.origin}; {weights.verified}",
        f"against PyTorch on {parity.pictures} pictures: max difference {parity.max_abs:.2g}, "
        f"cosine {parity.cosine:.7f}" + ("" if agreement is None else f", top-1 agreement {100 * agreement:.0f} %"),
    ]
    if pre is not None:
        lines.append(
            f"preprocessing against the library's: off by at most {pre.max_steps:.2f} of 255, "
            f"{pre.mean_steps:.4f} on average"
        )
    lines.append(f"next: edgebone run {report.path} PICTURE")
    sys.stdout.write("\n".join(lines) + "\n")


class _Steps:
    """Shows the step under way: a spinner on a terminal, a line a step elsewhere, both on stderr."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("")
        self._started_s = time.monotonic()

    def begin(self, step: str) -> None:
        """Name the step that begins."""
        elapsed_s = time.monotonic() - self._started_s
        if self._console.is_terminal:
            self._status.update(f"{step} ({elapsed_s:.0f} s)")
        else:
            sys.stderr.write(f"{elapsed_s:5.1f} s  {step}\n")

    def __enter__(self) -> _Steps:
        """Start the spinner."""
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the spinner."""
        if self._console.is_terminal:
            self._status.stop()
