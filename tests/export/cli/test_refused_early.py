"""What is mistyped is refused before PyTorch or an engine is imported; files of other kinds with the way from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import foreign
from support.bundles import write_colors_bundle

PROGRAM = """
import sys
from edgebone.cli import main
try:
    main()
except SystemExit as done:
    heavy = [name for name in ("torch", "torchvision", "sklearn", "onnxruntime", "openvino") if name in sys.modules]
    print(*heavy)
    raise
"""


def refused(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the program's own entry, and hold it to having imported nothing heavy."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "300"},
    )  # fmt: skip
    assert done.stdout.split() == [], f"imported before refusing: {done.stdout}"
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join(done.stderr.replace("│", " ").split())


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refused")
    write_colors_bundle(folder / "colors.bundle")
    foreign.yolox(folder / "net.onnx", 80)
    (folder / "bad.json").write_text("{")
    (folder / "net.pt").touch()
    (folder / "weights.safetensors").touch()
    (folder / "net.engine").touch()
    (folder / "photos").mkdir()
    for name, more in (("birds", {}), ("code", {"auto_map": {"AutoModel": "code.Net"}})):
        (folder / name).mkdir()
        config = {"architectures": ["ResNetForImageClassification"], "model_type": "resnet", **more}
        (folder / name / "config.json").write_text(json.dumps(config))
        (folder / name / "preprocessor_config.json").write_text("{}")
        (folder / name / "pytorch_model.bin").touch()
    return folder


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("import nat.onnx -o b --decoder yolox", 8, "nat.onnx: no such file; did you mean net.onnx?"),
        ("import net.onnx -o b --decoder yolo", 8, "no decoder yolo; did you mean yolox"),
        (
            "import net.onnx -o b --decoder yolox --preprocess yolo",
            8,
            "no such preprocessing; did you mean ultralytics?",
        ),
        ("import net.onnx -o b --decoder yolox --preprocess bad.json", 8, "bad.json: preprocessing cannot be read"),
        ("import net.onnx -o b --decoder yolox --labels gone.txt", 8, "labels gone.txt: not a readable file"),
        ("import net.onnx -o b --decoder yolox --samples gone", 4, "gone: no such file or folder"),
        ("import net.onnx -o b --decoder yolox --size 640by480", 2, "a size must be WIDTHxHEIGHT"),
        ("import net.onnx -o colors.bundle --decoder yolox", 7, "colors.bundle exists"),
        ("import colors.bundle -o b --decoder yolox", 8, "already a bundle; to use it, run: edgebone run"),
        ("import net.pt -o b --decoder yolov8", 8, "yolo export model=net.pt format=onnx"),
        ("import weights.safetensors -o b --decoder raw", 8, "edgebone export MODEL --weights weights.safetensors"),
        ("import net.engine -o b --decoder raw", 8, "import the ONNX file that it was made from"),
        ("export mobilenet_v2 -o colors.bundle", 7, "colors.bundle exists"),
        ("export mobilenet_v2 -o b --output logit", 8, "no output logit; did you mean logits?"),
        ("export mobilenet_v2 -o b --kind binar", 8, "no kind binar; did you mean binary?"),
        ("export mobilenet_v2 -o b --labels gone.txt", 8, "labels gone.txt: not a readable file"),
        ("export mobilenet_v2 -o b --samples gone", 4, "gone: no such file or folder"),
        ("export hf:./bird -o b", 10, "hf:./bird: no such folder; did you mean birds?"),
        ("export hf:net.pt -o b", 10, "hf:net.pt: a file; pass the folder that has config.json and model.safetensors"),
        ("export hf:resnet -o b", 10, "hf:resnet: a family of networks; pass a network of it"),
        ("export hf:photos -o b", 10, "photos: no config.json in it"),
        ("export hf:birds -o b", 9, "birds: no model.safetensors in it, only pytorch_model.bin, which is not read"),
        ("export hf:code -o b", 8, "code/config.json: auto_map names code in the folder"),
        ("export hf:birds -o b --weights net.pt", 9, "has its weights in its folder, as model.safetensors"),
        ("export net.onnx -o b", 10, "edgebone import net.onnx -o net.bundle --decoder"),
        ("export yolo11n -o b", 10, "yolo export model=yolo11n.pt format=onnx"),
        ("fit color.bundle --data photos -o b", 3, "did you mean colors.bundle?"),
        ("fit colors.bundle --data photo -o b", 4, "photo: no such file or folder; did you mean photos?"),
        ("fit colors.bundle --data photos -o b --engine openvno", 5, "did you mean openvino?"),
        ("fit colors.bundle --data photos -o colors.bundle", 7, "colors.bundle exists"),
        ("fit colors.bundle --data photos -o b --kind linea", 2, "there is no kind 'linea'; did you mean linear?"),
        ("quantize colors.bundle --precision int3", 8, "no variant int3"),
        ("quantize colors.bundle --calibrate photo", 4, "did you mean photos?"),
        ("quantize net.onnx", 3, "edgebone import net.onnx -o net.bundle"),
        ("attach colors.bundle gone.head -o b", 3, "gone.head"),
        ("compare --data photo --backbones resnet18,resnet34", 4, "did you mean photos?"),
        ("add-frame color.bundle --frame 100x100", 3, "did you mean colors.bundle?"),
        ("inspect net.onnx", 3, "not a bundle, but an ONNX file"),
        ("inspect .", 3, "it holds no manifest.json; did you mean colors.bundle?"),
        ("inspect colors", 3, "did you mean colors.bundle?"),
        ("eval net.pt --data photos", 3, "not a bundle, but a PyTorch file"),
        ("doctor net.engine", 3, "not a bundle, but an engine for one GPU"),
        ("bench net.onnx", 3, "not a bundle, but an ONNX file"),
        ("run photos colors.bundle", 2, "colors.bundle is the bundle: it comes first"),
        ("run net.onnx photos", 3, "edgebone import net.onnx -o net.bundle"),
    ],
)
def test_what_is_mistyped_is_refused_before_anything_heavy_is_imported(
    workplace: Path, line: str, code: int, words: str
) -> None:
    before = sorted(workplace.iterdir())
    found, said = refused(workplace, *line.split())
    assert words in said
    assert found == code
    assert sorted(workplace.iterdir()) == before
