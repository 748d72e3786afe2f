"""Options that several subcommands share, written once."""

from __future__ import annotations

from typing import Annotated

import typer

Bundle = Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle: its directory or zip.")]
Engine = Annotated[
    str, typer.Option("--engine", help="auto, onnxruntime, openvino or onnxruntime-cuda.", show_default=True)
]
Precision = Annotated[
    str,
    typer.Option("--precision", help="fp32; bf16 where engine and processor have it; auto leaves it to the engine."),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads for inference; all cores if not given.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
