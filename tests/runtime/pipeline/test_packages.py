"""Sources, sinks and steps that other packages bring, installed as a user would install them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import ROOT
from support.pictures import BLUE, GREEN, RED, picture, write_video
from support.program import edgebone, page_commands, write_package

PAGES = ROOT / "docs" / "extending"


def write_shots(folder: Path) -> Path:
    folder.mkdir()
    for number, color in enumerate((RED, GREEN, BLUE)):
        np.savez(folder / f"{number}.npz", image=picture(color))
    return folder


def test_the_source_of_the_page_gives_its_frames(
    colors_bundle: Path, tmp_path: Path, installed: dict[str, str]
) -> None:
    shots = write_shots(tmp_path / "shots")
    (command,) = page_commands(PAGES / "source.md", {"BUNDLE": colors_bundle})
    done = edgebone(*command, cwd=tmp_path, env=installed)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[1].split()[0] for line in done.stdout.splitlines()] == ["red", "green", "blue"]
    # A picture that cannot be read is left out, as one of a folder is.
    (shots / "1.npz").write_bytes(b"")
    done = edgebone(*command, cwd=tmp_path, env=installed)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert "left out: shots/1.npz: no readable array" in done.stderr
    done = edgebone("run", colors_bundle, "npz://nowhere", cwd=tmp_path, env=installed)
    assert done.returncode == 4
    assert done.stderr == "edgebone: npz://nowhere: there are no .npz files in this folder\n"


def test_the_sink_of_the_page_writes_its_file(colors_bundle: Path, tmp_path: Path, installed: dict[str, str]) -> None:
    Image.fromarray(picture(GREEN)[..., ::-1].copy()).save(tmp_path / "photo.jpg")
    (command,) = page_commands(PAGES / "sink.md", {"BUNDLE": colors_bundle})
    for more in ((), ("--append",)):
        done = edgebone(*command, *more, cwd=tmp_path, env=installed)
        assert done.returncode == 0, done.stderr
    columns, *rows = csv.reader((tmp_path / "seen.csv").read_text().splitlines())
    assert columns == ["source", "frame", "position_s", "result"]
    assert [(row[0], row[3].split()[0]) for row in rows] == [("photo.jpg", "green")] * 2
    done = edgebone("run", colors_bundle, tmp_path / "photo.jpg", "--out", "seen.csw", env=installed)
    assert done.returncode == 7
    assert "the name fits no kind of output" in done.stderr
    assert "NAME.csv" in done.stderr


def test_the_step_of_the_page_tells_what_was_seen(
    colors_bundle: Path, tmp_path: Path, installed: dict[str, str]
) -> None:
    write_video(tmp_path / "video.mp4", [RED] * 10 + [GREEN] * 10 + [BLUE] * 5, fps=10)
    (command,) = page_commands(PAGES / "step.md", {"BUNDLE": colors_bundle, "tally=60": "tally=1"})
    done = edgebone(*command, cwd=tmp_path, env=installed)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (tmp_path / "tallies.jsonl").read_text().splitlines()]
    assert [(event["frame"], event["frames"], event["seen"]) for event in events] == [
        (10, 11, {"red": 10, "green": 1}),
        (20, 10, {"green": 9, "blue": 1}),
    ]
    assert done.stdout.splitlines()[0] == "video.mp4: not told yet: {'blue': 4}"
    done = edgebone(*command[:3], "--step", "tally=0", cwd=tmp_path, env=installed)
    assert (done.returncode, done.stderr.startswith("edgebone: tally=SECONDS takes a number above 0")) == (1, True)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["npx://shots"], 4, "npx:// is not a kind of source that edgebone reads: did you mean npz? give a picture"),
        (["photo.png", "--out", "mqtt://u:secret@h"], 7, "mqtt://: no sink has this scheme; results go to"),
        (["photo.png", "--step", "taly"], 1, "there is no step taly; did you mean tally? there are tally"),
    ],
)
def test_what_nobody_brings_is_refused_with_what_there_is(
    options: list[str], code: int, said: str, colors_bundle: Path, tmp_path: Path, installed: dict[str, str]
) -> None:
    Image.fromarray(picture(GREEN)).save(tmp_path / "photo.png")
    done = edgebone("run", colors_bundle, *options, cwd=tmp_path, env=installed)
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert said in line
    assert "secret" not in line


FAULTS = {
    "import": "raise RuntimeError('no licence\\nand more')",
    "open": "def opened(*_, **__): raise RuntimeError('no licence\\nand more')",
    "another object": "def opened(*_, **__): return 'a cat'",
    "frame": """
class Toy:
    name, live, in_memory, fps, frame_count = "toy", False, False, None, None
    looks_itself, files = False, ""
    def fail(self, *_): raise RuntimeError('no licence\\nand more')
    def nothing(self, *_): return []
    read = write = look = fail
    interrupt = close = discard = prepare = refresh = draw = load_again = summary = nothing
def opened(*_, **__): return Toy()
""",
}
SAID = {
    "import": "cannot be loaded: no licence and more; update the package, or: pip uninstall toys",
    "open": "fails: no licence and more",
    "another object": "fails: it made 'a cat', which has no ",
    "frame": "fails: no licence and more",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_package_is_one_line_that_names_it(fault: str, colors_bundle: Path, tmp_path: Path) -> None:
    entries = {group: {"toy": "toys:opened"} for group in ("sources", "sinks", "steps")}
    env = write_package(tmp_path / "target", "toys", entries, toys=FAULTS[fault])
    Image.fromarray(picture(GREEN)).save(tmp_path / "photo.png")
    photo = str(tmp_path / "photo.png")
    for options, code, what in (
        (["toy://here"], 4, "source toy://"),
        ([photo, "--out", "toy://here"], 7, "sink toy://"),
        ([photo, "--step", "toy"], 1, "step toy"),
    ):
        done = edgebone("run", colors_bundle, *options, env=env)
        assert (done.returncode, done.stdout.count("\n") <= 1) == (code, True), done.stderr
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("edgebone: "))
        assert line.startswith(f"edgebone: {what} of the package toys {SAID[fault]}")


def test_what_two_packages_bring_is_refused_with_both(colors_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    write_package(target, "first", {"sources": {"toy": "toys:opened"}}, toys="raise SystemError")
    env = write_package(target, "second", {"sources": {"toy": "toys:opened"}})
    done = edgebone("run", colors_bundle, "toy://here", env=env)
    assert done.returncode == 4
    assert done.stderr == (
        "edgebone: source toy:// of the packages first and second cannot be loaded: each of them provides it; "
        "keep one of them: pip uninstall first or pip uninstall second\n"
    )


def test_a_package_replaces_nothing_of_edgebone(colors_bundle: Path, tmp_path: Path) -> None:
    thief = "open(__file__ + '.imported', 'w').close()"
    entries = {"sources": {"synthetic": "toys:opened"}, "sinks": {".jsonl": "toys:opened"}}
    env = write_package(tmp_path / "target", "toys", entries, toys=thief)
    out = tmp_path / "seen.jsonl"
    done = edgebone("run", colors_bundle, "synthetic://64x48@50?frames=2", "--out", out, env=env)
    assert done.returncode == 0, done.stderr
    assert out.exists()
    assert not (tmp_path / "target" / "toys.py.imported").exists()
