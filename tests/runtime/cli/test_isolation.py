"""Nothing in the working folder, which is where bundles lie, is run as code; and no process outlives its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from edgebone.core.errors import SourceError
from edgebone.core.own_process import find_program, python_command, run_in_own_process
from edgebone.sources.gstreamer import Pipeline
from support.bundles import write_colors_bundle
from support.camera_servers import wait_for
from support.pictures import GREEN, picture
from support.program import PROGRAM

HOSTILE = ("numpy", "json", "edgebone", "runpy", "ctypes", "signal", "typer", "cv2", "onnxruntime", "sitecustomize")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder whose modules, if anybody imports them, leave a file behind."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(folder / name)!r} + '.ran', 'w')\n")
    return folder


def ran(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.ran")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "BUNDLE", "synthetic://64x48@100", "--frames", "3", "--restart"),
        ("bench", "BUNDLE", "--engine", "onnxruntime", "--seconds", "0.1"),
        pytest.param(("tune", "BUNDLE", "--eval", "PHOTOS", "--seconds", "0.1"), marks=pytest.mark.slow),
        ("doctor", "BUNDLE"),
        ("inspect", "BUNDLE"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_command_imports_what_lies_in_the_working_folder(
    hostile: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    bundle = write_colors_bundle(tmp_path / "colors.bundle")
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(picture(GREEN)[..., ::-1].copy()).save(photos / "green.png")
    words = [{"BUNDLE": str(bundle), "PHOTOS": str(photos)}.get(word, word) for word in arguments]
    done = subprocess.run([PROGRAM, *words], cwd=hostile, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert ran(hostile) == []


def test_a_module_that_is_run_in_a_process_of_its_own_sees_its_arguments_and_what_pythonpath_adds(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "asked_for.py").write_text(
        "import json, sys\n"
        "if __name__ == '__main__':\n"
        "    print(json.dumps([sys.argv[1:], '' in sys.path, __name__]))\n"
        "    sys.exit(' '.join(sys.argv[1:]) if len(sys.argv) > 3 else 0)\n"
    )
    monkeypatch.chdir(hostile)
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    assert run_in_own_process("asked_for", "a b", "-c") == (b'[["a b", "-c"], false, "__main__"]\n', "")
    assert run_in_own_process("asked_for", "it", "did", "not")[1] == "it did not"
    assert ran(hostile) == []


def test_a_program_is_not_taken_from_the_working_folder(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = hostile / "gst-launch-1.0"
    planted.write_text(f"#!/bin/sh\ntouch {hostile}/gst.ran\n")
    planted.chmod(0o755)
    monkeypatch.chdir(hostile)
    # What an unset variable at its end leaves in a PATH, and what people write into it.
    monkeypatch.setenv("PATH", f":.:{hostile.name}:/nowhere")
    assert find_program("gst-launch-1.0") is None
    with pytest.raises(SourceError, match="is not installed"):
        Pipeline(["videotestsrc"], (2, 2), "camera")
    assert ran(hostile) == []
    monkeypatch.setenv("PATH", f":{hostile}")
    assert find_program("gst-launch-1.0") == str(planted)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_no_engine_reports_its_use(engine: str, colors_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    command = [PROGRAM, "run", colors_bundle, "synthetic://64x48@50", "--frames", "3", "--engine", engine]
    subprocess.run(command, env={**environment, "HOME": str(home)}, check=True, capture_output=True)
    # Where onnxruntime keeps who it reports as, and what it has not sent yet.
    kept = {str(path.relative_to(home)) for path in home.rglob("*")}
    assert {name for name in kept if not f"{name}/".startswith(".cache/edgebone/")} <= {".cache"}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process that its parent has ended")
def test_a_run_ends_with_its_killed_supervisor_and_finishes_its_file(colors_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    supervisor = subprocess.Popen(
        [PROGRAM, "run", colors_bundle, "synthetic://64x48@50", "--jsonl", out, "--restart"], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") > 3)
        (run,) = children(supervisor.pid)
        supervisor.kill()
        supervisor.wait()
        wait_for(lambda: not is_running(run))
    finally:
        supervisor.kill()
    assert out.read_bytes().endswith(b"\n")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process that its parent has ended")
def test_what_starts_after_its_parent_has_ended_ends_at_once() -> None:
    command = python_command("this")
    # Its parent, as it is told, is a process that has ended.
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = subprocess.run([part if part != str(os.getpid()) else str(gone.pid) for part in command], check=False)
    assert done.returncode == -signal.SIGTERM
