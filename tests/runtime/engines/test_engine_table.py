"""The table of engines: what each row promises, and that it costs nothing to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgebone.engines import table
from edgebone.engines.opening import load_place
from edgebone.engines.spec import EngineSpec
from edgebone.engines.table import ROWS, find, find_target, this_machine

ENGINES = Path(table.__file__).parent
FAMILIES = [path.parent for path in ENGINES.glob("*/__init__.py")]
HEAVY = {"numpy", "cv2", "msgspec", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "edgebone.core.machine"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_place_that_a_row_names_is_there(row: EngineSpec) -> None:
    assert callable(load_place(row.open))
    if row.compile is not None:
        assert callable(load_place(row.compile))
    assert row.compile_settings == frozenset() or row.compile
    assert find(row.name) is row
    assert row.precisions(None)[0] == "fp32"


def test_no_two_engines_have_one_name_or_one_rank() -> None:
    machine = this_machine("onnxruntime")
    assert len({row.name for row in ROWS}) == len({row.rank(machine) for row in ROWS}) == len(ROWS)


def test_every_family_has_the_same_files() -> None:
    assert {path.name for path in FAMILIES} == {"onnxruntime", "openvino", "tensorrt"}
    compiling = {str(row.compile).split(".")[2] for row in ROWS if row.compile}
    for folder in FAMILIES:
        assert (folder / "spec.py").is_file()
        assert (folder / "engine.py").is_file()
        assert (folder / "compile.py").is_file() == (folder.name in compiling)


def test_the_table_imports_nothing_heavy() -> None:
    program = f"import sys, edgebone.engines.table; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_targets_are_the_engines_that_compile() -> None:
    assert find_target("tensorrt-rtx:sm86").name == "tensorrt-rtx"
    assert find_target("openvino").name == "openvino"
    with pytest.raises(Exception, match=r"no target tensort; did you mean tensorrt") as caught:
        find_target("tensort")
    assert str(caught.value).endswith("choose tensorrt, tensorrt-rtx, openvino")
    with pytest.raises(Exception, match="no target onnxruntime; "):
        find_target("onnxruntime")
