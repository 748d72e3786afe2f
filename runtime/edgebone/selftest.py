"""Replays a bundle's golden sample: does this machine compute what was proved at export?"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core.bundle import Bundle
from edgebone.core.errors import BundleError, EdgeboneError
from edgebone.core.tensors import Array
from edgebone.engines.select import Candidate, open_engine
from edgebone.preprocess import preprocess

# BF16 keeps 8 bits of each number: its outputs point the same way, but are off by a few percent.
_REDUCED_COSINE = 0.99


@dataclass(frozen=True)
class GoldenSample:
    """The recording: a picture (BGR), its network input, and the original network's outputs by name."""

    image_bgr: NDArray[np.uint8]
    network_input: NDArray[np.uint8]
    outputs: dict[str, Array]


@dataclass(frozen=True)
class Replay:
    """How far one engine is off.

    Attributes:
        engine: The engine's name.
        precision: The precision that it says it used.
        passed: Whether it is within the bundle's tolerance.
        max_rel: Largest difference, relative to the output's largest value.
        cosine: Smallest cosine similarity of an output.
        detail: What went wrong, empty otherwise.
    """

    engine: str
    precision: str
    passed: bool
    max_rel: float
    cosine: float
    detail: str = ""


def read_golden(bundle: Bundle) -> GoldenSample:
    """Read the recording.

    Raises:
        BundleError: It is not readable, or lacks an output.
    """
    golden = bundle.manifest.golden
    encoded = np.frombuffer(bundle.read(golden.image), np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    try:
        with np.load(io.BytesIO(bundle.read(golden.tensors)), allow_pickle=False) as arrays:
            tensors = dict(arrays)
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{bundle.path}: {golden.tensors} is not readable: {error}") from error
    names = {spec.name for spec in bundle.manifest.outputs}
    if image is None or not ({"input"} | names) <= tensors.keys():
        raise BundleError(f"{bundle.path}: the golden sample is incomplete; export the bundle again")
    shape = (1, *bundle.manifest.preprocess.size_hw, 3)
    if tensors["input"].shape != shape or tensors["input"].dtype != np.uint8:
        raise BundleError(f"{bundle.path}: the golden input is not uint8 of shape {list(shape)}")
    return GoldenSample(np.asarray(image, np.uint8), tensors["input"], {name: tensors[name] for name in sorted(names)})


def preprocess_off_by(bundle: Bundle, sample: GoldenSample) -> int:
    """How far this machine's preprocessing is from the recorded input, in steps of 255; 0 is the same."""
    out = np.zeros_like(sample.network_input[0])
    preprocess(bundle.manifest.preprocess, sample.image_bgr, out)
    return int(np.abs(out.astype(np.int16) - sample.network_input[0].astype(np.int16)).max())


def replay(bundle: Bundle, sample: GoldenSample, candidate: Candidate) -> Replay:
    """Run the recorded input on one engine and compare its outputs with the recorded ones."""
    try:
        with open_engine(bundle, candidate) as engine:
            precision = engine.precision
            low = bundle.manifest.variants[candidate.variant].batch[0]
            feeds = {bundle.manifest.input.name: np.repeat(sample.network_input, low, axis=0)}
            outputs = engine.run(feeds)
    except EdgeboneError as error:
        return Replay(candidate.engine, candidate.precision, False, float("inf"), 0.0, str(error))
    pairs = [(outputs[name][:1], wanted) for name, wanted in sample.outputs.items()]
    shapes = [
        f"{list(have.shape)} instead of {list(wanted.shape)}" for have, wanted in pairs if have.shape != wanted.shape
    ]
    if shapes:
        return Replay(candidate.engine, precision, False, float("inf"), 0.0, f"shape {', '.join(shapes)}")
    max_rel = max(_relative(have, wanted) for have, wanted in pairs)
    cosine = min(_cosine(have, wanted) for have, wanted in pairs)
    if precision == "fp32":
        passed = max_rel <= bundle.manifest.golden.max_rel
        detail = "" if passed else f"tolerance is {bundle.manifest.golden.max_rel:g}"
    else:
        passed = cosine >= _REDUCED_COSINE
        detail = "" if passed else f"cosine must be {_REDUCED_COSINE} or more"
    return Replay(candidate.engine, precision, passed, max_rel, cosine, detail)


def _relative(have: Array, wanted: Array) -> float:
    difference = np.abs(have.astype(np.float64) - wanted).max()
    if not np.isfinite(difference):
        return float("inf")
    relative = float(difference / max(float(np.abs(wanted).max()), 1e-12))
    return relative if np.isfinite(relative) else float("inf")


def _cosine(have: Array, wanted: Array) -> float:
    a, b = have.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b / length) if length and np.isfinite(length) else 0.0
