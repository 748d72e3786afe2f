"""The program itself, as a user starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgebone.sources.video import VideoFile
from support.bundles import tampered, two_heads_bundle, write_boxes_bundle, write_colors_bundle
from support.machine import needs
from support.pictures import BLUE, GREEN, RED, picture, write_video
from support.program import PROGRAM, edgebone, hear_ctrl_c, run_on_a_terminal

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not installed beside this Python")


def save(path: Path, color: tuple[int, int, int] = GREEN) -> Path:
    Image.fromarray(picture(color)[..., ::-1].copy()).save(path)
    return path


def fails(code: int, words: str, *arguments: object, lines: int = 1, **settings: Any) -> None:
    """The program says one thing on stderr, nothing else, and exits with the code."""
    done = edgebone(*arguments, **settings)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("edgebone: ")
    assert len(done.stderr.splitlines()) == lines, done.stderr


def refuses(words: str, *arguments: object) -> None:
    """Wrong usage: exit code 2 and a box that says what is wrong."""
    done = edgebone(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    flat = " ".join(done.stderr.replace("│", " ").split())
    assert words in flat


@pytest.mark.parametrize("command", ["", "run", "bench", "eval", "inspect", "doctor"])
def test_help_is_there(command: str) -> None:
    done = edgebone(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert done.stderr == ""


def test_the_root_help_lists_the_commands_and_the_exit_codes() -> None:
    flat = " ".join(edgebone("--help").stdout.replace("│", " ").split())
    for word in ("run", "bench", "eval", "inspect", "doctor", "3 bundle", "4 source", "5 engine", "130 interrupted"):
        assert word in flat


def test_the_version_is_the_packages() -> None:
    import edgebone as package

    assert edgebone("--version").stdout == f"edgebone {package.__version__}\n"


def test_wrong_usage_is_exit_code_2(colors_bundle: Path, tmp_path: Path) -> None:
    image = save(tmp_path / "a.png")
    refuses("No such command", "runn")
    refuses("Missing argument", "run")
    refuses("Missing argument", "run", colors_bundle)
    refuses("No such option", "run", colors_bundle, image, "--colour")
    refuses("--threads", "run", colors_bundle, image, "--threads", 0)
    refuses("--top-k", "run", colors_bundle, image, "--top-k", 0)
    refuses("--frames", "run", colors_bundle, image, "--frames", -1)
    refuses("WIDTHxHEIGHT", "bench", colors_bundle, "--frame", "big")
    refuses("WIDTHxHEIGHT", "bench", colors_bundle, "--frame", "0x5")
    for option in ("--video", "--out"):
        refuses("a video needs a single source", "run", colors_bundle, image,
                "synthetic://8x8@30", option, tmp_path / "o.mp4")  # fmt: skip
    refuses("overwrite each other", "run", colors_bundle, image,
            "--jsonl", tmp_path / "o.jsonl", "--out", tmp_path / "o.jsonl")  # fmt: skip
    assert edgebone().returncode == 2


@pytest.mark.parametrize("command", ["run", "inspect", "doctor", "bench", "eval"])
def test_a_bundle_that_cannot_be_read_is_exit_code_3(tmp_path: Path, command: str) -> None:
    save(tmp_path / "a.png")
    bundle = write_colors_bundle(tmp_path / "a.bundle")
    more: dict[str, list[object]] = {"run": [tmp_path / "a.png"], "eval": ["--data", tmp_path]}
    rest = more.get(command, [])
    fails(3, "no such bundle; make one with: edgebone export", command, tmp_path / "missing", *rest)
    fails(3, "not a bundle", command, tmp_path / "a.png", *rest)
    (bundle / "golden/image.png").write_bytes(b"altered")
    fails(3, "golden/image.png was altered or damaged", command, bundle, *rest)


@pytest.mark.slow
def test_sources_that_cannot_be_read_are_exit_code_4(colors_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    (tmp_path / "zero.jpg").touch()
    good = save(tmp_path / "good.jpg")
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:300])
    (tmp_path / "huge.png").write_bytes(b"P6 60000 60000 255\n" + bytes(99))
    whole = write_video(tmp_path / "v.mp4", [RED] * 30).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    for name, words in {
        "empty": "the folder holds no pictures", "text.jpg": "neither a picture nor a video",
        "text.mp4": "neither a picture nor a video", "zero.jpg": "the file is empty", "cut.jpg": "damaged or truncated",
        "huge.png": "too large: the limit is 51,000,000 pixels", "cut.mp4": "damaged or truncated",
        "missing.jpg": "no such file", "*.tiff": "no file matches",
    }.items():  # fmt: skip
        fails(4, words, "run", colors_bundle, tmp_path / name, "--json", "--jsonl", tmp_path / "o.jsonl")
    fails(4, "ftp:// is not a kind of source", "run", colors_bundle, "ftp://user:secret@cam")
    fails(4, "usb:99 cannot be opened", "run", colors_bundle, "usb:99")
    fails(4, "write a synthetic camera as", "run", colors_bundle, "synthetic://big")
    fails(4, "no such file", "eval", colors_bundle, "--data", tmp_path / "missing.csv")
    assert not (tmp_path / "o.jsonl").exists()


def test_a_video_that_breaks_off_keeps_whole_lines_and_no_video(colors_bundle: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.avi", [RED] * 60)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    out, video = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    fails(4, "the video ends after", "run", colors_bundle, source, "--jsonl", out, "--video", video)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert len(lines) > 10
    assert sorted(child.name for child in tmp_path.iterdir()) == ["o.jsonl", "v.avi"]


def test_engines_that_do_not_fit_are_exit_code_5(colors_bundle: Path, tmp_path: Path) -> None:
    image = save(tmp_path / "a.png")
    fails(5, "there is no engine tpu; choose auto", "run", colors_bundle, image, "--engine", "tpu")
    fails(5, "there is no precision int1", "run", colors_bundle, image, "--precision", "int1")
    fails(
        5,
        "openvino supports bf16",
        "run",
        colors_bundle,
        image,
        "--engine",
        "onnxruntime",
        "--precision",
        "bf16",
        lines=2,
    )
    fails(5, "there is no engine tpu", "bench", colors_bundle, "--engine", "tpu")


def test_where_no_engine_is_installed_each_candidate_has_its_pip_line(colors_bundle: Path, tmp_path: Path) -> None:
    image = save(tmp_path / "a.png")
    program = f"""
