"""``NAME.gallery``: a plain zip of NumPy arrays and one JSON file, written atomically."""

from __future__ import annotations

import hashlib
import io
import itertools
import logging
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.bounded import Count, Labels, Name
from edgebone.core.foreign import foreign
from edgebone.core.manifest import FileRecord
from edgebone.core.reading import in_words, open_regular, read_member
from edgebone.core.staging import replace_file, staging
from edgebone.core.writing import writing
from edgebone.gallery.calibration import Calibration
from edgebone.gallery.entries import BLOCK_ROWS, Entries
from edgebone.gallery.errors import GalleryError
from edgebone.gallery.graph import Graph, has_usearch, open_graph
from edgebone.gallery.vectors import Block, Storage
from edgebone.gallery.views import View

SCHEMA = 1
_HEADER, _VECTORS, _LENGTHS, _GRAPH = "gallery.json", "vectors.npy", "lengths.npy", "graph.usearch"
_IDS, _SERIALS, _LABELS, _SOURCES = "ids.npy", "serials.npy", "label_index.npy", "sources.json"
_PIECE = 1 << 20

_log = logging.getLogger("edgebone.gallery")


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``gallery.json``.

    Attributes:
        schema: Always 1; another number is refused.
        created_by: ``edgebone`` and its version.
        created_at: UTC, ISO 8601.
        space: The fingerprint of how the vectors were computed.
        about: The same in words.
        views: The views that a vector is computed from.
        dimension: The number of values of a vector.
        storage: The storage type of the vectors.
        count: The number of entries.
        labels: The labels' names.
        next_serial: The next entry's serial.
        indexed: The number of entries, from the first, in the index; 0 without an index.
        graph_size: The number of entries that the index was built from, including removed ones.
        calibration: The threshold, or None.
        files: The other members of the zip.
    """

    schema: int
    created_by: Name
    created_at: Name
    space: Name
    about: Name
    views: Annotated[tuple[View, ...], msgspec.Meta(min_length=1, max_length=2)]
    dimension: Annotated[int, msgspec.Meta(ge=1, le=limits.VECTOR_NUMBERS)]
    storage: Storage
    count: Count
    labels: Labels
    next_serial: Count
    indexed: Count
    graph_size: Count
    calibration: Calibration | None
    files: Annotated[dict[Name, FileRecord], msgspec.Meta(max_length=limits.ARCHIVE_MEMBERS)] = {}

    def __post_init__(self) -> None:
        """Reject an index over more entries than exist."""
        if self.indexed > self.count:
            raise ValueError(f"{self.indexed} of {self.count} entries cannot be in the index")


class _Version(msgspec.Struct):
    schema: Any = None


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Return a stamp that changes when a file is replaced; None if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def write_gallery(path: Path, header: Header, entries: Entries) -> None:
    """Write a gallery atomically; one writer at a time. The header's ``files`` are recomputed.

    Raises:
        OutputError: It cannot be written; the previous file is intact.
    """
    # If the path is a link, its target is replaced.
    place = Path(os.path.realpath(path))
    with writing(path, left="the previous file is intact"), staging(place) as folder:
        made = folder / "gallery"
        with zipfile.ZipFile(made, "w") as archive:
            records = {name: _put(archive, name, pieces) for name, pieces in _members(entries)}
            if entries.graph is not None:
                records[_GRAPH] = _put_graph(archive, entries.graph, folder / "graph")
            whole = msgspec.structs.replace(header, files=records)
            archive.writestr(_HEADER, msgspec.json.format(msgspec.json.encode(whole), indent=2))
        replace_file(made, place)


def _members(entries: Entries) -> Iterator[tuple[str, Iterable[bytes | memoryview]]]:
    if entries.blocks:
        yield _VECTORS, _npy([block.stored for block in entries.blocks])
        if entries.blocks[0].lengths is not None:
            yield _LENGTHS, _npy([block.lengths for block in entries.blocks])
    yield _IDS, _npy([entries.ids])
    yield _SERIALS, _npy([entries.serials])
    yield _LABELS, _npy([entries.label_index])
    yield _SOURCES, [msgspec.json.encode(entries.sources)]


def _npy(parts: list[Any]) -> Iterator[bytes | memoryview]:
    """Yield one array in NumPy's format from its parts, without joining them in memory."""
    head = io.BytesIO()
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    description = np.lib.format.dtype_to_descr(parts[0].dtype)
    np.lib.format.write_array_header_1_0(head, {"descr": description, "fortran_order": False, "shape": shape})
    yield head.getvalue()
    for part in parts:
        if part.size:
            yield np.ascontiguousarray(part).data.cast("B")


def _put(archive: zipfile.ZipFile, name: str, pieces: Iterable[bytes | memoryview]) -> FileRecord:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    digest, size = hashlib.sha256(), 0
    with archive.open(info, "w", force_zip64=True) as member:
        for piece in pieces:
            for start in range(0, len(piece), _PIECE):
                part = piece[start : start + _PIECE]
                digest.update(part)
                member.write(part)
            size += len(piece)
    return FileRecord(digest.hexdigest(), size)


def _put_graph(archive: zipfile.ZipFile, graph: Graph, temporary: Path) -> FileRecord:
    graph.save(temporary)
    with temporary.open("rb") as file:
        return _put(archive, _GRAPH, iter(lambda: file.read(_PIECE), b""))


