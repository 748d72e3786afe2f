"""The pages under docs/ say what the code does."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

from edgebone.core import limits
from edgebone.core.reading import in_words
from support import ROOT
from support.pages import EXAMPLES, PAGES
from support.program import edgebone

SECURITY = (ROOT / "docs" / "security.md").read_text()


def limits_in_words() -> list[str]:
    """The rows of the table of limits: what a limit is for, and how much it is."""
    rows = []
    lines = ast.parse(Path(limits.__file__).read_text()).body
    for assignment, docstring in itertools.pairwise(lines):
        if isinstance(assignment, ast.Assign) and isinstance(docstring, ast.Expr):
            (target,) = assignment.targets
            assert isinstance(target, ast.Name)
            assert isinstance(docstring.value, ast.Constant)
            value = getattr(limits, target.id)
            said = {"BYTES": in_words, "S": lambda s: f"{s:g} s"}.get(target.id.rsplit("_", 1)[-1], "{:,}".format)
            what = " ".join(str(docstring.value.value).split()).removesuffix(".").replace("``", "`")
            rows.append(f"| {what} | {said(value)} |")
    return rows


def test_the_table_of_limits_is_the_code_s() -> None:
    found = re.findall(r"^\| .* \|$", SECURITY.partition("## Limits")[2].partition("##")[0], re.MULTILINE)
    assert found[0] == "| what | at most |"
    assert found[2:] == limits_in_words()
    public = [name for name in vars(limits) if name.isupper() and not name.startswith("_")]
    assert len(public) == len(found) - 2


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *EXAMPLES, *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page}: {link}"


def test_the_site_lists_every_page_that_is_tried() -> None:
    listed = set(re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert {page.relative_to(ROOT).as_posix() for page in (*PAGES, *EXAMPLES)} <= listed


def test_services_start_with_options_that_there_are() -> None:
    found = 0
    for page in (ROOT / "docs" / "guides" / "cameras.md", ROOT / "docs" / "security.md"):
        for line in re.findall(r"^ExecStart=\S+/edgebone run (.+)$", page.read_text(), re.MULTILINE):
            # What systemd makes of it: two dollar signs are one.
            bundle, source, *options = line.replace("$$", "$").split()
            assert bundle.endswith(".bundle")
            assert source == "rtsp://edge:$CAM_PASS@camera/1"
            known = {*re.findall(r"--[\w-]+", edgebone("run", "--help", env={"COLUMNS": "200"}).stdout)}
            assert {word for word in options if word.startswith("-")} <= known
            found += 1
    assert found == 2


def test_the_design_lists_every_room() -> None:
    design = (ROOT / "docs" / "design.md").read_text()
    for root in ("runtime/edgebone", "export/edgebone_export"):
        table = design.split(f"| room of `{root}` |")[1].split("\n\n")[0]
        cells = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
        listed = {name for cell in cells for name in re.findall(r"\w+", cell)}
        assert {path.parent.name for path in (ROOT / root).glob("*/__init__.py")} <= listed
        assert listed <= {path.name.removesuffix(".py") for path in (ROOT / root).iterdir()}
