"""``edgebone compare``: the same head on several backbones, by the command that users type."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from edgebone.core.machine import Machine
from edgebone_export.errors import ExportError
from edgebone_export.heads.fit.compare import Backbones, Compared, advice, compare, pareto_front
from edgebone_export.heads.fit.work import Settings
from support.networks import classifier, write_network
from support.pictures import write_folder
from support.program import edgebone as program

# No test finds what another one kept.
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("compare")
    return [
        write_network(folder / "small.bundle", classifier(batch="batch"), (1, 4)),
        write_network(folder / "other.bundle", classifier(seed=7, batch="batch"), (1, 4)),
    ]


def row(name: str, accuracy: float, p50_ms: float, interval95: tuple[float, float], on_front: bool = True) -> Compared:
    return Compared(
        name, accuracy, interval95, 100, None, p50_ms, p50_ms, "openvino fp32", 1.0, 1.0, 1.0, on_front, ""
    )  # fmt: skip


def test_the_front_is_what_none_beats() -> None:
    assert pareto_front([(1, 0.5), (2, 0.7), (3, 0.6), (3, 0.7), (4, 0.9)]) == [True, True, False, False, True]
    assert pareto_front([(1, 0.5), (1, 0.5)]) == [True, True]


def test_advice_says_what_a_step_along_the_front_brings_and_costs() -> None:
    rows = [row("small", 0.8, 2.0, (0.75, 0.84)), row("large", 0.82, 5.0, (0.77, 0.86))]
    assert advice(rows)[1] == (
        "large is 2.0 points more accurate than small (their intervals overlap) and takes 2.50 times as long"
    )
    rows[1] = row("large", 0.95, 5.0, (0.9, 0.98))
    assert "overlap" not in advice(rows)[1]
    assert advice(rows[:1]) == ["small is the fastest, and none is more accurate"]


@pytest.mark.slow
def test_backbones_are_compared_and_one_that_fails_does_not_lose_the_others(
    bundles: list[Path], tmp_path: Path
) -> None:
    data = write_folder(tmp_path / "data", 10)
    plot, kept = tmp_path / "plot.png", tmp_path / "kept"
    done = program(
        "compare", "--data", data, "--backbones", f"{bundles[0]},no_such_net,{bundles[1]}", "--seconds", 0.1,
        "--plot", plot, "--keep-bundles", kept, "--json",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "edgebone: no_such_net: no model named no_such_net" in done.stderr
    found = json.loads(done.stdout)
    assert {item["name"] for item in found["rows"]} == {str(path) for path in bundles}
    assert found["machine"]["cores"] == Machine.probe().cores
    times = [item["p50_ms"] for item in found["rows"]]
    assert times == sorted(times)
    assert any(item["on_front"] for item in found["rows"])
    for item in found["rows"]:
        assert item["held_out"] == 6
        assert item["interval95"][0] <= item["accuracy"] <= item["interval95"][1]
        assert Path(item["bundle"]).parent == kept
        assert program("inspect", item["bundle"]).returncode == 0
    picture = cv2.imread(str(plot))
    assert picture is not None
    assert len({tuple(pixel) for pixel in picture.reshape(-1, 3)[::7]}) > 5


@pytest.mark.slow
def test_a_table_for_people_names_the_front(bundles: list[Path], tmp_path: Path) -> None:
    data, val = write_folder(tmp_path / "data", 6), write_folder(tmp_path / "val", 2, seed=50)
    both = ",".join(map(str, bundles))
    done = program(
        "compare", "--data", data, "--val", val, "--backbones", both, "--kind", "prototype", "--seconds", 0.1
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "prototype heads on data" in lines[0]
    assert sum(str(path) in line and "openvino fp32" in line for path in bundles for line in lines) == 2
    assert any(line.startswith("*") and ".bundle" in line for line in lines)
    assert "6 held-out pictures" in done.stdout
    assert "is the fastest" in done.stdout


@pytest.mark.parametrize(
    ("names", "kind", "said"),
    [
        ((), "linear", "no backbones to compare"),
        (("resnet18", "resnet18"), "linear", "is listed twice"),
        (("resnet18",), "embedding", "have no accuracy to compare"),
    ],
)
def test_what_says_nothing_to_compare_by_is_refused(
    tmp_path: Path, names: tuple[str, ...], kind: str, said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        compare(tmp_path, Backbones(names), Settings(kind=kind))
