"""What a device can import: it has no torch, and heavy packages wait until they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from PIL import Image

from support import ROOT
from support.pictures import GREEN, picture

RUNTIME = ROOT / "runtime" / "edgebone"
FILES = sorted(RUNTIME.rglob("*.py"))
NEVER = {"torch", "torchvision", "onnx", "onnxscript", "onnxslim", "timm", "edgebone_export"}
LAZY_ONLY = {
    "av", "faster_coco_eval", "matplotlib", "onnxruntime", "openvino", "prometheus_client", "pynvml", "supervision",
    "usearch",
}  # fmt: skip
# Names that came after Python 3.10.
NEWER = {
    "datetime": {"UTC"}, "enum": {"StrEnum", "ReprEnum", "member", "nonmember"}, "hashlib": {"file_digest"},
    "typing": {"Self", "Never", "LiteralString", "assert_never", "assert_type", "Required",
        "NotRequired", "Unpack", "override", "TypeVarTuple", "dataclass_transform"},
    "contextlib": {"chdir"}, "asyncio": {"TaskGroup", "timeout", "Runner"}, "itertools": {"batched"},
    "warnings": {"deprecated"}, "operator": {"call"}, "math": {"cbrt", "exp2", "sumprod"},
    "collections.abc": {"Buffer"},
}  # fmt: skip
NEWER_MODULES = {"tomllib", "wsgiref.types"}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Every module that a file imports anywhere in it, also inside functions and for types only."""
    tree = ast.parse(path.read_text())
    found = set()
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "edgebone"}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            argument = node.args[0]
            if isinstance(argument, ast.Constant):
                found.add(str(argument.value))
    return found


def ours_or_package(module: str) -> str | None:
    """The room of ours, the package, or None for the standard library."""
    parts = module.split(".")
    if parts[0] == "edgebone":
        return parts[1] if len(parts) > 1 else "edgebone"
    return None if parts[0] in sys.stdlib_module_names else parts[0]


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 40
    assert "edgebone.core.errors" in imports(RUNTIME / "model/model.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RUNTIME)))
def test_no_file_imports_what_a_device_does_not_have(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path)} & NEVER


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RUNTIME)))
def test_heavy_packages_are_imported_where_they_are_used(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path, top_level_only=True)} & LAZY_ONLY


@pytest.mark.parametrize("path", sorted((RUNTIME / "cli").glob("*.py")), ids=lambda path: path.name)
def test_the_command_line_imports_nothing_heavy_before_it_is_needed(path: Path) -> None:
    found = {name for module in imports(path, top_level_only=True) if (name := ours_or_package(module))}
    assert found <= {"cli", "core", "edgebone", "engines", "typer"}
    # The table of engines imports nothing heavy itself.
    assert {module for module in imports(path, top_level_only=True) if module.startswith("edgebone.engines")} <= {
        "edgebone.engines.table"
    }
    core = {module for module in imports(path, top_level_only=True) if module.startswith("edgebone.core.")}
    assert core <= {f"edgebone.core.{name}" for name in ("own_process", "errors", "terminal")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RUNTIME)))
def test_the_code_runs_on_python_3_10(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 10))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.module not in NEWER_MODULES
            assert not {alias.name for alias in node.names} & NEWER.get(node.module, set())
        elif isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & NEWER_MODULES
        elif isinstance(node, ast.Attribute):
            assert node.attr not in NEWER.get(ast.unparse(node.value), set())
        assert type(node).__name__ not in ("TryStar", "TypeAlias")


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments], capture_output=True, text=True, check=False
    )


def test_importing_edgebone_imports_nothing_heavy() -> None:
    done = run("""
        import sys, edgebone
        heavy = {"torch", "onnx", "onnxruntime", "openvino", "cv2", "numpy", "PIL", "msgspec", "typer", "rich"}
        print(sorted(heavy & set(sys.modules)))
        assert set(edgebone.__all__) <= set(dir(edgebone))
    """)
    assert done.stdout == "[]\n", done.stderr


def test_the_help_imports_no_engine_and_no_array() -> None:
    done = run("""
        import sys
        from edgebone.cli import main
        sys.argv = ["edgebone", "run", "--help"]
        try:
            main()
        except SystemExit:
            pass
        heavy = {"numpy", "msgspec", "cv2", "av", "onnxruntime", "openvino", "torch", "PIL"}
        own = {name for name in sys.modules if name.startswith("edgebone.engines.") and name.endswith(".engine")}
        print("found:", sorted(heavy & set(sys.modules) | own), file=sys.stderr)
    """)
    assert done.stderr.endswith("found: []\n"), done.stderr


def test_attaching_heads_needs_no_torch() -> None:
    done = run("""
        import sys
        sys.modules["torch"] = None
        from edgebone_export.heads.attach.attach import attach, detach
        print(attach.__name__)
    """)
    assert done.stdout == "attach\n", done.stderr


def test_every_public_name_is_there_and_another_is_not() -> None:
    import edgebone

    for name in edgebone.__all__:
        assert getattr(edgebone, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edgebone.nothing


def test_everything_works_where_torch_and_onnx_are_not_there(colors_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(GREEN)[..., ::-1].copy()).save(tmp_path / "a.png")
    done = run(
        f"""
        import sys
        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {NEVER!r}:
                    raise ModuleNotFoundError(f"{{name}} is blocked")
        sys.meta_path.insert(0, Blocked())
        import edgebone
        with edgebone.load(sys.argv[1]) as model:
            print(model(sys.argv[2]).label)
            print([result.label for _, result in model.stream(sys.argv[2])])
        from edgebone.cli import main
        sys.argv = ["edgebone", "doctor", sys.argv[1]]
        main()
        """,
        str(colors_bundle),
        str(tmp_path / "a.png"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("green\n['green']\nmachine ")


@pytest.mark.parametrize(
    ("what", "place"),
    [("Image.open", "sources/images.py"), ("sys.executable", "core/own_process.py"), ("glob.glob", "sources/globs.py")],
)
def test_what_has_to_be_done_with_care_is_done_in_one_place(what: str, place: str) -> None:
    found = {
        str(path.relative_to(RUNTIME))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == what
    }
    assert found == {place}
