"""An index of usearch that came with a gallery from anybody: usearch believes every number in it, edgebone none."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgebone.gallery import Gallery, GalleryError
from edgebone.gallery import gallery as module
from edgebone.gallery.graph import build_graph, open_graph
from edgebone.gallery.vectors import pack
from support.machine import needs

D, N = 16, 3000
# In the file: the sizes, the vectors; a head of 64 bytes, the graph's shape, the levels, the nodes.
HEAD = 8 + 4 * D * N
SHAPE = HEAD + 64
LEVELS = SHAPE + 40
NODES = LEVELS + 2 * N
# Of a node: its key, its level, and 32 neighbours with their count; 16 with theirs for each level above.
COUNT, FIRST, UPPER = 10, 14, 10 + 4 + 4 * 32

pytestmark = needs("usearch")


def units(count: int = N) -> np.ndarray:
    vectors = np.random.default_rng(3).standard_normal((count, D)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("graph") / "graph"
    build_graph(np.arange(N), [pack(units(), "float32")], "float32").save(path)
    return path.read_bytes()


def levels_of(saved: bytes) -> np.ndarray:
    return np.frombuffer(saved, "<i2", N, LEVELS).astype(int)


def node(saved: bytes, slot: int) -> int:
    return NODES + int(np.sum(UPPER + 68 * levels_of(saved)[:slot]))


def put(saved: bytes, at: int, value: int, kind: str) -> bytes:
    raw = np.array(value, kind).tobytes()
    return saved[:at] + raw + saved[at + len(raw) :]


def high(saved: bytes) -> int:
    """A node with a level above the lowest."""
    return int(np.flatnonzero(levels_of(saved) > 0)[5])


def low(saved: bytes) -> int:
    return int(np.flatnonzero(levels_of(saved) == 0)[5])


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "more vectors": lambda s: put(s, 0, N + 1, "<u4"),
    "longer vectors": lambda s: put(s, 4, 8 * D, "<u4"),
    "no index": lambda s: put(s, HEAD, 0, "u1"),
    "another usearch": lambda s: put(s, HEAD + 7, 3, "<u2"),
    "older numbers of kinds": lambda s: put(s, HEAD + 9, 9, "<u2"),
    "another metric": lambda s: put(s, HEAD + 13, ord("e"), "u1"),
    "another kind of number": lambda s: put(s, HEAD + 14, 10, "u1"),
    "wider slots": lambda s: put(s, HEAD + 16, 4, "u1"),
    "entries present": lambda s: put(s, HEAD + 17, N - 1, "<u8"),
    "entries deleted": lambda s: put(s, HEAD + 25, 1, "<u8"),
    "more dimensions": lambda s: put(s, HEAD + 33, 1 << 40, "<u8"),
    "several of a key": lambda s: put(s, HEAD + 41, 1, "u1"),
    "more nodes": lambda s: put(s, SHAPE, N + 1, "<u8"),
    "no nodes": lambda s: put(s, SHAPE, 0, "<u8"),
    "more links": lambda s: put(s, SHAPE + 8, 1 << 62, "<u8"),
    "fewer links at the base": lambda s: put(s, SHAPE + 16, 31, "<u8"),
    "a higher top": lambda s: put(s, SHAPE + 24, 30, "<u8"),
    "a lower top": lambda s: put(s, SHAPE + 24, 0, "<u8"),
    "entry beyond the end": lambda s: put(s, SHAPE + 32, N, "<u8"),
    "entry far away": lambda s: put(s, SHAPE + 32, 1 << 63, "<u8"),
    "entry on a low level": lambda s: put(s, SHAPE + 32, low(s), "<u8"),
    "a level too many": lambda s: put(s, LEVELS + 2 * low(s), 1, "<i2"),
    "a level below zero": lambda s: put(s, LEVELS + 2 * low(s), -1, "<i2"),
    "a node of another level": lambda s: put(s, node(s, low(s)) + 8, 9, "<i2"),
    "a key twice": lambda s: s[: node(s, 7)] + s[node(s, 8) : node(s, 8) + 8] + s[node(s, 7) + 8 :],
    "the key of a free place": lambda s: put(s, node(s, 7), -1, "<i8"),
    "too many neighbours": lambda s: put(s, node(s, low(s)) + COUNT, 33, "<u4"),
    "a neighbour beyond the end": lambda s: put(s, node(s, low(s)) + FIRST, N, "<u4"),
    "too many neighbours above": lambda s: put(s, node(s, high(s)) + UPPER, 17, "<u4"),
    "a neighbour beyond the end above": lambda s: put(put(s, node(s, high(s)) + UPPER, 1, "<u4"),
                                                      node(s, high(s)) + UPPER + 4, N, "<u4"),
    "a neighbour above that is not up there": lambda s: put(put(s, node(s, high(s)) + UPPER, 1, "<u4"),
                                                            node(s, high(s)) + UPPER + 4, low(s), "<u4"),
    "a vector that is no number": lambda s: put(s, 8, np.nan, "<f4"),
    "a vector of another length": lambda s: put(s, 8, 1000, "<f4"),
    "bytes at the end": lambda s: s + b"\0",
    "cut off": lambda s: s[:-1],
    "cut off within the levels": lambda s: s[: LEVELS + 9],
    "cut off within the head": lambda s: s[: HEAD + 9],
    "almost nothing": lambda s: s[:5],
    "nothing": lambda s: b"",
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_a_number_that_leads_elsewhere_is_found_before_usearch_follows_it(what: str, saved: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        open_graph(np.frombuffer(DAMAGE[what](saved), np.uint8), D, "float32", N)


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
@pytest.mark.parametrize("count", [1, 2, 700])
def test_what_usearch_wrote_passes_and_can_be_extended(storage: module.Storage, count: int, tmp_path: Path) -> None:
    vectors, more = units(count), [pack(-units(300), storage)]
    build_graph(np.arange(count), [pack(vectors, storage)], storage).save(tmp_path / "graph")
    opened = open_graph(np.fromfile(tmp_path / "graph", np.uint8), D, storage, count)
    assert opened.nearest(vectors[-1:], 1)[0].tolist() == [[count - 1]]
    opened.extended(np.arange(count, count + 300), more).save(tmp_path / "graph")
    again = open_graph(np.fromfile(tmp_path / "graph", np.uint8), D, storage, count + 300)
    assert again.nearest(-units(300)[7:8], 1)[0].tolist() == [[count + 7]]


@pytest.mark.slow
def test_a_thousand_damaged_indices_end_no_process(saved: bytes, tmp_path: Path) -> None:
    (tmp_path / "graph").write_bytes(saved)
    program = f"""
        import sys
        import numpy as np
        from edgebone.gallery.graph import open_graph
        from edgebone.gallery.vectors import Block
        saved, rng, used = np.fromfile(sys.argv[1], np.uint8), np.random.default_rng(0), 0
        queries = rng.standard_normal((20, {D})).astype(np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        for number in range(1000):
            content = saved.copy()
            # Every other time few bytes, or many; everywhere but in the vectors.
            places = rng.integers({HEAD}, len(content), rng.choice([1, 2, 8, 500]))
            content[places] = rng.choice([0, 1, 255, *rng.integers(0, 256, 5)], len(places))
            try:
                graph = open_graph(content, {D}, "float32", {N})
            except ValueError:
                continue
            graph.nearest(queries, 10)
            graph.extended(np.arange({N}, {N} + 20), [Block(queries)])
            used += 1
        print(used)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "graph")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 50 < int(done.stdout) < 950


