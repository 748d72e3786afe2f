"""The table of commands, from which the program's help is printed without importing a command."""

from __future__ import annotations

from typing import NamedTuple

GROUP = "edgebone.commands"
"""The entry points of other packages' commands."""


class Row(NamedTuple):
    """A command.

    Attributes:
        name: The command as typed.
        help: The first line of its docstring.
        home: The place of its function, or of its ``typer.Typer`` with verbs, as ``module:name``.
    """

    name: str
    help: str
    home: str


# In the order of a typical workflow.
PANELS: dict[str, tuple[Row, ...]] = {
    "Prepare": (
        Row(
            "models",
            "List torchvision's and, where installed, timm's models and transformers' families (hf:).",
            "edgebone_export.cli.models:models",
        ),
        Row(
            "export",
            "Export a pre-trained network to a bundle, checking every step against PyTorch.",
            "edgebone_export.cli.export:export",
        ),
        Row(
            "import",
            "Wrap an ONNX file of any origin into a bundle, checking every step against the file itself.",
            "edgebone_export.cli.import_onnx:import_onnx",
        ),
        Row(
            "add-frame",
            "Add variants that take frames of a size as they are, and preprocess them on the accelerator.",
            "edgebone_export.cli.add_frame:add_frame",
        ),
        Row(
            "inspect",
            "Show a bundle's content and proofs; checks every file's hash.",
            "edgebone.cli.inspect:inspect_command",
        ),
    ),
    "Run": (
        Row(
            "run",
            "Run a bundle on pictures, videos and cameras, and print the results.",
            "edgebone.cli.run:run_command",
        ),
        Row(
            "gallery",
            "Recognise pictures by the most similar enrolled ones: enrol, search, remove, list, calibrate.",
            "edgebone.cli.gallery:gallery_command",
        ),
        Row(
            "shelf",
            "Watch a shelf: count the products of each zone, and report low, restocked and misplaced products.",
            "edgebone.cli.shelf:shelf_command",
        ),
    ),
    "Measure": (
        Row(
            "doctor",
            "Show this machine's engines; with a bundle, replay its golden sample on each engine that fits.",
            "edgebone.cli.doctor:doctor_command",
        ),
        Row(
            "bench",
            "Measure every engine and precision that fits, each in its own process, after a warm-up.",
            "edgebone.cli.bench:bench_command",
        ),
        Row(
            "eval",
            "Compute top-1 and top-5, COCO's mAP or mIoU on labelled pictures, through the path that serves frames.",
            "edgebone.cli.eval:eval_command",
        ),
        Row(
            "tune",
            "Measure every engine, variant, precision, hint, number of threads and batch that fits this machine.",
            "edgebone.cli.tune:tune_command",
        ),
    ),
    "Teach": (
        Row(
            "label",
            "Write a folder of pictures labelled by a bundle, for `edgebone fit` and `edgebone eval`.",
            "edgebone.cli.label:label_command",
        ),
        Row(
            "compare",
            "Fit the same head on several backbones, and measure what each is worth and what it costs here.",
            "edgebone_export.cli.compare:compare",
        ),
        Row(
            "fit",
            "Fit a head on your pictures in seconds; the backbone stays as it is, and its features are computed once.",
            "edgebone_export.cli.fit:fit",
        ),
        Row(
            "attach",
            "Make one bundle of a backbone and several heads, each proved against the head alone.",
            "edgebone_export.cli.attach:attach",
        ),
        Row("detach", "Take heads off a bundle.", "edgebone_export.cli.attach:detach"),
    ),
    "Ship": (
        Row(
            "quantize",
            "Add variants with fewer bits, each only when it holds the accuracy budget and is faster on its engine.",
            "edgebone_export.cli.quantize:quantize_command",
        ),
        Row("compile", "Compile a bundle's variants ahead of time.", "edgebone.cli.compile:compile_command"),
        Row(
            "export-triton",
            "Write a bundle into an NVIDIA Triton model repository: config.pbtxt, versions, labels and a warm-up.",
            "edgebone.cli.export_triton:export_triton_command",
        ),
    ),
}
