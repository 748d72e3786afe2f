"""Names of other programs' options and commands in this one."""

from __future__ import annotations

from collections.abc import Collection

# Words; the equivalent option or argument name; a remark. The first row whose option the command has applies; a row
# without an option applies to all.
_OPTIONS: tuple[tuple[str, str, str], ...] = (
    (
        "device gpu gpus cuda cpu backend provider providers accelerator runtime framework trt",
        "--engine",
        "auto chooses the fastest available; on an NVIDIA GPU tensorrt or onnxruntime-cuda",
    ),
    ("threshold thresh thres conf confidence conf-thres conf-threshold min-score min-conf score-threshold prob "
     "box-threshold", "--score", "0 to 1"),
    ("nms nms-threshold nms-thres iou-thres iou-threshold overlap", "--iou", "0 to 1"),
    ("fp16 half bf16 int8 fp32 dtype amp", "--precision", "such as --precision int8"),
    ("imgsz img-size image-size input-size input-shape shape resolution size", "--size", "WIDTHxHEIGHT"),
    ("imgsz img-size image-size input-size size resolution shape", "--frame", "of the camera, WIDTHxHEIGHT"),
    ("imgsz img-size image-size input-size size resolution shape", "",
     "a bundle's input has the size that it was made with: edgebone export or import --size"),
    ("jsonl json-out json-lines save-json save-txt", "--jsonl", "JSON lines, in a file"),
    ("output output-file out-file outfile output-dir outdir dest destination json-out jsonl save-json save-txt o",
     "--out", ""),
    ("out output output-file out-file outfile o json-out json-lines save-json save-txt", "--jsonl",
     "JSON lines, in a file"),
    ("output output-dir out-dir outdir save-dir project save-img save-image save-images save-frames annotate visualize "
     "vis draw plot", "--save", "a folder for annotated pictures"),
    ("show view display window", "--save", "there is no window; --save FOLDER or --video FILE save the drawings"),
    ("save-video video-out record write-video out-video", "--video", ""),
    ("save-events alerts log-events", "--events", ""),
    ("source src input inputs images image picture pictures img camera cam webcam file files path stream url", "source",
     "it comes after the bundle, without a name before it"),
    ("model bundle", "bundle", "it comes first, without a name before it"),
    ("weights", "bundle", "the bundle has its weights; others are exported with: edgebone export MODEL --weights FILE"),
    ("model name arch architecture onnx", "model", "it comes first, without a name before it"),
    ("stride vid-stride skip frame-skip skip-frames interval nth", "--every", "use every N-th frame"),
    ("fps rate frame-rate", "--max-fps", "the largest number of frames per second"),
    ("limit max-frames num-frames n-frames max-images count", "--frames", ""),
    ("limit max max-frames max-images max-pictures num-images count", "--pictures", ""),
    ("topk k top", "--top-k", ""),
    ("class labels label names filter only categories classes-filter", "--classes", "such as --classes car,truck"),
    ("classes class names class-names labels-file categories label", "--labels", ""),
    ("agnostic agnostic-nms class-agnostic-nms", "--class-agnostic", ""),
    ("track-ids tracker tracking bytetrack mot", "--track", ""),
    ("region crop area", "--roi", "left,top,right,bottom"),
    ("retry reconnect timeout", "--give-up", "seconds; by default a camera is waited for indefinitely"),
    ("prometheus metrics-port stats", "--metrics", "a port"),
    ("ignore-errors continue skip-errors tolerant", "--forgiving", ""),
    ("overwrite exist-ok yes y f replace", "--force", ""),
    ("calib calibration calibration-data calib-data calibration-dir data dataset", "--calibrate", ""),
    ("dataset data-dir annotations ann labels-csv csv train train-dir train-data", "--data", ""),
    ("validation val-data val-dir valid", "--val", ""),
    ("split test-size val-split val-fraction holdout", "--hold-out", "a share, 0 to 1"),
    ("workers jobs num-threads cores j", "--threads", ""),
    ("duration time iterations iters runs repeat n warmup", "--seconds", "the warm-up is automatic"),
    ("task family type format head postprocess post", "--decoder", ""),
    ("task type head", "--kind", ""),
    ("name head-name", "--head", "the head's name in the bundle"),
    ("save save-heads", "--keep-heads", "a folder"),
    ("mean std normalize normalization transform preprocessing", "--preprocess", "a convention's name, or a JSON file"),
    ("pretrained checkpoint ckpt state-dict", "--weights", "default, a file, or random"),
    ("batch-size bs max-batch dynamic", "--batch", "1, or 1-8 for a dynamic batch"),
    ("accuracy-drop tolerance budget max-loss", "--max-drop", "points of 100"),
    ("num-images samples n-samples calib-size", "--pictures", ""),
    ("format opset", "", "a bundle holds ONNX; for a GPU's own format: edgebone compile"),
    ("help-all h", "--help", ""),
    ("v version", "--version", ""),
)  # fmt: skip

_COMMANDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("predict detect infer inference classify segment stream watch track camera start exec", ("run",)),
    ("convert onnx to-onnx from-onnx", ("import", "export")),
    ("train finetune fine-tune learn head", ("fit",)),
    ("benchmark perf profile speed latency timeit", ("bench",)),
    ("val validate evaluate test accuracy score map", ("eval",)),
    ("list ls zoo list-models names hub", ("models",)),
    ("info show describe summary view cat print", ("inspect",)),
    ("check checks diagnose env verify selftest self-test status system", ("doctor",)),
    ("optimize optimise autotune search", ("tune",)),
    ("build trt tensorrt engine openvino", ("compile",)),
    ("quantise quant int8 calibrate ptq", ("quantize",)),
    ("annotate autolabel auto-label pseudolabel pseudo-label distill", ("label",)),
    ("triton serve-triton", ("export-triton",)),
    ("enrol enroll recognize recognise index embed products", ("gallery",)),
    ("stock shelves inventory", ("shelf",)),
    ("add-head join merge", ("attach",)),
    ("version", ("--version",)),
    ("help", ("--help",)),
)


def option_meant(said: str, options: Collection[str], arguments: Collection[str]) -> str:
    """Return a hint for an unknown option, as the rest of a sentence.

    Args:
        said: The option, with its dashes.
        options: The command's options, with their dashes.
        arguments: The names of the command's arguments.

    Returns:
        ``here it is --engine: …``, ``did you mean --score?``, or an empty text.
    """
    word = said.lstrip("-").replace("_", "-").lower()
    for words, here, remark in _OPTIONS:
        if word in words.split() and (not here or here in options or here in arguments):
            if here in options and f"--{word}" != here:
                return f"here it is {here}{': ' if remark else ''}{remark}"
            if here not in options:
                return remark
    from edgebone.core.near import near

    found = near(word, [option.lstrip("-") for option in options if option.startswith("--")])
    return f"did you mean {' or '.join(f'--{name}' for name in found)}?" if found else ""


def command_meant(said: str, commands: Collection[str]) -> str:
    """Return a hint for an unknown command."""
    word = said.replace("_", "-").lower()
    for words, here in _COMMANDS:
        there = [name for name in here if name in commands or name.startswith("-")]
        if word in words.split() and there:
            return f"here it is {' or '.join(f'edgebone {name}' for name in there)}"
    from edgebone.core.near import did_you_mean

    return did_you_mean(word, commands).rstrip()