import sys
sys.modules["onnxruntime"] = sys.modules["openvino"] = None
from edgebone.cli import main
sys.argv = ["edgebone", "run", {str(colors_bundle)!r}, {str(image)!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    lines = done.stderr.splitlines()
    assert len(lines) == 7
    assert all("pip install" in line or "no NVIDIA GPU" in line for line in lines[1:])


@needs("onnxruntime")
@needs("openvino")
def test_an_engine_that_does_not_open_is_noted_and_the_next_one_used(colors_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('libopenvino.so: cannot open shared object file')")
    image = save(tmp_path / "a.png")
    done = edgebone("run", colors_bundle, image, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0
    assert "green" in done.stdout
    note = done.stderr.splitlines()[0]
    assert "openvino is installed but cannot be imported: libopenvino.so" in note
    assert note.endswith("continuing with the next engine")


def test_places_that_cannot_be_written_are_exit_code_7(colors_bundle: Path, tmp_path: Path) -> None:
    image = save(tmp_path / "a.png")
    (tmp_path / "file").touch()
    for option, target in (
        ("--jsonl", "file/o.jsonl"), ("--jsonl", "."), ("--jsonl", "missing/o.jsonl"), ("--video", "file/o.mp4"),
        ("--video", "missing/o.avi"),
    ):  # fmt: skip
        done = edgebone("run", colors_bundle, image, option, tmp_path / target)
        assert done.returncode == 7
        assert "cannot be written" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    fails(7, "videos can be written as .mp4", "run", colors_bundle, image, "--video", tmp_path / "o.webm")
    assert sorted(child.name for child in tmp_path.iterdir()) == ["a.png", "file"]


def test_pictures_print_a_line_each(colors_bundle: Path, tmp_path: Path) -> None:
    names = [save(tmp_path / f"{name} ☂.png", color) for name, color in (("b", BLUE), ("g", GREEN), ("r", RED))]
    done = edgebone("run", colors_bundle, *names)
    assert done.returncode == 0
    labels = [line.split(": ", 1)[1].split()[0] for line in done.stdout.splitlines()]
    assert labels == ["blue", "green", "red"]
    assert [line.split(": ", 1)[0] for line in done.stdout.splitlines()] == [str(name) for name in names]
    assert done.stdout.splitlines()[0].count("%") == 3
    assert done.stderr.startswith("3 frames in ")
    assert "\x1b" not in done.stdout + done.stderr
    assert edgebone("run", colors_bundle, tmp_path).stdout == done.stdout
    assert edgebone("run", colors_bundle, names[0], "--top-k", 1).stdout.count("%") == 1
    assert edgebone("run", colors_bundle, *names, "--frames", 2).stdout.count("\n") == 2


def test_files_run_for_throughput_and_cameras_and_single_pictures_for_latency(
    colors_bundle: Path, tmp_path: Path
) -> None:
    one, _ = save(tmp_path / "1.png"), save(tmp_path / "2.png")
    assert ", throughput hint (" in run_on_a_terminal("run", colors_bundle, tmp_path)
    assert ", latency hint (" in run_on_a_terminal("run", colors_bundle, one)
    assert ", latency hint (" in run_on_a_terminal("run", colors_bundle, tmp_path, "--hint", "latency")
    assert ", latency hint (" in run_on_a_terminal("run", colors_bundle, "synthetic://64x48@30", "--frames", 2)


def test_json_lines_are_whole_and_alone_on_stdout(colors_bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [RED] * 5 + [BLUE] * 5)
    done = edgebone("run", colors_bundle, video, save(tmp_path / "a.png"), "--json", "--jsonl", tmp_path / "o.jsonl")
    assert done.returncode == 0
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stdout == (tmp_path / "o.jsonl").read_text()
    of_video = [line for line in found if line["source"] == str(video)]
    assert [line["frame"] for line in of_video] == list(range(10))
    assert [line["classes"][0]["label"] for line in of_video] == ["red"] * 5 + ["blue"] * 5
    assert of_video[5]["position_s"] == 0.2
    assert len(found) == 11


def test_a_video_prints_its_summary_and_is_written_annotated(colors_bundle: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mp4", [RED] * 15 + [BLUE] * 5, 29.97)
    done = edgebone("run", colors_bundle, source, "--video", tmp_path / "o.mp4")
    assert done.returncode == 0
    assert done.stdout == f"{source}: 20 frames, most often: red 75 %, blue 25 %\n"
    written = VideoFile(tmp_path / "o.mp4")
    assert written.fps == pytest.approx(29.97, abs=0.01)
    assert written.frame_count == 20
    written.close()
    mixed = edgebone("run", colors_bundle, source, save(tmp_path / "a.png"))
    assert "20 frames, most often: red 75 %" in mixed.stdout
    assert "a.png: green" in mixed.stdout


def test_a_video_of_pictures_holds_each_of_them(colors_bundle: Path, tmp_path: Path) -> None:
    names = [save(tmp_path / f"{n}.png", color) for n, color in enumerate((BLUE, GREEN, RED))]
    assert edgebone("run", colors_bundle, *names, "--video", tmp_path / "o.avi").returncode == 0
    written = VideoFile(tmp_path / "o.avi")
    assert (written.fps, written.frame_count) == (1.0, 3)
    written.close()


def test_file_names_and_labels_outside_the_terminals_encoding_do_not_stop_it(
    colors_bundle: Path, tmp_path: Path
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    save(tmp_path / "ok.png").rename(odd)
    for extra in ([], ["--json"]):
        for encoding in ("utf-8", "ascii"):
            done = edgebone(
                "run", colors_bundle, odd, "--top-k", 4, *extra, env={"PYTHONIOENCODING": encoding}, errors="replace"
            )
            assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
            assert "green" in done.stdout


def test_two_heads_print_and_draw(tmp_path: Path) -> None:
    bundle = two_heads_bundle(tmp_path / "two.bundle")
    image = save(tmp_path / "a.png")
    done = edgebone("run", bundle, image, "--video", tmp_path / "o.avi", "--top-k", 1)
    assert done.stdout == f"{image}: classification: green 100.0 %; colour: embedding of 3 numbers, length 250\n"
    assert list(json.loads(edgebone("run", bundle, image, "--json").stdout)["heads"]) == ["classification", "colour"]
    assert (tmp_path / "o.avi").exists()


def test_boxes_and_areas_print_and_draw(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "b.bundle")
    image = save(tmp_path / "a.png")
    done = edgebone("run", bundle, image, "--video", tmp_path / "o.avi", "--jsonl", tmp_path / "o.jsonl")
    assert done.stdout == f"{image}: found: 1 green (best 98.0 %); areas: green 100.0 %\n", done.stderr
    (line,) = map(json.loads, (tmp_path / "o.jsonl").read_text().splitlines())
    assert line["heads"]["found"]["detections"] == [
        {"bbox": [0, 0, 64, 48], "category_id": 1, "label": "green", "score": 0.980392}
    ]  # fmt: skip
    assert line["heads"]["areas"]["segments"][0]["area"] == 64 * 48
    assert edgebone("run", bundle, image, "--score", 0.99).stdout.startswith(f"{image}: found: nothing found;")
    assert "3 detections" not in done.stdout
    video = write_video(tmp_path / "v.avi", [GREEN] * 4)
    assert edgebone("run", bundle, video).stdout == f"{video}: 4 frames, most often: green 100 %\n"


def test_settings_that_no_head_has_are_refused(colors_bundle: Path, tmp_path: Path) -> None:
    image = save(tmp_path / "a.png")
    done = edgebone("run", colors_bundle, image, "--score", 0.5)
    assert done.returncode == 3
    assert "no head of this bundle has the setting score (heads: classification: classification@1)" in done.stderr
    done = edgebone("run", write_boxes_bundle(tmp_path / "b"), image, "--top-k", 2)
    assert done.returncode == 3
    assert "the setting top_k" in done.stderr


def test_a_reader_that_stops_ends_the_run_quietly(colors_bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [RED] * 200)
    for extra in ("--json", f"--json --jsonl {tmp_path}/o.jsonl"):
        line = f"{PROGRAM} run {colors_bundle} {video} {extra} | head -n 1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
        first, code = done.stdout.splitlines()
        assert json.loads(first)["frame"] == 0
        assert code == "141"
        assert done.stderr == ""


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_signal_finishes_the_video_and_the_lines(
    colors_bundle: Path, tmp_path: Path, number: int, code: int, word: str, suffix: str
) -> None:
    out, video = tmp_path / "o.jsonl", tmp_path / f"o{suffix}"
    child = subprocess.Popen(
        [PROGRAM, "run", colors_bundle, "synthetic://64x48@50", "--jsonl", out, "--video", video],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while (not out.exists() or out.read_bytes().count(b"\n") < 5) and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(number)
    stdout, stderr = child.communicate(timeout=30)
    assert child.returncode == code, stderr
    assert stderr.splitlines()[-1] == f"edgebone: {word}"
    assert "Traceback" not in stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert out.read_bytes().endswith(b"\n")
    assert len(lines) >= 5
    # The signal may come between the frame's line, its picture in the video and its place in the summary.
    summed = re.search(r"(\d+) frames", stdout)
    assert summed and abs(int(summed[1]) - len(lines)) <= 1
    found = 0
    written = VideoFile(video)
    while written.read() is not None:
        found += 1
    written.close()
    assert abs(found - len(lines)) <= 1
    assert sorted(child.name for child in tmp_path.iterdir()) == sorted([out.name, video.name])


@pytest.mark.slow
def test_a_signal_at_any_moment_gives_one_line_and_its_code(colors_bundle: Path) -> None:
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        for delay_s in np.linspace(0.25, 0.9, 8):
            child = subprocess.Popen(
                [PROGRAM, "run", colors_bundle, "synthetic://64x48@50"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c,
            )  # fmt: skip
            time.sleep(float(delay_s))
            child.send_signal(number)
            _, stderr = child.communicate(timeout=30)
            if child.returncode == -number:
                continue  # Python itself was still starting.
            assert child.returncode == code, stderr
            assert "Traceback" not in stderr


def test_inspect_shows_the_bundle(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "a.zip", (1, 4))
    done = edgebone("inspect", bundle)
    assert done.returncode == 0
    for words in (
        "images: uint8[batch,32,32,3]",
        "4 labels: blue, green, red, …",
        "batch 1-4",
        "crop of 36 px to 32x32",
    ):
        assert words in done.stdout
    found = json.loads(edgebone("inspect", bundle, "--json").stdout)
    assert found["schema"] == 1
    assert found["heads"]["classification"]["labels"][3] == "traffic light ☂ 2"
    assert set(found["files"]) == {"onnx/fp32.onnx", "golden/image.png", "golden/tensors.npz"}


def test_doctor_describes_the_machine_with_and_without_a_bundle(colors_bundle: Path) -> None:
    alone = json.loads(edgebone("doctor", "--json").stdout)
    assert set(alone) == {"machine", "engines"}
    assert {"engine", "precision", "fits", "reason"} == set(alone["engines"][0])
    done = edgebone("doctor", colors_bundle)
    assert done.returncode == 0
    assert "preprocess" in done.stdout
    assert "FAILED" not in done.stdout
    found = json.loads(edgebone("doctor", colors_bundle, "--json").stdout)
    fits = [(item["engine"], item["precision"]) for item in found["engines"] if item["fits"]]
    assert [(replay["engine"], replay["precision"]) for replay in found["replays"]] == fits
    assert all(replay["passed"] for replay in found["replays"])
    assert found["preprocess_off_by"] == 0
    assert edgebone("doctor").returncode == 0


def test_doctor_fails_where_the_recording_is_another(tmp_path: Path) -> None:
    path = tampered(tmp_path / "a.bundle", lambda tensors: tensors["logits"].__imul__(-1))
    done = edgebone("doctor", path)
    assert done.returncode == 5
    assert "FAILED" in done.stdout
    assert "the golden sample does not replay on: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    as_json = edgebone("doctor", path, "--json")
    assert as_json.returncode == 5
    assert not any(replay["passed"] for replay in json.loads(as_json.stdout)["replays"])
    shape = tampered(tmp_path / "b.bundle", lambda tensors: tensors.update(logits=np.zeros((1, 3), np.float32)))
    assert edgebone("doctor", shape).returncode == 5
    dark = tampered(tmp_path / "c.bundle", lambda tensors: tensors["input"].__isub__(5))
    assert "preprocessing" in edgebone("doctor", dark).stderr


def test_eval_counts(colors_bundle: Path, tmp_path: Path) -> None:
    for name, color in (("b", BLUE), ("g", GREEN), ("r", RED)):
        save(tmp_path / f"{name}.png", color)
    (tmp_path / "labels.csv").write_text("file,class_index\nb.png,0\ng.png,1\nr.png,0\n")
    found = json.loads(edgebone("eval", colors_bundle, "--data", tmp_path / "labels.csv", "--json").stdout)
    assert {key: found[key] for key in ("top1", "top5", "n")} == {"top1": 66.667, "top5": 100.0, "n": 3}
    done = edgebone("eval", colors_bundle, "--data", tmp_path / "labels.csv")
    assert done.stdout.startswith("top-1 66.67 %, top-5 100.00 % of 3 pictures (")
    assert done.stderr == ""
    (tmp_path / "r.png").write_bytes(b"damaged")
    done = edgebone("eval", colors_bundle, "--data", tmp_path / "labels.csv")
    assert done.returncode == 4
    assert done.stdout.startswith("top-1 100.00 %, top-5 100.00 % of 2 pictures (")
    assert "r.png" in done.stderr


@needs("onnxruntime")
@pytest.mark.slow
def test_bench_gives_every_figure_for_every_engine(colors_bundle: Path) -> None:
    done = edgebone("bench", colors_bundle, "--seconds", 0.3, "--frame", "64x48", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert set(found) == {"bundle", "machine", "disturbed", "results", "failed"}
    assert found["failed"] == []
    assert "onnxruntime fp32" in [f"{row['engine']} {row['precision']}" for row in found["results"]]
    for row in found["results"]:
        for stage in ("pre", "infer", "decode", "total"):
            spread = row[stage]
            assert 0 < spread["p50_ms"] <= spread["p90_ms"] <= spread["p99_ms"] <= spread["max_ms"]
        assert min(row["fps"], row["fps_files"], row["engine_fps"], row["load_ms"], row["peak_memory_mb"]) > 0
        assert row["frame_hw"] == [48, 64]
    table = edgebone("bench", colors_bundle, "--seconds", 0.3, "--frame", "64x48", "--engine", "onnxruntime")
    assert table.returncode == 0
    assert "onnxruntime fp32" in table.stdout
    assert "openvino fp32" not in table.stdout
    assert "frame 64 wide, 48 high" in table.stdout
