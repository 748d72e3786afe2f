"""Engines that other packages bring, installed as a user would install them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from support import ROOT
from support.pictures import GREEN, picture
from support.program import edgebone, page_commands, write_package

PAGE = ROOT / "docs" / "extending" / "engine.md"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(picture(GREEN)[..., ::-1].copy()).save(path)
    return path


ROW = """
from edgebone.engines.spec import EngineSpec, Fit
def check(candidate, machine, variant):
    {check}
SPEC = EngineSpec("{name}", {{}}, True, lambda machine: {rank}, check, "{open}")
"""


def toy(target: Path, name: str = "toy", *, check: str = "return Fit(candidate, 'always')", rank: str = "0",
        open: str = "toy:opened", entry: str = "SPEC", more: str = "") -> dict[str, str]:  # fmt: skip
    """A package ``toy-engines`` with one engine, and what may be wrong with it."""
    place = entry if ":" in entry else f"{name}:{entry}"
    module = ROW.format(name=name, check=check, rank=rank, open=open) + more
    return write_package(target, f"{name}-engines", {"engines": {name: place}}, **{name: module})


def notes(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a run says beside its figures."""
    *lines, figures = done.stderr.splitlines()
    assert figures.startswith("1 frame in ")
    return lines


PROGRAM = """
import sys, json, edgebone
with edgebone.load(sys.argv[1], engine=sys.argv[3]) as model:
    print(json.dumps([model.engine.name, model.candidate.engine, model(sys.argv[2]).probabilities.tolist()]))
"""


def test_a_packages_engine_answers_as_onnxruntime_does(
    colors_bundle: Path, photo: Path, installed: dict[str, str]
) -> None:
    answers: dict[str, list[float]] = {}
    for engine in ("onnx-reference", "onnxruntime"):
        command = [sys.executable, "-c", PROGRAM, str(colors_bundle), str(photo), engine]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **installed})
        *names, answers[engine] = json.loads(done.stdout)
        assert names == [engine, engine]
        assert max(answers[engine]) > 0.5
    assert answers["onnx-reference"] == pytest.approx(answers["onnxruntime"], abs=1e-5)


def test_doctor_lists_a_packages_engine_and_replays_the_golden_sample_on_it(
    colors_bundle: Path, installed: dict[str, str]
) -> None:
    done = edgebone("doctor", colors_bundle, "--json", env=installed)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (row,) = (row for row in report["engines"] if row["engine"] == "onnx-reference")
    assert row["fits"] and row["reason"].startswith("onnx ")
    # The rank puts it behind edgebone's own.
    assert [replay["engine"] for replay in report["replays"] if replay["passed"]][-1] == "onnx-reference"
    assert "onnx" in report["machine"]["packages"]


def test_the_commands_of_the_page_run(colors_bundle: Path, photo: Path, installed: dict[str, str]) -> None:
    commands = page_commands(PAGE, {"BUNDLE": colors_bundle, "photo.jpg": photo})
    assert len(commands) == 2
    for words in commands:
        done = edgebone(*words, env=installed)
        assert done.returncode == 0, done.stderr


def test_an_engine_that_nobody_brings_is_named_with_those_that_are_there(
    colors_bundle: Path, photo: Path, installed: dict[str, str]
) -> None:
    done = edgebone("run", colors_bundle, photo, "--engine", "onnx-referense", env=installed)
    assert done.returncode == 5
    assert "did you mean onnx-reference?" in done.stderr
    assert edgebone("run", colors_bundle, photo, "--engine", "onnx-reference").returncode == 5