def read_header(path: Path) -> Header:
    """Read a gallery's header; its vectors are neither read nor checked.

    Raises:
        GalleryError: It is missing, truncated, not a gallery, or of another version.
    """
    with _reading(path), open_regular(path) as file, zipfile.ZipFile(file) as archive:
        return _header(path, read_member(archive, _HEADER, limits.MANIFEST_BYTES))


def read_gallery(path: Path) -> tuple[Header, Entries]:
    """Read a gallery into memory and check every hash.

    Nothing is memory-mapped: copying another file over this one would change what is searched, or crash the process.

    Raises:
        GalleryError: It is missing, damaged, not a gallery, or of another version.
    """
    with _reading(path):
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            size = os.fstat(file.fileno()).st_size
            if size > limits.GALLERY_BYTES:
                raise ValueError(f"it is larger than {in_words(limits.GALLERY_BYTES)}")
            header = _header(path, read_member(archive, _HEADER, limits.MANIFEST_BYTES))
            listed = {name: archive.getinfo(name) for name in header.files}
            # No member is compressed: together they are no larger than the file, unless some overlap.
            if sum(info.file_size for info in listed.values()) > size:
                raise ValueError("it is truncated, or its parts overlap")
            members = {name: _read(file, info) for name, info in listed.items()}
        for name, content in members.items():
            record = header.files[name]
            if (hashlib.sha256(content.data).hexdigest(), len(content)) != (record.sha256, record.size):
                raise GalleryError(f"{path}: {name} in it was altered or damaged; copy the gallery again")
        return header, _entries(header, members)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of a missing or damaged file into one clear error."""

    def damaged(reason: str) -> GalleryError:
        made = "`edgebone gallery enrol` writes galleries"
        return GalleryError(f"{path}: not a gallery, or a damaged one ({reason}); {made}")

    with foreign(damaged):
        try:
            yield
        except FileNotFoundError as error:
            raise GalleryError(
                f"{path}: no such gallery; make one with: edgebone gallery enrol {path} PICTURES"
            ) from error
        except OSError as error:
            raise GalleryError(f"{path}: the gallery cannot be read ({error.strerror or error})") from error


def _header(path: Path, raw: bytes) -> Header:
    with foreign(lambda reason: GalleryError(f"{path}: gallery.json does not follow schema {SCHEMA}: {reason}")):
        found = msgspec.json.decode(raw, type=_Version).schema
        if found != SCHEMA or isinstance(found, bool):
            raise GalleryError(f"{path}: the gallery has schema {found!r}, this edgebone reads {SCHEMA}")
        return msgspec.json.decode(raw, type=Header)


def _read(file: IO[bytes], info: zipfile.ZipInfo) -> NDArray[np.uint8]:
    """Read a member's bytes, bypassing zipfile, whose checksum takes longer than everything else."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    file.seek(info.header_offset)
    name, extra = struct.unpack("<26x2H", file.read(30))
    file.seek(name + extra, os.SEEK_CUR)
    return np.fromfile(file, np.uint8, info.file_size)


def _array(members: dict[str, NDArray[np.uint8]], name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a member as an array of the expected type and shape."""
    content = members[name]
    head = io.BytesIO(content[:4096].tobytes())
    np.lib.format.read_magic(head)
    found = np.lib.format.read_array_header_1_0(head)
    if found != (shape, False, np.dtype(dtype)):
        raise ValueError(f"{name} is {found[2]} of shape {list(found[0])} instead of {dtype} of {list(shape)}")
    return content[head.tell() :].view(dtype).reshape(shape)


def _entries(header: Header, members: dict[str, NDArray[np.uint8]]) -> Entries:
    n = header.count
    ids, serials = (np.array(_array(members, name, "int64", (n,))) for name in (_IDS, _SERIALS))
    label_index = np.array(_array(members, _LABELS, "int32", (n,)))
    sources = msgspec.json.decode(members[_SOURCES].tobytes(), type=tuple[str, ...])
    blocks: list[Block] = []
    if n:
        vectors = _array(members, _VECTORS, header.storage, (n, header.dimension))
        lengths = _array(members, _LENGTHS, "float32", (n,)) if header.storage == "int8" else None
        # The index covers whole blocks.
        cuts = [*range(0, header.indexed, BLOCK_ROWS), *range(header.indexed, n, BLOCK_ROWS), n]
        for start, end in itertools.pairwise(cuts):
            blocks.append(Block(vectors[start:end], None if lengths is None else lengths[start:end]))
            blocks[-1].check_lengths()
    if (
        len(sources) != n
        or (np.diff(serials) <= 0).any()
        or (n and not 0 <= label_index.min() <= label_index.max() < len(header.labels))
        or (n and not 0 <= serials[0] <= serials[-1] < header.next_serial)
        or len(np.unique(ids[ids >= 0])) != n
    ):
        raise ValueError("its parts do not match")
    graph = _graph(header, members[_GRAPH]) if n and _GRAPH in members and has_usearch() else None
    covered = len(range(0, header.indexed, BLOCK_ROWS)) if graph else 0
    return Entries(tuple(blocks), ids, serials, label_index, header.labels, sources, graph, covered, header.next_serial)


def _graph(header: Header, content: NDArray[np.uint8]) -> Graph | None:
    """Return the index; None if it is damaged, or written by a usearch version that this one cannot read."""
    try:
        return open_graph(content, header.dimension, header.storage, header.graph_size)
    except ValueError as error:
        _log.warning("the gallery's index is ignored: %s; it is rebuilt when entries are added", error)
        return None
