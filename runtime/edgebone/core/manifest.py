"""The manifest: the single source of truth for a bundle's preprocessing, outputs, decoding, labels and files.

Schema 1 is strict: an unknown key, a missing key or a wrong type is rejected, since a runtime that ignores an unknown
setting would not run the network as it was proved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from edgebone.core import limits
from edgebone.core.bounded import (
    Batch,
    Count,
    Finite,
    Labels,
    Name,
    Names,
    NotNegative,
    Path,
    Share,
    Side,
    Size,
    Threads,
)
from edgebone.core.errors import BundleError, EngineError
from edgebone.core.foreign import foreign
from edgebone.core.near import did_you_mean
from edgebone.core.quiet import Disturbed
from edgebone.core.reading import in_words
from edgebone.core.tensors import TensorSpec, bytes_of

SCHEMA = 1

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "lanczos4", "area"]
_PILLOW_ONLY, _OPENCV_ONLY = ("lanczos", "box"), ("lanczos4", "area")
# No network takes pictures that far from 0 to 1; every known mean and deviation in units of 0 to 255 is larger.
_LARGEST_MEAN, _LARGEST_STD = 1.0, 4.0
FrameLayout = Literal["bgr", "nv12"]

Value = TypeVar("Value")
ByName = Annotated[dict[Name, Value], msgspec.Meta(max_length=limits.NAMES)]


class Preprocess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a picture becomes the network's input.

    Attributes:
        mode: ``crop`` resizes the shorter side to ``resize`` and cuts ``size_hw`` out of the centre;
            ``letterbox`` fits the whole picture into ``size_hw`` and pads; ``stretch`` ignores the aspect;
            ``height`` fits the height alone, as text recognisers do: the width follows the aspect, is padded if below
            the input's and squeezed if above.
        size_hw: Height and width of the network's input, in pixels.
        interpolation: The resampling filter; ``lanczos`` and ``box`` are Pillow's (antialias true), ``lanczos4`` and
            ``area`` OpenCV's (antialias false).
        antialias: True resamples as Pillow does, which is what torchvision and timm train with; False as OpenCV does,
            which is what the YOLO family trains with.
        color: Channel order of the network's input.
        mean: Subtracted from each channel, in units of 0 to 1: -1 to 1.
        std: Divisor of each channel, in units of 0 to 1: above 0, at most 4.
        resize: For ``crop``: the shorter side's length in pixels, or (height, width).
        pad_value: For ``letterbox`` and ``height``: the padding's value, 0 to 255; one for all channels, or one per
            channel in the order of ``color``. The input is uint8: a fraction is rounded, half to even.
        anchor: For ``letterbox`` and ``height``: where the picture lies in the padded input.
        rounding: For ``letterbox`` and ``height``: how the fitted picture's sides become whole pixels; YOLOX and
            torchvision's detectors round down, PaddleOCR up, the others to nearest. For ``crop``: how half of an odd
            margin does; transformers rounds down, torchvision and timm to nearest, half to even.
        pad: For ``letterbox``: whether the picture is padded ``after`` resizing, or ``before`` it, to the input's
            aspect, so that the filter mixes the picture's border with the padding.
    """

    mode: Literal["crop", "letterbox", "stretch", "height"]
    size_hw: tuple[Side, Side]
    interpolation: Interpolation
    antialias: bool
    color: Literal["rgb", "bgr"]
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Finite, Finite, Finite]
    # Bounded in __post_init__: msgspec 0.22 crashes on a bounded number beside a tuple of a fixed length.
    resize: int | tuple[int, int] | None = None
    pad_value: int | float | tuple[int | float, int | float, int | float] = 114
    anchor: Literal["center", "top_left"] = "center"
    rounding: Literal["nearest", "down", "up"] = "nearest"
    pad: Literal["after", "before"] = "after"

    def __post_init__(self) -> None:
        """Reject implausible values."""
        if min(self.size_hw) < 1:
            raise ValueError(f"size_hw must be positive, got {list(self.size_hw)}")
        if (self.mode == "crop") != (self.resize is not None):
            raise ValueError(f"resize is required for mode crop and allowed for no other; got mode {self.mode}")
        if self.resize is not None:
            sides = (self.resize,) if isinstance(self.resize, int) else self.resize
            if not all(1 <= side <= limits.NETWORK_SIDE for side in sides):
                raise ValueError(f"resize must be 1 to {limits.NETWORK_SIDE} pixels, got {self.resize}")
        if self.interpolation in (_OPENCV_ONLY if self.antialias else _PILLOW_ONLY):
            fits = "false" if self.antialias else "true"
            raise ValueError(f"interpolation {self.interpolation} needs antialias {fits}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {list(self.std)}")
        if not all(abs(value) <= _LARGEST_MEAN for value in self.mean) or max(self.std) > _LARGEST_STD:
            # The usual mistake: values as publishers print them, in units of 0 to 255.
            mean, std = ([float(f"{value / 255:.6g}") for value in values] for values in (self.mean, self.std))
            raise ValueError(
                f"mean and std are in units of 0 to 1, got mean {list(self.mean)}, std {list(self.std)}; "
                f"if they are in units of 0 to 255, write mean {mean}, std {std}"
            )
        if not all(0 <= value <= 255 for value in self._pad_values):
            raise ValueError(f"pad_value must be 0 to 255, got {self.pad_value}")
        if self.pad == "before" and self.mode != "letterbox":
            raise ValueError(f"pad before needs mode letterbox, got mode {self.mode}")

    @property
    def _pad_values(self) -> tuple[int | float, int | float, int | float]:
        return self.pad_value if isinstance(self.pad_value, tuple) else (self.pad_value,) * 3

    @property
    def padding(self) -> tuple[int, int, int]:
        """The bytes that pad the input, in the order of ``color``: black for ``crop``, as torchvision pads."""
        if self.mode == "crop":
            return (0, 0, 0)
        first, second, third = (round(value) for value in self._pad_values)
        return first, second, third


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network's weights and how they were verified.

    Attributes:
        name: The publisher's name (``IMAGENET1K_V1``), a file's name, or ``random``.
        origin: Where they came from, in words.
        sha256: The weights file's hash; empty for random weights.
        verified: What the hash was checked against, in words.
    """

    name: str
    origin: str
    sha256: str
    verified: str


class ModelInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The exported network.

    Attributes:
        name: The architecture's name in its library, or ``package.module:callable``.
        library: The library and its version, such as ``torchvision 0.29.1``.
        parameters: Number of trained parameters.
        weights: The weights' record.
    """

    name: Name
    library: str
    parameters: Count
    weights: Weights


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named group of outputs and how it is read.

    Attributes:
        decoder: The decoder's ``name@version``.
        outputs: The graph outputs that it reads, in the decoder's order; for a detached head, outputs of its own graph.
        labels: Class names by class id; empty where the head has no classes.
        params: The decoder's own settings, checked by the decoder at load.
        file: Path of the artefact of a head that was fitted and attached; empty for the network's own heads.
        detached: Whether the head runs in an engine of its own, on taps that the network outputs, so that it can have
            its own rate and be swapped; else its nodes are in the network's graph. Its key in JSON is ``apart``.
    """

    decoder: Name
    outputs: Names
    labels: Labels = ()
    params: dict[str, Any] = {}
    file: Path = ""
    detached: bool = msgspec.field(default=False, name="apart")

    def __post_init__(self) -> None:
        """Refuse a detached head without a file."""
        if self.detached and not self.file:
            raise ValueError("a detached head needs its file")


def listed(heads: Mapping[str, Head]) -> str:
    """Return heads and their decoders for messages: ``found: boxes@1, areas: segmentation@1``."""
    return ", ".join(f"{name}: {head.decoder}" for name, head in heads.items())


class Tap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place inside the frozen backbone that heads read.

    Attributes:
        value: The value's name in the graph.
        shape: Without the batch: (d,) for a vector, (channels, height, width) for maps.
        fingerprint: Hex SHA-256 of the graph up to it: operators, attributes and weights, but no names.
        stride: Network input pixels per cell; 0 for a vector.
        output: The float32 output from which detached heads read it; empty if there is none.
    """

    value: Name
    shape: Annotated[tuple[Size, ...], msgspec.Meta(min_length=1, max_length=limits.AXES)]
    fingerprint: Name
    stride: Annotated[int, msgspec.Meta(ge=0, le=limits.NETWORK_SIDE)] = 0
    output: Name = ""

    def __post_init__(self) -> None:
        """Refuse values that no memory holds."""
        if bytes_of(self.shape, "float32") > limits.TENSOR_BYTES:
            raise ValueError(f"a tap cannot have shape {list(self.shape)}")


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a variant's outputs are from the original network's, over all verification pictures.

    For boxes that the graph decodes, the scores in descending order are compared, and ``matched`` covers the rest; for
    class maps, the differences are shares of pixels.

    Attributes:
        max_abs: Largest absolute difference.
        max_rel: Largest absolute difference over the largest absolute reference value.
        cosine: Smallest cosine similarity of one picture's output.
        top1_agreement: Share of pictures with the same best class, 0 to 1; None where there are no classes.
        matched: Boxes: the share that the other side also has, of the same class, at an overlap (IoU) of 0.99 or more
            and with a score within 0.001, the smaller of both directions. Class maps: the smallest share of equal
            pixels of a picture. 0 to 1; None for other outputs.
        pictures: The number of pictures compared.
        reference: What the outputs were compared with.
    """

    max_abs: NotNegative
    max_rel: NotNegative
    cosine: Finite
    pictures: Count
    top1_agreement: NotNegative | None = None
    matched: NotNegative | None = None
    reference: str = "PyTorch"


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a network returns FP32's answer when an engine runs it at lower precision, on verification pictures.

    Answers are compared where FP32 itself is certain: the best class where it leads by more than 5 points, a label
    whose probability is more than 5 points from its threshold, boxes with a score of at least 0.5 (or half the
    picture's best), which must overlap (IoU) by at least 0.9, and the class of each pixel.

    Attributes:
        share: The share of answers that are the same.
        least: The share from which the precision is chosen automatically.
        answers: The number of answers compared; 0 proves nothing.
        pictures: The number of pictures they are from.
        by: The engine that computed them.
    """

    share: Share
    least: Share
    answers: Count
    pictures: Count
    by: Name

    @property
    def holds(self) -> bool:
        """Whether the precision may be chosen automatically."""
        return self.answers > 0 and self.share >= self.least

    def __str__(self) -> str:
        """``FP32's answer in 100.00 % of 8, on 8 pictures``."""
        return f"FP32's answer in {100 * self.share:.2f} % of {self.answers:,}, on {self.pictures} pictures"


class Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The accuracy cost of a lower precision, in points of 100 on an evaluation set.

    Attributes:
        metric: ``top-1``, ``AP``, ``mIoU``, or ``agreement`` with FP32 where there are no labels.
        value: The metric, 0 to 100.
        fp32: The FP32 variant's value, on the same pictures.
        agreement: How often the answers are FP32's own, 0 to 100: the same best class, the same boxes, the same
            class of a pixel, the same direction of an embedding.
        pictures: The number of pictures evaluated.
        data: Name of the evaluation set's file or folder.
        engine: The engine that it was measured on.
    """

    metric: Name
    value: Finite
    fp32: Finite
    agreement: Finite
    pictures: Count
    data: str
    engine: str

    @property
    def drop(self) -> float:
        """Points lost against FP32; below 0 if it is better."""
        return self.fp32 - self.value


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a variant of lower precision was made.

    Attributes:
        dialect: Whose form of quantization it is: ``onnxruntime``, ``openvino`` or ``tensorrt``; ``casts`` for
            a variant with half precision.
        method: How ranges were found: ``minmax``, ``entropy``, ``percentile``, ``mse``, or ``measured`` for casts.
        calibration: Name of the calibration set.
        calibration_pictures: The number of its pictures used.
        layers: The number of layers that could have been lowered.
        kept: Names of the layers left in FP32, for accuracy or for speed.
        speedup: Its speed relative to FP32 on the target engine, on the machine that made it; None if not measured.
    """

    dialect: str
    method: str
    calibration: str
    calibration_pictures: Count
    layers: Count
    kept: tuple[str, ...] = ()
    speedup: NotNegative | None = None


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ONNX file of the bundle.

    Attributes:
        file: Its path in the bundle.
        precision: The lowest precision that it computes in: ``fp32``, ``fp16``, ``bf16``, ``int8``, ``fp8``, ``int4``.
        batch: Smallest and largest batch.
        parity: Its difference to the original network.
        engines: The engines that it is for; empty for any.
        accuracy: The accuracy cost; None for FP32.
        quantization: How it was made; None for FP32.
        golden: Path of an NPZ with its own outputs for the golden input; empty for FP32, which uses the bundle's.
        reduced: Lower precisions in which an engine can run an FP32 graph, and how often the answers are FP32's.
    """

    file: Path
    precision: Name
    batch: tuple[Batch, Batch]
    parity: Parity
    engines: Names = ()
    accuracy: Accuracy | None = None
    quantization: Quantization | None = None
    golden: Path = ""
    reduced: ByName[Agreement] = {}

    def __post_init__(self) -> None:
        """Reject a batch that cannot be run."""
        if not 1 <= self.batch[0] <= self.batch[1]:
            raise ValueError(f"batch must be a smallest and a largest size from 1 up, got {list(self.batch)}")


class FrameVariant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variant's network behind a graph that takes the camera's own frames and preprocesses them.

    Attributes:
        file: Its path in the bundle.
        variant: The variant whose network it is, and whose batch, precision and engines it has.
        size_hw: Height and width of the frames, in pixels.
        layout: ``bgr`` for uint8 (n, height, width, 3); ``nv12`` for uint8 (n, height * 3 / 2, width): the luma, and
            below it U and V interleaved, at half the resolution.
        input_steps: Largest difference of the network's input from the host's preprocessing, in steps of 255.
        input_mean_steps: Mean difference, in steps of 255.
        frames: The number of frames compared.
        parity: Its outputs against the variant's behind the host's preprocessing; None if no engine at hand runs the
            variant.
    """

    file: Path
    variant: Name
    size_hw: tuple[Size, Size]
    layout: FrameLayout
    input_steps: Count
    input_mean_steps: NotNegative
    frames: Count
    parity: Parity | None = None

    def __post_init__(self) -> None:
        """Reject a size that no frame has."""
        height, width = self.size_hw
        if min(self.size_hw) < 1 or (self.layout == "nv12" and (height % 2 or width % 2)):
            raise ValueError(f"a {self.layout} frame cannot have size {list(self.size_hw)}")
        if height * width > limits.FRAME_PIXELS:
            raise ValueError(f"a frame has {limits.FRAME_PIXELS:,} pixels at most, not {width}x{height}")

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """The shape of one frame's array."""
        return frame_shape(self.size_hw, self.layout)


