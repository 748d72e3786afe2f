"""Replays a bundle's golden sample: does this machine compute what was proved at export?"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.boxes import REDUCED_IOU, REDUCED_SCORE, matched_share
from edgebone.core.bundle import Bundle
from edgebone.core.errors import BundleError, EdgeboneError, EngineError, SourceError
from edgebone.core.foreign import foreign
from edgebone.core.manifest import Head
from edgebone.core.npz import read_npz
from edgebone.core.tensors import Array
from edgebone.decode import make_decoders
from edgebone.engines.opening import open_engine, open_first
from edgebone.engines.protocol import AsyncEngine, KeepsCompiled
from edgebone.engines.select import Choice
from edgebone.engines.spec import Candidate
from edgebone.model.attached_heads import ApartHeads
from edgebone.preprocess import preprocess
from edgebone.sources.images import read_image

# BF16 keeps 8 bits of each number: its outputs point the same way, but are off by a few percent.
_REDUCED_COSINE = 0.99
# Of boxes and class maps, what must be the same at full precision, and with fewer bits.
_MATCHED, _REDUCED_MATCHED = 0.99, 0.9
_EQUAL, _REDUCED_EQUAL = 0.999, 0.97
# Bytes of weights times pixels of the input: ResNet-50 at 224 × 224 has 5e12, YOLO11n at 640 × 640 4e12.
_LONG_RUN = 2e13
_log = logging.getLogger("edgebone.selftest")


@dataclass(frozen=True)
class GoldenSample:
    """The recording: a picture (BGR), its network input, and the original network's outputs by name."""

    image_bgr: NDArray[np.uint8]
    network_input: NDArray[np.uint8]
    outputs: dict[str, Array]


def head_key(head: str, output: str) -> str:
    """The name in a recording of what a head that is apart gives."""
    return f"head/{head}/{output}"


@dataclass(frozen=True)
class Replay:
    """How far one engine is off.

    Attributes:
        engine: The engine's name.
        precision: The precision that it says it used.
        passed: Whether it is within the bundle's tolerance.
        max_rel: Largest difference, relative to the output's largest value.
        cosine: Smallest cosine similarity of an output.
        matched: Smallest share of an output's boxes, or of its pixels' classes, that are the recorded ones; None
            where there are no such outputs. The other figures are of the other outputs.
        detail: What went wrong, empty otherwise.
    """

    engine: str
    precision: str
    passed: bool
    max_rel: float
    cosine: float
    detail: str = ""
    matched: float | None = None


def read_golden(bundle: Bundle) -> GoldenSample:
    """Read the recording.

    Raises:
        BundleError: It is not readable, or lacks an output.
    """
    golden = bundle.manifest.golden
    image = _read_png(bundle, golden.image)
    tensors = _read_tensors(bundle, golden.tensors)
    names = {spec.name for spec in bundle.manifest.outputs}
    if not ({"input"} | names) <= tensors.keys():
        raise BundleError(f"{bundle.path}: the golden sample is incomplete; export the bundle again")
    shape = (1, *bundle.manifest.preprocess.size_hw, 3)
    if tensors["input"].shape != shape or tensors["input"].dtype != np.uint8:
        raise BundleError(f"{bundle.path}: the golden input is not uint8 of shape {list(shape)}")
    return GoldenSample(image, tensors["input"], {name: tensors[name] for name in sorted(names)})


def _read_png(bundle: Bundle, name: str) -> NDArray[np.uint8]:
    try:
        # Not by OpenCV, which takes as much memory as a damaged PNG says that its next piece is long.
        return read_image(f"{bundle.path}: {name}", bundle.read(name))
    except SourceError as error:
        raise BundleError(f"{error}; copy or export the bundle again") from error


def _read_tensors(bundle: Bundle, name: str) -> dict[str, Array]:
    content = bundle.read(name)
    with foreign(lambda reason: BundleError(f"{bundle.path}: {name} is not readable: {reason}")):
        arrays = read_npz(content, limits.GOLDEN_BYTES)
    for key, array in arrays.items():
        if array.dtype.kind not in "biuf" or not array.size:
            raise BundleError(
                f"{bundle.path}: {key} in {name} holds no numbers, but {array.dtype} of shape {list(array.shape)}; "
                "export the bundle again"
            )
    return arrays


