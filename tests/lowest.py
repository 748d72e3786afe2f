"""Prints the lowest versions that pyproject.toml allows, as pip's constraints: for `make test-lowest`.

The argument has the extras, with commas between them. What several of them ask for is taken at the highest of their
bounds.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10: pip brings the same
    from pip._vendor import tomli as tomllib

_BOUND = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)")


def lowest(project: dict[str, dict[str, list[str]]], extras: list[str]) -> dict[str, str]:
    """The lower bound of each direct dependency, by name."""
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    bounds: dict[str, str] = {}
    for requirement in wanted:
        found = _BOUND.match(requirement)
        assert found, f"{requirement} has no lower bound"
        bounds[found[1]] = max(bounds.get(found[1], "0"), found[2], key=_numbers)
    return bounds


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


if __name__ == "__main__":
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text()
    for name, version in lowest(tomllib.loads(text)["project"], sys.argv[1].split(",")).items():
        print(f"{name}=={version}")