def frame_shape(size_hw: tuple[int, int], layout: FrameLayout) -> tuple[int, ...]:
    """Return the shape of a frame's array: (height, width, 3), or (height * 3 / 2, width) for NV12."""
    height, width = size_hw
    return (height, width, 3) if layout == "bgr" else (height * 3 // 2, width)


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recorded picture, its network input and the original network's outputs, for the self-test.

    Attributes:
        image: Path of a PNG.
        tensors: Path of an NPZ: ``input`` (uint8, batch of one) and one array per output, by name.
        max_rel: The largest relative difference at which a replay passes.
    """

    image: Path
    tensors: Path
    max_rel: NotNegative


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fastest way to run the bundle on one machine, measured there.

    Attributes:
        machine: The machine, in words.
        goal: ``latency`` or ``throughput``.
        engine: The engine's name.
        variant: The variant that it loads.
        precision: The precision requested from the engine.
        hint: ``latency`` or ``throughput``: how the engine spreads over the cores.
        threads: Threads for inference; None uses every core.
        batch: The one batch size that it is loaded for; None for whatever the variant allows.
        p50_ms: Median latency of one run, engine only.
        fps: Frames per second, engine only, with as many runs in flight as the engine benefits from.
        fp32_p50_ms: Plain FP32 onnxruntime's median latency in the same measurement.
        fp32_fps: Its frames per second.
        accuracy: The accuracy cost; None if it computes in FP32.
        measured_at: UTC, ISO 8601.
        disturbed: The machine's other load meanwhile; None if unknown.
        engines: The engines available for the measurement; empty in plans that did not record them yet.
    """

    machine: str
    goal: Literal["latency", "throughput"]
    engine: Name
    variant: Name
    precision: Name
    hint: Literal["latency", "throughput"]
    threads: Threads | None
    batch: Batch | None
    p50_ms: NotNegative
    fps: NotNegative
    fp32_p50_ms: NotNegative
    fp32_fps: NotNegative
    accuracy: Accuracy | None
    measured_at: str
    disturbed: Disturbed | None = None
    engines: Annotated[tuple[Name, ...], msgspec.Meta(max_length=limits.NAMES)] = ()


class CompiledEngine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An engine compiled from a variant: a cache, rebuilt if anything in its provenance differs.

    Attributes:
        file: Its path in the bundle, ``engines/<key>/engine``.
        target: ``tensorrt`` or ``tensorrt-rtx``.
        variant: The variant that it was compiled from.
        provenance: Everything that it depends on: the library's version, the GPU, the driver, shapes, flags, and the
            ONNX file's hash. The key is a hash of exactly these.
        seconds: How long it took to compile.
        size_bytes: Its size in bytes.
    """

    file: Path
    target: Name
    variant: Name
    provenance: dict[str, str]
    seconds: NotNegative
    size_bytes: Count


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file's fingerprint: hex SHA-256 and size in bytes."""

    sha256: Name
    size: Count


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``manifest.json``.

    Attributes:
        schema: Always 1; another number is refused.
        name: The bundle's own name.
        created_by: ``edgebone`` and its version.
        created_at: UTC, ISO 8601.
        model: The exported network.
        preprocess: From picture to network input.
        input: The network's input: uint8, NHWC.
        outputs: Every output of the graph.
        heads: Named groups of outputs.
        variants: ONNX files by precision.
        golden: The self-test's recording.
        engines: Compiled engines by key.
        plans: The fastest measured way to run it, by machine.
        frame_variants: Graphs that take the camera's own frames, by names different from the variants'.
        taps: The backbone's values that attached heads read, by the tap's name.
        files: Every file of the bundle except the manifest, by path.
    """

    schema: int
    name: Name
    created_by: Name
    created_at: Name
    model: ModelInfo
    preprocess: Preprocess
    input: TensorSpec
    outputs: Annotated[tuple[TensorSpec, ...], msgspec.Meta(max_length=limits.NAMES)]
    heads: ByName[Head]
    variants: ByName[Variant]
    golden: Golden
    files: Annotated[dict[Path, FileRecord], msgspec.Meta(max_length=limits.ARCHIVE_MEMBERS)]
    engines: ByName[CompiledEngine] = {}
    plans: ByName[Plan] = {}
    frame_variants: ByName[FrameVariant] = {}
    taps: ByName[Tap] = {}

    @property
    def graph_heads(self) -> dict[str, Head]:
        """The heads whose nodes are in the network's graph: all except detached ones."""
        return {name: head for name, head in self.heads.items() if not head.detached}

    def chosen_graphs(self, names: Sequence[str], where: str) -> list[str]:
        """Return the named variants and frame variants once each, or all of them if none is named.

        Raises:
            EngineError: There is no such variant.
        """
        known = [*self.variants, *self.frame_variants]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise EngineError(
                f"{where}: there is no variant {unknown[0]}; {did_you_mean(unknown[0], known)}"
                f"there are {', '.join(known)}"
            )
        return list(dict.fromkeys(names or known))

    def graph(self, name: str) -> Variant:
        """Return a variant, or a frame variant completed from the variant that it was made from.

        Raises:
            KeyError: There is neither.
        """
        frame = self.frame_variants.get(name)
        if frame is None:
            return self.variants[name]
        return msgspec.structs.replace(self.variants[frame.variant], file=frame.file, golden="")

    def input_of(self, name: str) -> TensorSpec:
        """Return the input of a variant or frame variant."""
        frame = self.frame_variants.get(name)
        if frame is None:
            return self.input
        return TensorSpec(self.input.name, "uint8", (self.input.shape[0], *frame.frame_shape))


class _Version(msgspec.Struct):
    schema: Any = None


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """Parse a manifest strictly.

    Args:
        raw: The file's bytes.
        where: The bundle, for the message.

    Raises:
        BundleError: It is not JSON, of another schema, or has a wrong, unknown or missing key.
    """
    with foreign(lambda reason: BundleError(f"{where}: manifest.json is not a JSON object ({reason})")):
        found = msgspec.json.decode(raw, type=_Version).schema
    if found != SCHEMA or isinstance(found, bool):
        raise BundleError(
            f"{where}: manifest has schema {found!r}, but this edgebone reads schema {SCHEMA}; "
            "install the edgebone that wrote it, or export the bundle again"
        )
    with foreign(lambda reason: BundleError(f"{where}: manifest.json does not follow schema {SCHEMA}: {reason}")):
        manifest = msgspec.json.decode(raw, type=Manifest)
    _check_references(manifest, where)
    _check_sizes(manifest, where)
    return manifest


def _check_sizes(manifest: Manifest, where: str) -> None:
    """Reject tensors that fit in no memory, before anything is allocated for them."""
    batches = [variant.batch[0] for variant in manifest.variants.values()]
    batches += [plan.batch for plan in manifest.plans.values() if plan.batch is not None]
    pictures = TensorSpec(manifest.input.name, "uint8", ("batch", *manifest.preprocess.size_hw, 3))
    for spec in (pictures, manifest.input, *manifest.outputs):
        inner = bytes_of(spec.shape[1:], spec.dtype)
        if inner * max(batches) > limits.TENSOR_BYTES:
            raise BundleError(
                f"{where}: {spec} at a batch of {max(batches)} takes more than {in_words(limits.TENSOR_BYTES)}, the "
                "limit for one tensor"
            )


def _check_references(manifest: Manifest, where: str) -> None:
    """Reject a manifest that names an output or a file that it does not list."""
    outputs = {spec.name for spec in manifest.outputs}
    for name, head in manifest.graph_heads.items():
        unknown = set(head.outputs) - outputs
        if unknown:
            raise BundleError(f"{where}: head {name} reads {sorted(unknown)}, outputs are {sorted(outputs)}")
    used = [variant.file for variant in manifest.variants.values()]
    used += [variant.golden for variant in manifest.variants.values() if variant.golden]
    used += [engine.file for engine in manifest.engines.values()]
    used += [frame.file for frame in manifest.frame_variants.values()]
    used += [head.file for head in manifest.heads.values() if head.file]
    for file in (*used, manifest.golden.image, manifest.golden.tensors):
        if file not in manifest.files:
            raise BundleError(f"{where}: manifest.json uses {file} but does not list its hash")
    frames = manifest.frame_variants
    both = manifest.variants.keys() & frames.keys()
    if both:
        raise BundleError(f"{where}: {sorted(both)[0]} is a variant and a frame variant; names must differ")
    for what, variant in (
        *((f"engine {key}", item.variant) for key, item in manifest.engines.items() if item.variant not in frames),
        *((f"frame variant {key}", item.variant) for key, item in frames.items()),
        *((f"the plan of {item.machine}", item.variant) for item in manifest.plans.values()),
    ):
        if variant not in manifest.variants:
            raise BundleError(f"{where}: {what} is of variant {variant}, the bundle has {sorted(manifest.variants)}")
    if not manifest.variants or not manifest.heads:
        raise BundleError(f"{where}: manifest.json needs at least one variant and one head")