def read_recorded(bundle: Bundle, variant: str) -> dict[str, Array]:
    """What a variant answered where it was proved: its own answer, if it has fewer bits than the original.

    Returns:
        Every output by name, and those of heads that are apart by their :func:`head_key`.

    Raises:
        BundleError: It is not readable, or lacks an output.
    """
    manifest = bundle.manifest
    name = manifest.variants[variant].golden or manifest.golden.tensors
    recorded = _read_tensors(bundle, name)
    recorded.pop("input", None)
    wanted = {spec.name for spec in manifest.outputs}
    wanted |= {head_key(key, output) for key, head in manifest.heads.items() if head.apart for output in head.outputs}
    if not wanted <= recorded.keys():
        raise BundleError(f"{bundle.path}: {name} has outputs {sorted(recorded)}, should have {sorted(wanted)}")
    return {key: recorded[key] for key in sorted(wanted)}


def preprocess_off_by(bundle: Bundle, sample: GoldenSample) -> int:
    """How far this machine's preprocessing is from the recorded input, in steps of 255; 0 is the same."""
    out = np.zeros_like(sample.network_input[0])
    preprocess(bundle.manifest.preprocess, sample.image_bgr, out)
    return int(np.abs(out.astype(np.int16) - sample.network_input[0].astype(np.int16)).max())


def replay(bundle: Bundle, sample: GoldenSample, candidate: Candidate) -> Replay:
    """Run the recorded input on one engine and compare its outputs with the recorded ones."""
    try:
        # What an output is compared as depends on its head, which is checked here.
        make_decoders(bundle.manifest)
        with open_engine(bundle, candidate) as engine:
            precision = engine.precision
            outputs = _run(bundle, sample, candidate, engine)
        with ApartHeads(bundle, candidate, {}) as heads:
            for name, ran in heads.run(outputs).items():
                outputs.update({head_key(name, output): array for output, array in ran.outputs.items()})
    except EdgeboneError as error:
        return Replay(candidate.engine, candidate.precision, False, float("inf"), 0.0, str(error))
    return _compare(bundle, candidate, precision, outputs, read_recorded(bundle, candidate.variant))


def _run(bundle: Bundle, sample: GoldenSample, candidate: Candidate, engine: AsyncEngine) -> dict[str, Array]:
    low = candidate.batch or bundle.manifest.variants[candidate.variant].batch[0]
    return dict(engine.run({bundle.manifest.input.name: np.repeat(sample.network_input, low, axis=0)}))


def _compare(
    bundle: Bundle, candidate: Candidate, precision: str, outputs: Mapping[str, Array], recorded: Mapping[str, Array]
) -> Replay:
    """Compare outputs with the recorded ones of the same names."""
    pairs = [(outputs[name][:1], wanted) for name, wanted in recorded.items()]
    shapes = [
        f"{list(have.shape)} instead of {list(wanted.shape)}" for have, wanted in pairs if have.shape != wanted.shape
    ]
    if shapes:
        return Replay(candidate.engine, precision, False, float("inf"), 0.0, f"shape {', '.join(shapes)}")
    full = precision == "fp32"
    boxes = {
        head_key(key, head.outputs[0]) if head.apart else head.outputs[0]: least_box_score(head)
        for key, head in bundle.manifest.heads.items()
    }
    figures = [compare_output(outputs[name][:1], wanted, boxes.get(name), full) for name, wanted in recorded.items()]
    max_rel = max((item.max_rel for item in figures if item.max_rel is not None), default=0.0)
    cosine = min((item.cosine for item in figures if item.cosine is not None), default=1.0)
    detail = next((item.detail for item in figures if item.detail), "")
    if full and not detail and max_rel > bundle.manifest.golden.max_rel:
        detail = f"tolerance is {bundle.manifest.golden.max_rel:g}"
    if not full and not detail and cosine < _REDUCED_COSINE:
        detail = f"cosine must be {_REDUCED_COSINE} or more"
    matched = min((item.matched for item in figures if item.matched is not None), default=None)
    return Replay(candidate.engine, precision, not detail, max_rel, cosine, detail, matched)


def compiled_anew_if_wrong(bundle: Bundle, engine: AsyncEngine, candidate: Candidate) -> AsyncEngine:
    """Replay the golden sample on an engine out of the cache, and have one that answers otherwise compiled anew.

    It takes one run, which is left out where that is long: of a network with many weights and a large input.

    Args:
        bundle: The bundle.
        engine: An engine that was just opened; closed where another takes its place.
        candidate: What it was opened as.

    Raises:
        EngineError: The engine cannot be compiled.
    """
    if not isinstance(engine, KeepsCompiled) or engine.cached is None or not engine.from_cache:
        return engine
    height, width = bundle.manifest.preprocess.size_hw
    size = bundle.manifest.files[bundle.manifest.variants[candidate.variant].file].size
    if size * height * width > _LONG_RUN:
        return engine
    found = _replay_open(bundle, engine, candidate)
    if found is None or found.passed:
        return engine
    _log.warning("%s: compiled out of the cache, the network fails its golden sample (%s)", bundle.path, found.detail)
    engine.close()
    engine.cached.drop()
    return open_engine(bundle, candidate)


