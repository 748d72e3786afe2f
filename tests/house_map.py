"""The map of the house: which file imports which, room by room. Run it for a print: ``python tests/house_map.py``.

A room is a folder of a root, or a file that stands alone in it. Every import counts: at the top of a file, in a
function, for types only. Needs Python alone.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOTS = {"edgebone": ROOT / "runtime/edgebone", "edgebone_export": ROOT / "export/edgebone_export"}
Graph = dict[str, set[str]]


@dataclass(frozen=True)
class House:
    """The product's files.

    Attributes:
        files: By module's name; a package's name is its ``__init__.py``.
        imports: By module, the modules of ours that it imports.
        packages: By module, the packages of others that it imports.
    """

    files: dict[str, Path]
    imports: Graph
    packages: Graph

    @property
    def rooms(self) -> Graph:
        """By room, the other rooms that it imports."""
        found: Graph = {room_of(module): set() for module in self.files}
        for module, others in self.imports.items():
            found[room_of(module)] |= {room_of(other) for other in others} - {room_of(module)}
        return found

    @property
    def packages_of_rooms(self) -> Graph:
        """By room, the packages of others that it imports."""
        found: Graph = {room_of(module): set() for module in self.files}
        for module, others in self.packages.items():
            found[room_of(module)] |= others
        return found


def read_house() -> House:
    """Read every file of both roots."""
    files = {
        ".".join((root, *file.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): file
        for root, folder in ROOTS.items()
        for file in sorted(folder.rglob("*.py"))
    }
    imports: Graph = {}
    packages: Graph = {}
    for module, file in files.items():
        imported = names_in(file)
        imports[module] = {own for name in imported if (own := _module_in(name, files))} - {module}
        packages[module] = {name.split(".")[0] for name in imported} - ROOTS.keys() - sys.stdlib_module_names
    return House(files, imports, packages)


def room_of(module: str) -> str:
    """``edgebone.core`` of ``edgebone.core.frame``; the root's own name of its ``__init__.py``."""
    return ".".join(module.split(".")[:2])


def names_in(file: Path) -> set[str]:
    """The names that a file imports anywhere in it, with what is imported from a module as a part of it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{file}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            found |= {str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)}
    return found


def _module_in(name: str, files: dict[str, Path]) -> str | None:
    """The module of ours that a name means: itself, or the one that it is a name in; None of a package's."""
    if name in files:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in files else None


def circles(graph: Graph) -> list[tuple[str, ...]]:
    """Groups of more than one that all lead to each other (Tarjan, 1972), each in order."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[tuple[str, ...]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(graph.get(name, ())):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(tuple(sorted(group)))

    for name in sorted(graph):
        if name not in order:
            visit(name)
    return sorted(found)


def floors(graph: Graph) -> dict[str, int]:
    """How high each room stands: one above the highest that it imports; of a circle's rooms all stand as high."""
    group_of = {name: group for group in circles(graph) for name in group}
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            group = group_of.get(name, (name,))
            below = {other for one in group for other in graph.get(one, ())} - set(group)
            heights.update(dict.fromkeys(group, 1 + max((height(other) for other in below), default=-1)))
        return heights[name]

    return {name: height(name) for name in graph}


def main() -> None:
    """Print the map."""
    house = read_house()
    rooms, packages = house.rooms, house.packages_of_rooms
    lines = {module: len(file.read_text().splitlines()) for module, file in house.files.items()}
    heights = floors(rooms)
    for room in sorted(rooms, key=lambda room: (room.split(".")[0], heights[room], room)):
        own = [count for module, count in lines.items() if room_of(module) == room]
        print(f"{heights[room]:2} {room} ({len(own)} files, {sum(own)} lines)")
        for title, names in (("rooms", rooms[room]), ("packages", packages[room])):
            if names:
                print(f"     {title}: {', '.join(sorted(names))}")
    for title, graph in (("files", house.imports), ("rooms", rooms)):
        for group in circles(graph):
            print(f"circle of {len(group)} {title}: {', '.join(group)}")
    print(
        f"{len(rooms)} rooms, {max(heights.values()) + 1} floors, {sum(map(len, rooms.values()))} arrows; "
        f"{len(house.files)} files, {sum(lines.values())} lines; "
        f"{len(circles(house.imports))} circles of files, {len(circles(rooms))} of rooms"
    )
    longest = sorted(lines, key=lambda module: -lines[module])[:5]
    print("longest: " + ", ".join(f"{module} {lines[module]}" for module in longest))


if __name__ == "__main__":
    main()
