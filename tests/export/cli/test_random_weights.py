"""Figures of a network that nobody trained come with a word about that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.bundles import write_colors_bundle
from support.networks import classifier, write_network, write_pictures

PROGRAM = Path(sys.executable).with_name("edgebone")
WORDS = "its weights are random"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    names = sorted(path.name for path in write_pictures(folder, 8).iterdir())
    (folder / "labels.csv").write_text("file,class_index\n" + "".join(f"{name},{0}\n" for name in names))
    return folder / "labels.csv"


def test_eval_says_that_weights_are_random_and_only_then(tmp_path: Path, labels: Path) -> None:
    done = run("eval", write_network(tmp_path / "random", classifier()), "--data", labels, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(WORDS) == 1
    assert WORDS not in done.stdout
    trained = run("eval", write_colors_bundle(tmp_path / "trained"), "--data", labels)
    assert trained.returncode == 0, trained.stderr
    assert WORDS not in trained.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["tune", "--eval", "LABELS", "--seconds", "0.1", "--max-drop", "100"],
        ["quantize", "--calibrate", "PICTURES", "--eval", "LABELS", "--max-drop", "100", "--target", "tensorrt"],
    ],
)
def test_tune_and_quantize_say_it_too(command: list[str], tmp_path: Path, labels: Path) -> None:
    bundle = write_network(tmp_path / "random", classifier())
    paths = {"LABELS": labels, "PICTURES": labels.parent}
    done = run(command[0], bundle, *(paths.get(word, word) for word in command[1:]))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(WORDS) == 1
