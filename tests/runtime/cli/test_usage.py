"""Wrong usage is answered with what was most likely meant: by meaning, and by spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebone.cli.commands import PANELS
from edgebone.cli.meanings import _COMMANDS, _OPTIONS, command_meant, option_meant
from edgebone.cli.program import load_command
from support.program import edgebone


def refusal(*arguments: object) -> str:
    """What the program says of wrong usage, without the box around it."""
    done = edgebone(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("said", "here"),
    [
        ("--device", "--engine"), ("--gpu", "--engine"), ("--cuda", "--engine"), ("--threshold", "--score"),
        ("--conf", "--score"), ("--confidence", "--score"), ("--nms", "--iou"), ("--fp16", "--precision"),
        ("--half", "--precision"), ("--output", "--out"), ("-o", "--out"), ("--fps", "--max-fps"),
        ("--vid_stride", "--every"), ("--scor", "--score"),
    ],
)  # fmt: skip
def test_options_are_found_by_meaning_and_by_spelling(said: str, here: str) -> None:
    options = {"--engine", "--score", "--iou", "--precision", "--out", "--max-fps", "--every", "--events", "--help"}
    assert here in option_meant(said, options, ["bundle", "source"])


def test_what_has_no_near_option_is_not_led_astray() -> None:
    assert option_meant("--colour", {"--score", "--every"}, []) == ""
    assert option_meant("--device", {"--events"}, []) == ""


@pytest.mark.parametrize(
    ("said", "here"),
    [
        ("predict", "run"), ("convert", "import"), ("train", "fit"), ("benchmark", "bench"), ("val", "eval"),
        ("runn", "run"), ("insepct", "inspect"),
    ],
)  # fmt: skip
def test_commands_are_found_by_meaning_and_by_spelling(said: str, here: str) -> None:
    commands = ("run", "bench", "eval", "inspect", "fit", "import", "export", "tune")
    assert here in command_meant(said, commands).replace("?", "").split()


def test_the_program_says_what_was_meant(colors_bundle: Path) -> None:
    said = refusal("run", colors_bundle, "a.png", "--device", "cuda")
    assert "No such option: --device; here it is --engine" in said
    assert "--events" not in said
    assert "No such command 'predict'; here it is edgebone run" in refusal("predict")
    assert "--source; it comes after the bundle" in refusal("run", colors_bundle, "--source", "a.png")


def test_percents_are_told_from_shares(colors_bundle: Path) -> None:
    assert "50 is not within 0 to 1: did you mean 0.5?" in refusal("run", colors_bundle, "a.png", "--score", "50")
    assert "70 is not within 0 to 1: did you mean 0.7?" in refusal("run", colors_bundle, "a.png", "--iou", "70")


@pytest.mark.parametrize("option", ["--out", "--video", "--events", "--zones"])
def test_an_address_where_a_file_is_taken_is_refused_without_its_password(
    colors_bundle: Path, option: str, tmp_path: Path
) -> None:
    said = refusal("run", colors_bundle, tmp_path, option, "mqtt://user:secret@broker/cats")
    assert "takes a file's path, not a mqtt:// address" in said
    assert "secret" not in said


def test_the_table_of_meanings_names_what_there_is() -> None:
    """A word that leads to an option or a command that nobody has would lead nowhere."""
    names = {row.name for rows in PANELS.values() for row in rows}
    commands = [load_command(name) for name in names]
    commands += [verb for group in commands for verb in getattr(group, "commands", {}).values()]
    options = {name for command in commands for item in command.params for name in (*item.opts, item.name)}
    assert {here for _, here, _ in _OPTIONS if here} <= options | {"--help", "--version"}
    assert {name for _, here in _COMMANDS for name in here} <= {*names, "--help", "--version"}
    for words, _ in _COMMANDS:
        # A word of the table that is a command of ours would never be looked up.
        assert not {*words.split()} & names, words
