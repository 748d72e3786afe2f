"""Kinds of heads that other packages bring, installed as a user would install them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support import ROOT
from support.networks import classifier, write_network
from support.pictures import write_folder
from support.program import edgebone, page_commands, write_package

PAGE = ROOT / "docs" / "extending" / "head.md"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle and labelled pictures."""
    folder = tmp_path_factory.mktemp("heads")
    write_network(folder / "net.bundle", classifier(batch="batch"), (1, 4))
    write_folder(folder / "pictures", each=6)
    return folder


def test_the_commands_of_the_page_fit_a_head_and_run_it(data: Path, tmp_path: Path, installed: dict[str, str]) -> None:
    photo = data / "pictures" / "green" / "0.png"
    places = {"BUNDLE": data / "net.bundle", "pictures": data / "pictures", "photo.jpg": photo}
    env = {**installed, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    fit, run = page_commands(PAGE, places)
    done = edgebone(*fit, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "nearest-mean: 15 pictures to fit on; accuracy 100.0 % on held-out pictures" in done.stdout
    # The device needs nothing of the package.
    done = edgebone(*run, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"][0]["label"] == "green"


TOY = """
from edgebone_export.heads.kinds import HeadKind, HeadSettings
def fit(given, settings):
    {fit}
KIND = HeadKind("{name}", "classification", "toy", "vectors", HeadSettings, "edgebone_export.heads.data.sets:classes",
                "toys:{place}", "toys:lines")
"""


ODD = """
from dataclasses import dataclass
from typing import Annotated
from edgebone_export.heads.kinds import HeadKind, HeadSettings, Option
@dataclass(frozen=True)
class OddSettings(HeadSettings):
    n: Annotated[int, Option("how many")] = 1
KIND = HeadKind("odd", "classification", "odd", "vectors", OddSettings, "odds:data", "odds:fit", "odds:lines")
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"fit": "raise RuntimeError('no licence')"}, "head kind toy of the package toys fails: no licence"),
        ({"fit": "return 'a cat'"}, "the head kind toy is at fault: its fit returned 'a cat', no FittedHead"),
        ({"place": "away"}, "head kind toy of the package toys cannot be loaded: "),
    ],
)
def test_a_faulty_fit_is_one_line_that_names_the_kind(
    what: dict[str, str], said: str, data: Path, tmp_path: Path
) -> None:
    module = TOY.format(**{"fit": "pass", "name": "toy", "place": "fit", **what})
    entries = {"heads": {"toy": "toys:KIND"}}
    env = {
        **write_package(tmp_path / "target", "toys", entries, toys=module),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    out = tmp_path / "out.bundle"
    done = edgebone("fit", data / "net.bundle", "--data", data / "pictures", "--kind", "toy", "-o", out, env=env)
    assert done.returncode == 8
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_broken_row_is_one_warning_and_the_other_kinds_go_on(tmp_path: Path) -> None:
    target = tmp_path / "target"
    module = TOY.format(fit="pass", name="other", place="fit")
    write_package(target, "toys", {"heads": {"toy": "toys:KIND"}}, toys=module)
    write_package(target, "first", {"heads": {"twice": "toys:KIND"}})
    write_package(target, "odds", {"heads": {"odd": "odds:KIND"}}, odds=ODD)
    env = write_package(target, "second", {"heads": {"twice": "toys:KIND"}})
    done = edgebone("fit", "--help", env=env)
    assert done.returncode == 0, done.stderr
    assert "--sensitivity" in done.stdout
    faults = sorted(line for line in done.stderr.splitlines() if line)
    assert len(faults) == 3
    assert faults[0].startswith(
        "head kind odd of the package odds is left out: the setting n has an option, and is not"
    )
    assert faults[1].startswith("head kind toy of the package toys is left out: toys:KIND is HeadKind(name='other'")
    assert faults[2].startswith("head kind twice of the packages first and second is left out: each of them provides")
