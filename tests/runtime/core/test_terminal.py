"""What people put into labels, names and files cannot tell a terminal what to do, nor forge a line."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgebone.core.manifest import Head, ModelInfo, Weights
from edgebone.core.terminal import printable
from edgebone.gallery import Gallery
from support import ROOT
from support.bundles import write_colors_bundle
from support.machine import needs
from support.pictures import GREEN, picture, write_video
from support.program import PROGRAM, edgebone

# Clears the screen, sets the title, the same without ESC, ends a line, writes backwards, and asks rich for red.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b2J\x85\u2028\ndone: all is well\r\u202etxt.\u2066[red]x[/red]\x7f"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]|^done: all is well", re.MULTILINE)
SHOWN = (
    r"\u001b[2J\u001b]0;owned\u0007\u009b2J\u0085\u2028\u000adone: all is well\u000d\u202etxt.\u2066[red]x[/red]\u007f"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose author put such characters wherever text goes."""
    labels = tuple(f"{HOSTILE}{name}" for name in ("blue", "green", "red", "other"))
    return write_colors_bundle(
        tmp_path_factory.mktemp("hostile") / "b.bundle",
        name=HOSTILE,
        created_by=HOSTILE,
        created_at=HOSTILE,
        model=ModelInfo(HOSTILE, HOSTILE, 12, Weights(HOSTILE, HOSTILE, "", HOSTILE)),
        heads={"classification": Head("classification@1", ("logits",), labels, {"activation": "softmax", "top_k": 3})},
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture whose very name is such a text."""
    path = tmp_path / f"{HOSTILE.replace('/', '')}.png"
    Image.fromarray(picture(GREEN)[..., ::-1].copy()).save(path)
    return path


def test_control_characters_are_escaped_and_nothing_else() -> None:
    assert printable(HOSTILE) == SHOWN
    plain = "größer, 猫, 👩‍🚒, a\\u001b, [red], 100 %, \u00a0|"
    assert printable(plain) == plain
    assert json.loads(printable(json.dumps(HOSTILE, ensure_ascii=False))) == HOSTILE


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "BUNDLE"),
        ("inspect", "BUNDLE", "--json"),
        ("run", "BUNDLE", "PHOTO"),
        ("run", "BUNDLE", "PHOTO", "--json"),
        ("run", "BUNDLE", "VIDEO"),
        ("doctor", "BUNDLE"),
        ("eval", "BUNDLE", "--data", "DATA"),
        ("export-triton", "BUNDLE", "-o", "REPOSITORY"),
        ("label", "BUNDLE", "PHOTO", "-o", "LABELLED"),
    ],
    ids=" ".join,
)
def test_no_command_prints_them_raw(bundle: Path, photo: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    data = tmp_path / "rows.csv"
    data.write_text(f'file,class_index\n"{photo}",1\n', newline="")
    places = {
        "BUNDLE": bundle, "PHOTO": photo, "VIDEO": write_video(tmp_path / f"{HOSTILE[:9]}.avi", [GREEN] * 3),
        "DATA": data, "REPOSITORY": tmp_path / "triton", "LABELLED": tmp_path / "labelled\x1b[2J",
    }  # fmt: skip
    done = edgebone(*(places.get(word, word) for word in arguments))
    assert done.returncode == 0, done.stderr
    assert not RAW.search(done.stdout + done.stderr)
    assert r"\u001b[2J" in done.stdout + done.stderr or arguments[0] in ("doctor", "export-triton", "eval")


def test_json_means_the_same_after_it_is_made_safe(bundle: Path, photo: Path) -> None:
    shown = json.loads(edgebone("inspect", bundle, "--json").stdout)
    assert shown["name"] == HOSTILE
    line = json.loads(edgebone("run", bundle, photo, "--json").stdout)
    assert line["source"] == str(photo)
    assert line["classes"][0]["label"] == f"{HOSTILE}green"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("run", "BUNDLE", "/no\x1b[2J\n.png"), 4),
        (("inspect", "/no\x1b[2J\n.bundle"), 3),
        (("run", "BUNDLE", "PHOTO", "--roi", "\x1b[2J\u202e"), 2),
        (("run", "BUNDLE", "PHOTO", "--zones", "/no\x1b[2J", "--track"), 1),
        (("doctor", "/no\x1b[2J"), 3),
    ],
)
def test_an_error_is_one_line_whatever_it_names(
    bundle: Path, photo: Path, arguments: tuple[str, ...], code: int
) -> None:
    done = edgebone(*({"BUNDLE": bundle, "PHOTO": photo}.get(word, word) for word in arguments))
    assert done.returncode == code, done.stderr
    assert r"\u001b[2J" in done.stderr
    assert not RAW.search(done.stderr)
    assert code == 2 or done.stderr.count("\n") == 1


def test_a_gallerys_labels_are_shown_safely(tmp_path: Path) -> None:
    gallery = Gallery("space", 4, about=HOSTILE)
    gallery.add(np.eye(4, dtype=np.float32), [HOSTILE, "b", "c", "d"], same=None)
    done = edgebone("gallery", "list", gallery.save(tmp_path / "a.gallery"))
    assert SHOWN in done.stdout
    assert not RAW.search(done.stdout)


@needs("av")
def test_what_is_logged_is_shown_safely(bundle: Path) -> None:
    # A camera that is not there is waited for, with a word to the log.
    command = [PROGRAM, "run", bundle, "http://127.0.0.1:9/\u202egnp"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.kill()
    assert "retrying until" in line
    assert r"\u202egnp" in line
    assert not RAW.search(line)


def on_a_terminal(*arguments: object) -> str:
    """What a command writes to stdout and stderr when they are a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    assert process.wait() == 0, written
    return written.decode()


def test_the_status_line_obeys_edgebone_alone(bundle: Path) -> None:
    written = on_a_terminal("run", bundle, "synthetic://64x48@20", "--frames", "12")
    # Its own: back to the line's begin, and clear the line.
    assert "\x1b[2K" in written
    assert not RAW.search(written.replace("\r\x1b[2K", "").replace("\r\n", "\n"))
    assert r"\u001b[2J" in written


def test_all_text_leaves_the_command_line_in_one_place() -> None:
    ways = ("print", "typer.echo", "sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer.write")
    calls = {
        (path.name, ast.unparse(node.func))
        for folder in ("runtime/edgebone/cli", "export/edgebone_export/cli")
        for path in (ROOT / folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    }
    found = {(name, way) for name, way in calls if way in ways and name != "output.py"}
    # The status line moves the cursor; what signals.py says is fixed, and said when nothing else works any more.
    assert found == {("status.py", "sys.stderr.write"), ("signals.py", "sys.stderr.write")}
