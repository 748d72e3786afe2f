"""The order of the files, bundles that tests share, and the real data where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from support import ROOT
from support.bundles import write_colors_bundle, write_layout_bundle
from support.exports import export_once
from support.program import install

LONGEST = (
    "test_fuzz.py",
    "test_readme.py",
    "test_detectors.py",
    "test_benchmarks.py",
    "test_exporter.py",
    "test_real_data.py",
)
SHARED = Path(__file__).parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, they would keep one of two cores busy while the other waits."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def colors_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a static batch of one. Shared: do not change it."""
    return write_colors_bundle(tmp_path_factory.mktemp("bundles") / "colors.bundle")


@pytest.fixture(scope="session")
def colors_batch_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network with a batch of 1 to 4. Shared: do not change it."""
    return write_colors_bundle(tmp_path_factory.mktemp("bundles") / "colors-batch.bundle", (1, 4))


@pytest.fixture(scope="session")
def layout_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose embedding is the picture's thumbnail. Shared: do not change it."""
    return write_layout_bundle(tmp_path_factory.mktemp("bundles") / "layout.bundle")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Exports a network, once a session for all files and workers. Shared: copy the bundle before you change it."""
    base = tmp_path_factory.getbasetemp()
    # pytest-xdist gives each worker a folder in the session's own.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exports"
    folder.mkdir(exist_ok=True)
    return partial(export_once, folder)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data beside the checkout; tests that want it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data in ../shared, which is not here")
    return SHARED


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of caches in which no other test kept anything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which every package of docs/extending is installed, as a user would install it."""
    folders = sorted(file.parent for file in (ROOT / "docs" / "extending").glob("*/pyproject.toml"))
    return install(tmp_path_factory.mktemp("packages") / "target", *folders)