def open_proved(bundle: Bundle, choice: Choice, asked: bool) -> tuple[AsyncEngine, Candidate, list[str]]:
    """Open the best engine that fits; one with fewer bits than were asked for must give the golden sample first.

    Args:
        bundle: The bundle.
        choice: What fits, best first.
        asked: Whether the user named the precision.

    Returns:
        The engine, its candidate, and a line for each one that failed before it.

    Raises:
        BundleError: The bundle's own file is at fault, whatever the engine.
        NoEngineError: None opened; the message has a line per candidate.
    """
    engine, candidate, failures = open_first(bundle, choice)
    if asked or candidate.precision not in bundle.manifest.variants[candidate.variant].reduced:
        return compiled_anew_if_wrong(bundle, engine, candidate), candidate, failures
    found = _replay_open(bundle, engine, candidate)
    if found is not None and not found.passed:
        # Perhaps only as it came out of the cache.
        engine = compiled_anew_if_wrong(bundle, engine, candidate)
        found = _replay_open(bundle, engine, candidate)
    if found is not None and found.passed:
        return engine, candidate, failures
    engine.close()
    why = "there is no golden sample" if found is None else f"fails the golden sample: {found.detail}"
    failed = [*failures, f"{candidate}: {why}"]
    others = tuple(fit for fit in choice.fits if fit.candidate.precision != candidate.precision)
    engine, candidate, failures = open_first(bundle, Choice(others, choice.rejects))
    return compiled_anew_if_wrong(bundle, engine, candidate), candidate, [*failed, *failures]


def _replay_open(bundle: Bundle, engine: AsyncEngine, candidate: Candidate) -> Replay | None:
    """The golden sample on an open engine, but for heads that are apart; None where there is none."""
    try:
        recorded = read_recorded(bundle, candidate.variant)
        own = {name: array for name, array in recorded.items() if not name.startswith("head/")}
        outputs = _run(bundle, read_golden(bundle), candidate, engine)
        return _compare(bundle, candidate, engine.precision, outputs, own)
    except EngineError as error:
        return Replay(engine.name, engine.precision, False, float("inf"), 0.0, str(error))
    except BundleError:
        # Which `edgebone doctor` says.
        return None


def least_box_score(head: Head) -> float | None:
    """The least score of a box that a head shows, 0 to 1; None where its output holds no boxes."""
    return float(head.params["score"]) if head.decoder.startswith("boxes@") else None


@dataclass(frozen=True)
class Figures:
    """One output against the recorded one; what does not apply is None, and ``detail`` says what is wrong."""

    max_rel: float | None = None
    cosine: float | None = None
    matched: float | None = None
    detail: str = ""


def compare_output(have: Array, wanted: Array, box_score: float | None, full: bool) -> Figures:
    """Compare an output; ``full`` is for FP32, ``box_score`` the least score of a box that is shown, of boxes."""
    if not np.isfinite(have).all():
        return Figures(float("inf"), 0.0, 0.0, "NaN or infinity in the outputs")
    if box_score is not None:
        return _compare_boxes(have[0], wanted[0], box_score, full)
    if wanted.dtype.kind in "ui":
        equal = float((have == wanted).mean())
        least = _EQUAL if full else _REDUCED_EQUAL
        detail = "" if equal >= least else f"{100 * least:g} % of the pixels must have the recorded class"
        return Figures(matched=equal, detail=detail)
    return Figures(_relative(have, wanted), _cosine(have, wanted))


def _compare_boxes(have: Array, wanted: Array, least_score: float, full: bool) -> Figures:
    """Rows are sorted by score, which rounding reorders: boxes are looked for, not lined up."""
    # A picture in which nothing is found is still compared by what comes nearest to it.
    seen = min(least_score, float(wanted[:, 4].max(initial=0.0)) / 2)
    if full:
        matched = matched_share(have, wanted, min_score=seen, full=True)
    else:
        matched = matched_share(have, wanted, min_score=seen, full=False, iou=REDUCED_IOU, score_within=REDUCED_SCORE)
    least = _MATCHED if full else _REDUCED_MATCHED
    detail = "" if matched >= least else f"{100 * least:g} % of the boxes must be the recorded ones"
    return Figures(matched=matched, detail=detail)


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
