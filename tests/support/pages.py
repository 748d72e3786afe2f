"""The pages that tell the reader to run something, in the order in which the tests do what they say.

A page's commands use what the commands of the pages before it made.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from support import ROOT

GUIDES = (
    "export", "hugging-face", "detect-segment", "import", "keypoints", "oriented-boxes", "depth", "run", "cameras",
    "zones", "heads", "galleries", "cascades", "tiles", "shelf", "frame-input", "measure", "quantize", "compile",
    "tune", "triton", "doctor", "containers",
)  # fmt: skip
REFERENCE = ("bundle", "cli", "json-lines")
PAGES = (
    ROOT / "README.md",
    *(ROOT / "docs" / "guides" / f"{name}.md" for name in GUIDES),
    *(ROOT / "docs" / "reference" / f"{name}.md" for name in REFERENCE),
)
EXAMPLES = tuple(sorted((ROOT / "examples").glob("*/README.md")))
# Run by people and by CI itself, or in need of what no test machine has.
ELSEWHERE = ("pip install", "make test", "make lint", "make docs", "docker ")


def commands(page: Path) -> list[str]:
    """Shell lines and whole Python blocks, in the page's order."""
    found = []
    for language, text in re.findall(r"^```(sh|python)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        if language == "python":
            found.append(text)
        else:
            lines = (shlex.join(shlex.split(line, comments=True)) for line in text.splitlines())
            found += [line for line in lines if line and not line.startswith(ELSEWHERE)]
    return found


def json_of(page: Path) -> str:
    """The one block of JSON of a page."""
    (block,) = re.findall(r"^```json\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return str(block)
