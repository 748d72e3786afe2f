"""What else a machine had to do while it was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgebone.core.quiet import Disturbed, Watch
from support.program import edgebone

TICKS = os.sysconf("SC_CLK_TCK")


def system(root: Path, busy_s: float, stolen_s: float = 0.0, throttled: int = 0, held_s: float = 0.0) -> Path:
    """The files of a system since whose start so much has happened."""
    core = root / "sys/devices/system/cpu/cpu0/thermal_throttle"
    for folder in (root / "proc", core, root / "sys/fs/cgroup"):
        folder.mkdir(parents=True, exist_ok=True)
    ticks = [int(busy_s * TICKS), 0, 0, 0, 0, 0, 0, int(stolen_s * TICKS), 0, 0]
    (root / "proc/stat").write_text(f"cpu  {' '.join(map(str, ticks))}\ncpu0 0 0 0\n")
    (core / "core_throttle_count").write_text(f"{throttled}\n")
    (root / "sys/fs/cgroup/cpu.stat").write_text(f"usage_usec 5\nnr_throttled 9\nthrottled_usec {int(held_s * 1e6)}\n")
    return root


@pytest.mark.parametrize(
    ("meanwhile", "words"),
    [
        ({}, ""),
        ({"busy_s": 1000.0}, "other processes kept"),
        ({"stolen_s": 1000.0}, "the hypervisor took"),
        ({"throttled": 12}, "cores were throttled by heat 12 times"),
        ({"held_s": 1.5}, "the container's limit of CPU time stopped its processes for 1.5 s"),
    ],
)
def test_what_disturbed_is_said(meanwhile: dict[str, float], words: str, tmp_path: Path) -> None:
    watch = Watch(system(tmp_path, 0.0))
    time.sleep(0.02)
    system(tmp_path, **{"busy_s": 0.0, **meanwhile})  # type: ignore[arg-type]
    found = watch.until_now()
    assert found is not None
    assert str(found).startswith(words)
    assert found.is_quiet == (not words)


def test_what_is_measured_does_not_count_as_a_disturbance(tmp_path: Path) -> None:
    watch, before = Watch(system(tmp_path, 0.0)), os.times()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.4: pass"], check=True)
    after = os.times()
    used_s = sum(after[:4]) - sum(before[:4])
    assert used_s > 0.3
    system(tmp_path, used_s)
    found = watch.until_now()
    assert found is not None
    assert found.others_cores < 0.1


def test_a_system_that_says_nothing_gives_nothing(tmp_path: Path) -> None:
    assert Watch(tmp_path).until_now() is None


def test_bench_says_that_the_machine_was_busy(colors_bundle: Path) -> None:
    # It ends by itself: nothing may spin on where the tests are killed.
    other = subprocess.Popen([sys.executable, "-c", "import time\nwhile time.process_time() < 60: pass"])
    try:
        ran = edgebone("bench", colors_bundle, "--engine", "onnxruntime", "--seconds", "0.3", "--json")
    finally:
        other.kill()
        other.wait()
    disturbed = Disturbed(**json.loads(ran.stdout)["disturbed"])
    assert not disturbed.is_quiet
    assert f"the machine was busy: {disturbed}; measure again when it is idle" in ran.stderr