def test_a_broken_row_is_one_warning_that_names_the_package(colors_bundle: Path, photo: Path, tmp_path: Path) -> None:
    target = tmp_path / "packages"
    toy(target, "away", entry="nowhere.at.all:SPEC")
    toy(target, "nameless", entry="NOTHING")
    toy(target, "norow", entry="check")
    toy(target, "renamed", more="SPEC = EngineSpec('other', {}, True, int, check, '')")
    toy(target, "unlicensed", more="raise RuntimeError('no licence\\nand more')")
    toy(target, "unchecked", check="return machine.nothing")
    toy(target, "undecided", check="return True")
    env = toy(target, "unranked", rank="machine.nothing")
    done = edgebone("run", colors_bundle, photo, env=env)
    assert done.returncode == 0, done.stderr
    assert "green" in done.stdout
    said = {
        "away": "ModuleNotFoundError: No module named 'nowhere'",
        "nameless": "AttributeError: ",
        "norow": "not an EngineSpec named norow",
        "renamed": "not an EngineSpec named renamed",
        "unlicensed": "RuntimeError: no licence;",
        "unchecked": "AttributeError: ",
        "undecided": "TypeError: its check returned True",
        "unranked": "AttributeError: ",
    }
    lines = notes(done)
    assert len(lines) == len(said)
    for name, why in said.items():
        (line,) = (line for line in lines if line.startswith(f"the engine {name} of the package {name}-engines is "))
        assert why in line
        assert line.endswith(f"pip uninstall {name}-engines")


def test_an_engine_that_two_packages_bring_is_left_out_with_both(
    colors_bundle: Path, photo: Path, tmp_path: Path
) -> None:
    target = tmp_path / "packages"
    write_package(target, "first", {"engines": {"toy": "toy:SPEC"}})
    env = write_package(target, "second", {"engines": {"toy": "toy:SPEC"}}, toy="raise SystemError")
    done = edgebone("run", colors_bundle, photo, env=env)
    assert done.returncode == 0, done.stderr
    (line,) = notes(done)
    assert line.startswith("the engine toy of the packages first and second is left out: ")
    assert line.endswith("; keep one of them: pip uninstall first or pip uninstall second")


def test_an_engine_of_a_package_that_does_not_open_makes_way_for_the_next(
    colors_bundle: Path, photo: Path, tmp_path: Path
) -> None:
    target = tmp_path / "packages"
    toy(target, "first", open="first:nothing")
    env = toy(target, "second", rank="1", open="second:opened", more="def opened(request):\n    request.nothing")
    done = edgebone("run", colors_bundle, photo, env=env)
    assert done.returncode == 0, done.stderr
    assert "green" in done.stdout
    first, second = notes(done)
    assert "first:nothing cannot be loaded" in first
    assert "second cannot open the network: AttributeError: " in second
    assert edgebone("run", colors_bundle, photo, "--engine", "second", env=env).returncode == 5


def test_a_package_does_not_replace_an_engine_of_edgebone(colors_bundle: Path, photo: Path, tmp_path: Path) -> None:
    env = write_package(
        tmp_path / "packages", "thief", {"engines": {"onnxruntime": "thief:SPEC"}}, thief="raise SystemError"
    )
    done = edgebone("run", colors_bundle, photo, "--engine", "onnxruntime", env=env)
    assert (done.returncode, notes(done)) == (0, [])


def test_packages_are_looked_for_only_where_all_engines_or_theirs_are_asked_for(
    colors_bundle: Path, photo: Path, tmp_path: Path
) -> None:
    env = toy(tmp_path / "packages", more="open(__file__ + '.imported', 'w').close()\n")
    imported = tmp_path / "packages" / "toy.py.imported"
    program = (
        "import sys, importlib.metadata as metadata\n"
        "real, asked = metadata.entry_points, []\n"
        "metadata.entry_points = lambda **by: asked.append(by) or real(**by)\n"
        "from edgebone.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(asked, file=sys.stderr)\n"
    )

    def groups(*words: object) -> str:
        command = [sys.executable, "-c", program, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stderr

    assert "edgebone.engines" not in groups("--help")
    assert "edgebone.engines" not in groups("run", "--help")
    assert "edgebone.engines" not in groups("run", colors_bundle, photo, "--engine", "onnxruntime")
    assert not imported.exists()
    assert "edgebone.engines" in groups("doctor")
    assert imported.exists()
