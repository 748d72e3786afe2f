"""Does what was exported compile for TensorRT with fewer bits?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tensorrt_rtx_build import build

from edgebone.core.bundle import open_bundle
from edgebone.preprocess import preprocess
from edgebone_export.pictures import synthesize
from edgebone_export.quantization.calibration import Calibration
from edgebone_export.quantization.recipes import Source, make_recipe


def check_lowered_builds(bundle: Path, folder: Path) -> None:
    """Lower a bundle's network to INT8 and FP16, and compile both with TensorRT-RTX."""
    with open_bundle(bundle) as opened:
        variant, spec = opened.manifest.variants["fp32"], opened.manifest.preprocess
        content = opened.read(variant.file)
    inputs = np.zeros((1, *spec.size_hw, 3), np.uint8)
    preprocess(spec, synthesize((480, 640), np.random.default_rng(0)), inputs[0])
    source = Source(content, str(bundle), Calibration("made", inputs), variant.batch, "minmax", lambda _: None)
    for precision in ("int8", "fp16"):
        path = folder / f"{precision}.onnx"
        path.write_bytes(make_recipe(source, precision, "tensorrt").make(()))
        assert build(str(path)).size_bytes