def alter(path: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    """Change a member of a gallery, and put its hash right."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[member] = change(parts[member])
    header = json.loads(parts["gallery.json"])
    header["files"][member] = {"sha256": hashlib.sha256(parts[member]).hexdigest(), "size": len(parts[member])}
    parts["gallery.json"] = json.dumps(header).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_a_gallery_whose_index_is_damaged_is_searched_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "EXACT_NUMBERS", 100 * D)
    gallery = Gallery("space", D)
    gallery.add(units(), [f"thing {n}" for n in range(N)], same=None)
    path = gallery.save(tmp_path / "a.gallery")
    assert Gallery.load(path).search(units()[5], 1).ids.tolist() == [5]
    assert not caplog.records
    alter(path, "graph.usearch", DAMAGE["a neighbour beyond the end"])
    with caplog.at_level(logging.WARNING):
        loaded = Gallery.load(path)
    assert "index is ignored: a neighbour on level 0 does not exist" in caplog.text
    assert loaded.search(units()[5], 1).ids.tolist() == [5]


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
@pytest.mark.parametrize("factor", [1000.0, 1.01, 0.0, np.nan, np.inf])
def test_a_vector_that_is_longer_than_it_claims_is_refused(
    storage: module.Storage, factor: float, tmp_path: Path
) -> None:
    gallery = Gallery("space", D, storage)
    gallery.add(units(50), "thing", same=None)
    path = gallery.save(tmp_path / "a.gallery")
    assert len(Gallery.load(path)) == 50

    def change(content: bytes) -> bytes:
        # Numbers of int8 have no NaN, but the lengths that go with them have.
        dtype = np.dtype("float32" if storage == "int8" else storage)
        width = 1 if storage == "int8" else D
        values = np.frombuffer(content[128:], dtype).reshape(50, width).copy()
        values[31] *= factor
        return content[:128] + values.tobytes()

    alter(path, "lengths.npy" if storage == "int8" else "vectors.npy", change)
    with pytest.raises(GalleryError, match=r"vector 31 has the length .* instead of"):
        Gallery.load(path)
