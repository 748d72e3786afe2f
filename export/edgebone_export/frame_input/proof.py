"""Verify that a frame graph feeds the network what the host's preprocessing would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.compare import SAME_INPUT
from edgebone.core.errors import EngineError
from edgebone.core.manifest import FrameLayout, Manifest, Parity, Preprocess, Variant
from edgebone.engines.batches import run_all
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.engines.protocol import Outputs
from edgebone.preprocess import preprocess
from edgebone_export.errors import ParityError
from edgebone_export.pictures import sample_pictures, synthesize
from edgebone_export.proof.parity import measure_parity

# Rounding alone is off by one step; NV12 colours that are one step off are rounded a second time.
MOST_STEPS: dict[FrameLayout, int] = {"bgr": 1, "nv12": 2}
_SAMPLES = 3

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class InputProof:
    """The network's input, computed from frames by the host and by the graph.

    Attributes:
        host: From the host, uint8 (n, height, width, 3).
        graph: From the graph, uint8 (n, height, width, 3).
    """

    host: NDArray[np.uint8]
    graph: NDArray[np.uint8]

    @property
    def steps(self) -> NDArray[np.int16]:
        """Absolute difference of the two, in steps of 255."""
        return np.asarray(np.abs(self.host.astype(np.int16) - self.graph), np.int16)


def proof_frames(
    size_hw: tuple[int, int], layout: FrameLayout, samples: Path | None, golden: NDArray[np.uint8]
) -> list[Frame]:
    """Return frames to verify on: pictures, and noise, in which any value may be next to any other.

    Args:
        size_hw: Their height and width, in pixels.
        layout: ``bgr`` or ``nv12``.
        samples: Folder of the user's pictures; None for synthetic ones.
        golden: The bundle's recorded picture, BGR.

    Raises:
        SourceError: The folder has no pictures, or one cannot be read.
    """
    rng = np.random.default_rng(0)
    pictures = [golden, *sample_pictures(samples)[0][:_SAMPLES]] if samples else [golden, synthesize(size_hw, rng)]
    frames = [np.asarray(cv2.resize(one, size_hw[::-1], interpolation=cv2.INTER_AREA), np.uint8) for one in pictures]
    if layout == "nv12":
        frames = [nv12_of(frame) for frame in frames]
    return [*frames, rng.integers(0, 256, frames[0].shape, np.uint8)]


def nv12_of(image_bgr: NDArray[np.uint8]) -> Frame:
    """Convert BGR to NV12 with OpenCV's BT.601: uint8 (height * 3 / 2, width)."""
    height, width = image_bgr.shape[:2]
    planar = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2YUV_I420)
    chroma = planar[height:].reshape(2, -1).T.reshape(height // 2, width)
    return np.concatenate([planar[:height], chroma], dtype=np.uint8)


def bgr_of(frame: Frame, layout: FrameLayout) -> NDArray[np.uint8]:
    """Return the picture that the host would preprocess."""
    return frame if layout == "bgr" else np.asarray(cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12), np.uint8)


def prove_input(graph: bytes, spec: Preprocess, layout: FrameLayout, frames: Sequence[Frame], where: str) -> InputProof:
    """Compare the graph's preprocessing with the host's.

    Args:
        graph: The preprocessing graph, as an ONNX file.
        spec: The bundle's preprocessing.
        layout: ``bgr`` or ``nv12``.
        frames: Frames of the graph's size.
        where: Name of the frame variant, for the message.

    Raises:
        ParityError: They differ by more than ``MOST_STEPS``.
    """
    with OnnxRuntimeEngine(graph) as engine:
        made = [engine.run({"frame": frame[None]})["network_input"] for frame in frames]
    host = np.zeros((len(frames), *spec.size_hw, 3), np.uint8)
    for frame, out in zip(frames, host, strict=True):
        preprocess(spec, bgr_of(frame, layout), out)
    proof = InputProof(host, np.concatenate(made))
    most = int(proof.steps.max())
    if most > MOST_STEPS[layout]:
        raise ParityError(
            f"{where}: its preprocessing differs from the host's by up to {most} steps of 255 (at most "
            f"{MOST_STEPS[layout]} allowed); the variant was not added, and the host's preprocessing still works"
        )
    return proof


def prove_outputs(
    content: bytes, variant: bytes, manifest: Manifest, base: Variant, frames: Sequence[Frame], inputs: InputProof,
    where: str,
) -> Parity | None:  # fmt: skip
    """Compare the whole graph's outputs with its variant's.

    Args:
        content: The frame variant's ONNX file.
        variant: The ONNX file of the base variant.
        manifest: The bundle's manifest.
        base: The base variant's record.
        frames: Frames.
        inputs: The network's inputs for these frames.
        where: Name of the frame variant, for the message.

    Returns:
        The outputs compared with the variant's behind the host's preprocessing; None if onnxruntime cannot run it.

    Raises:
        ParityError: On the same input, the network's outputs differ from the variant's.
    """
    as_written = bool(base.engines) and "onnxruntime" not in base.engines
    try:
        with OnnxRuntimeEngine(variant, precision=base.precision, as_written=as_written) as engine:
            behind_host = _run(engine, inputs.host, base.batch[0])
            behind_graph = _run(engine, inputs.graph, base.batch[0])
    except EngineError:
        return None
    with OnnxRuntimeEngine(content, precision=base.precision, as_written=as_written) as engine:
        have = _run(engine, np.stack(frames), base.batch[0])
    same = measure_parity(have, behind_graph, manifest.graph_heads)
    if same.cosine < SAME_INPUT.cosine or (same.matched is not None and same.matched < SAME_INPUT.matched):
        share = "" if same.matched is None else f", {100 * same.matched:.1f} % of boxes or pixels identical"
        raise ParityError(
            f"{where}: on the same input its network's outputs differ from the variant's: cosine {same.cosine:.6f} "
            f"(at least {SAME_INPUT.cosine} expected){share}; it was not added"
        )
    off = measure_parity(have, behind_host, manifest.graph_heads)
    return msgspec.structs.replace(off, reference="the same network behind the host's preprocessing")


def _run(engine: OnnxRuntimeEngine, inputs: NDArray[np.uint8], batch: int) -> list[Outputs]:
    return [run_all(engine, one[None], batch) for one in inputs]
