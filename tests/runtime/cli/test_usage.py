"""Wrong usage is answered with what was most likely meant: by meaning, and by spelling."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from edgebone.cli.commands import PANELS
from edgebone.cli.meanings import _COMMANDS, _OPTIONS, command_meant, option_meant
from edgebone.cli.options import Size, parse_size
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


@pytest.mark.parametrize("option", ["--jsonl", "--video", "--events", "--zones"])
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


@pytest.mark.parametrize(
    ("typed", "size"), [("640x480", Size(height=480, width=640)), ("480x640", Size(640, 480)), ("224", Size(224, 224))]
)
def test_a_size_is_width_by_height(typed: str, size: Size) -> None:
    assert parse_size(typed) == size
    assert str(parse_size("640x480")) == "640 wide, 480 high"


@pytest.mark.parametrize("typed", ["", "x", "640x", "x480", "0x480", "640x0", "0", "640*480", "-1x5", "6.5x4", "4x4x3"])
def test_what_is_no_size_is_refused_with_the_form_of_one(typed: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"WIDTHxHEIGHT in pixels, such as 640x480"):
        parse_size(typed)


def test_a_word_that_is_no_choice_is_answered_with_the_near_one(colors_bundle: Path) -> None:
    said = refusal("run", colors_bundle, "a.png", "--hint", "latncy")
    assert "'latncy' is not one of latency, throughput; did you mean latency?" in said
    assert "did you mean ampere-plus?" in refusal("compile", colors_bundle, "--target", "x", "--hardware", "ampere")


def complete(line: str, **environment: str) -> list[str]:
    """What the shell is told for the last word of a line, as bash asks for it."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_EDGEBONE_COMPLETE": "complete_bash"}
    done = edgebone(env={**asked, **environment})
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("edgebone r", "run"),
        ("edgebone gallery en", "enrol"),
        ("edgebone run b.bundle a.png --eng", "--engine"),
        ("edgebone run b.bundle a.png --engine o", "onnxruntime-tensorrt onnxruntime-cuda openvino onnxruntime"),
        ("edgebone run b.bundle a.png --hint t", "throughput"),
        ("edgebone bench b.bundle --precision b", "bf16"),
        ("edgebone compile b.bundle --target o", "openvino"),
        ("edgebone fit b.bundle --kind seg", "segmentation"),
        ("edgebone export net --kind bin", "binary"),
        (
            "edgebone import net.onnx --decoder h=yolov",
            "h=yolov5 h=yolov8 h=yolov5-seg h=yolov8-seg h=yolov8-pose h=yolov8-obb",
        ),
        ("edgebone import net.onnx --preprocess ultra", "ultralytics ultralytics-classify"),
        # Nothing of its own: the shell completes paths.
        ("edgebone run b", ""),
        ("edgebone fit b.bundle --data d", ""),
    ],
)
def test_the_shell_completes_commands_options_and_choices(line: str, words: str) -> None:
    assert complete(line) == words.split()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_too(shell: str) -> None:
    environment = {"_TYPER_COMPLETE_ARGS": "edgebone r", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = edgebone(env={**environment, "_EDGEBONE_COMPLETE": f"complete_{shell}"})
    assert "run" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown(shell: str) -> None:
    done = edgebone("--show-completion", shell, env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert done.returncode == 0
    assert "_EDGEBONE_COMPLETE" in done.stdout
