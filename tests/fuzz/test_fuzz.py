"""Ten seconds of mutated inputs for everything that reads what others made; and a harness that notices."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import seeds
from harness import Outcome, Target, fuzz
from hostile import HOSTILE
from mutators import mutate_bytes, of_members, unzip
from targets import TARGETS

from edgebone.core.bundle import open_bundle
from edgebone.core.errors import EdgeboneError
from fuzz import plain

PROGRAM = Path(__file__).with_name("fuzz.py")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_ten_seconds(target: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), target, "--seconds", "10", "--out", str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    texts = "".join(path.read_text() for path in sorted(tmp_path.glob("*.txt")))
    assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}\n{texts}"
    inputs, _, accepted, refused = map(float, ran.stdout.splitlines()[1].split()[1:5])
    assert inputs == accepted + refused
    assert accepted and refused


def directed(target: str, folder: Path) -> list[bytes]:
    """The good inputs, and behind them those that were made to do harm."""
    return [*TARGETS[target].seeds(folder), *HOSTILE[target](_fresh(folder / "hostile"))]


def _fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("target", HOSTILE)
def test_what_once_did_harm_is_refused(target: str, tmp_path: Path) -> None:
    good_ones = len(TARGETS[target].seeds(_fresh(tmp_path / "good")))
    bad_ones = len(HOSTILE[target](_fresh(tmp_path / "bad")))
    both = replace(TARGETS[target], seeds=partial(directed, target))
    found = fuzz(target, both, tmp_path, inputs=good_ones + bad_ones)
    texts = "".join(path.read_text() for path in sorted(tmp_path.glob("*.txt")))
    assert (dict(found.failures), found.accepted, found.refused) == ({}, good_ones, bad_ones), texts


def good(folder: Path) -> list[bytes]:
    return [b"good"]


def bad(data: bytes, rng: random.Random) -> bytes:
    return b"bad"


def raises(data: bytes, place: Path) -> None:
    if data == b"bad":
        raise KeyError("nothing of ours")


def dies(data: bytes, place: Path) -> None:
    if data == b"bad":
        os.kill(os.getpid(), 11)


def hangs(data: bytes, place: Path) -> None:
    if data == b"bad":
        time.sleep(3600)


def fills_memory(data: bytes, place: Path) -> None:
    if data == b"bad":
        bytearray(1200 << 20)


def reads_outside(data: bytes, place: Path) -> None:
    if data == b"bad":
        Path("/etc/passwd").read_bytes()


def reads_natively(data: bytes, place: Path) -> None:
    if data == b"bad":
        import cv2

        cv2.imread(str(place.parent / "outside" / "secret"))


def starts_a_program(data: bytes, place: Path) -> None:
    if data == b"bad":
        subprocess.run(["true"], check=True)


def refuses(data: bytes, place: Path) -> None:
    if data == b"bad":
        raise EdgeboneError("no")


def outcome(use: object, folder: Path, inputs: int = 3) -> Outcome:
    return fuzz("own", Target(good, bad, use), folder, inputs=inputs)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("use", "kind"),
    [
        (raises, "traceback"),
        (dies, "crash"),
        (fills_memory, "memory"),
        (reads_outside, "outside"),
        (reads_natively, "outside"),
        (starts_a_program, "outside"),
    ],
)
def test_the_harness_notices_a_failure_saves_the_input_and_goes_on(use: object, kind: str, tmp_path: Path) -> None:
    found = outcome(use, tmp_path)
    assert dict(found.failures) == {kind: 2}
    assert (found.executed, found.refused) == (3, 0)
    assert [path.read_bytes() for path in sorted(tmp_path.glob(f"own-{kind}-?"))] == [b"bad", b"bad"]
    assert (tmp_path / f"own-{kind}-1.txt").read_text()


@pytest.mark.slow
def test_the_harness_ends_an_input_that_hangs(tmp_path: Path) -> None:
    found = outcome(hangs, tmp_path, inputs=2)
    assert dict(found.failures) == {"hang": 1}
    assert found.accepted == 1
    assert (tmp_path / "own-hang-1").read_bytes() == b"bad"


def test_the_harness_counts_refusals_and_makes_the_same_inputs_again(tmp_path: Path) -> None:
    found = outcome(refuses, tmp_path, inputs=5)
    assert (found.executed, found.accepted, found.refused, dict(found.failures)) == (5, 1, 4, {})
    made = [mutate_bytes(b"0123456789" * 9, random.Random(f"3/{number}")) for number in range(40)]
    assert made == [mutate_bytes(b"0123456789" * 9, random.Random(f"3/{number}")) for number in range(40)]
    assert len(set(made)) > 30


def test_the_table_of_targets_is_printed_and_failures_end_in_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TARGETS, "own", Target(good, bad, raises))
    monkeypatch.setitem(TARGETS, "fine", Target(good, bad, refuses))
    assert plain(["fine"], tmp_path, float("inf"), 3, 0) == 0
    assert plain(["fine", "own"], tmp_path, float("inf"), 3, 0) == 1
    rows = capsys.readouterr().out.splitlines()
    assert rows[-2].split()[:1] + rows[-2].split()[3:] == [
        "own",
        "1",
        "0",
        "2",
        "0",
        "0",
        "0",
        "0",
        rows[-2].split()[-1],
    ]
    assert "KeyError" in rows[-1]


def test_hashes_are_put_right_after_a_mutation(tmp_path: Path) -> None:
    whole = seeds.small_bundles(tmp_path)[0]
    mutate = of_members("manifest.json", (".png",), lambda data, rng: data + b"!")
    made = next(made for number in range(99) if b'"schema": 1' in (made := mutate(whole, random.Random(number))))
    assert unzip(made)["golden/image.png"].endswith(b"!")
    path = tmp_path / "a.zip"
    path.write_bytes(made)
    listed = json.loads(unzip(made)["manifest.json"])["files"]
    assert listed["golden/image.png"]["size"] == len(unzip(made)["golden/image.png"])
    with open_bundle(path) as bundle:
        assert bundle.read("golden/image.png").endswith(b"!")
