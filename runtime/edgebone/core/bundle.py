"""Reads bundles: a directory, or the same directory as one zip, with a hash for every file."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import time
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Protocol

from edgebone.core.errors import BundleError
from edgebone.core.limits import BUNDLE_FILE_BYTES, MANIFEST_BYTES
from edgebone.core.manifest import FileRecord, Manifest, parse_manifest
from edgebone.core.model_files import MANIFEST, bundles_in, way_to_a_bundle
from edgebone.core.near import near
from edgebone.core.onnx_file import check_onnx
from edgebone.core.reading import in_words, open_archive, open_regular

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError)
"""The exceptions that zipfile raises for damage, encryption and unknown compression methods."""
# One retry is enough for one exchange; a writer may replace the bundle repeatedly.
_TRIES = 5
# Where a file system cannot exchange two names, the target is missing for a moment.
_MISSING_S = 0.02
# Files that file managers leave in every folder that they show: no engine reads them, so they are tolerated.
_LITTER = re.compile(r"__MACOSX(/.*)?|(.*/)?(\.DS_Store|\._[^/]*|Thumbs\.db|desktop\.ini)")
_PIECE_BYTES = 1 << 20
# How many neighbours of a missing bundle are considered as suggestions.
_BESIDE = 100


class _Files(Protocol):
    """The container of a bundle's files."""

    def open(self, name: str) -> IO[bytes]:
        """Open a file of the bundle for reading."""

    def size(self, name: str) -> int:
        """Return a file's size in bytes without reading it."""

    def others(self, listed: Collection[str]) -> Iterator[str]:
        """Yield the paths of files that are not listed; none of them is opened."""


class _Folder:
    """A directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str) -> IO[bytes]:
        return open_regular(path_inside(self._root, name))

    def size(self, name: str) -> int:
        return path_inside(self._root, name).stat().st_size

    def others(self, listed: Collection[str]) -> Iterator[str]:
        root = self._root.resolve()
        # A listed file may be a link to another one in the bundle.
        known = {*listed, *((self._root / name).resolve().relative_to(root).as_posix() for name in listed)}
        folders = {parent.as_posix() for name in known for parent in PurePosixPath(name).parents}
        return self._others(root, PurePosixPath(), known, folders)

    def _others(
        self, root: Path, folder: PurePosixPath, known: Collection[str], folders: Collection[str]
    ) -> Iterator[str]:
        for entry in (root / folder).iterdir():
            place = folder / entry.name
            if place.as_posix() in folders:
                if not entry.is_symlink():
                    yield from self._others(root, place, known, folders)
            elif place.as_posix() not in known:
                yield place.as_posix()


class _Zip:
    """A zip, with the bundle at its top or in its only folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        names = archive.namelist()
        # There may be further folders without a manifest: macOS adds its __MACOSX.
        folders = [name.removesuffix(MANIFEST) for name in names if re.fullmatch(rf"[^/]+/{MANIFEST}", name)]
        self._prefix = folders[0] if MANIFEST not in names and len(folders) == 1 else ""

    def open(self, name: str) -> IO[bytes]:
        return self._archive.open(self._prefix + name)

    def size(self, name: str) -> int:
        return self._archive.getinfo(self._prefix + name).file_size

    def others(self, listed: Collection[str]) -> Iterator[str]:
        for name in self._archive.namelist():
            if not name.endswith("/") and not (
                name.startswith(self._prefix) and name.removeprefix(self._prefix) in listed
            ):
                yield name


class Bundle:
    """An open, verified bundle. Use :func:`open_bundle` to get one."""

    def __init__(self, path: Path, files: _Files, manifest: Manifest, held: ExitStack) -> None:
        self.path = path
        self.manifest = manifest
        self._files = files
        self._held = held
        self._graphs = {manifest.graph(name).file for name in (*manifest.variants, *manifest.frame_variants)}

    def read(self, name: str) -> bytes:
        """Return the bytes of a file that the manifest lists, checked against its hash.

        Raises:
            BundleError: The manifest does not list it, it is missing or was altered; or it is a network that is not a
                self-contained ONNX file.
        """
        record = self.manifest.files.get(name)
        if record is None:
            raise BundleError(f"{self.path}: the manifest lists no file {name}")
        with _reading(self.path, name):
            _check_size(self.path, name, record, self._files.size(name))
            with self._files.open(name) as file:
                content = file.read(record.size + 1)
        _check_hash(self.path, name, record, len(content), hashlib.sha256(content).hexdigest())
        if name in self._graphs:
            check_onnx(content, f"{self.path}: {name}")
        return content

    @contextmanager
    def private_copy(self, name: str) -> Iterator[Path | bytes]:
        """Provide the content of :meth:`read` to libraries that make fewer copies of a file than of bytes.

        Yields:
            The path of a private copy in memory, valid until the context ends; or the bytes, where the system has no
            files in memory.

        Raises:
            BundleError: As :meth:`read`.
        """
        record = self.manifest.files.get(name)
        if record is None or not record.size or not hasattr(os, "memfd_create"):
            yield self.read(name)
            return
        with os.fdopen(os.memfd_create("edgebone"), "w+b", buffering=0) as copy:
            _verify(self.path, self._files, name, record, into=copy)
            if name in self._graphs:
                with mmap.mmap(copy.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    check_onnx(content, f"{self.path}: {name}")
            yield Path(f"/proc/self/fd/{copy.fileno()}")

    def close(self) -> None:
        """Close the zip, if it is one."""
        self._held.close()

    def __enter__(self) -> Bundle:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def open_bundle(
    path: str | os.PathLike[str], read_next: Callable[[Manifest], Collection[str]] = lambda _: ()
) -> Bundle:
    """Open a bundle and check that its files are exactly those that its manifest lists.

    Args:
        path: The bundle's directory or zip.
        read_next: Returns, for a manifest, the files that the caller reads at once: their hashes are checked then, not
            twice.

    Raises:
        BundleError: The bundle does not exist, or a file is missing, altered, outside the bundle, or not listed.
    """
    root = Path(path)
    for _ in range(_TRIES - 1):
        before = _stamp(root)
        try:
            return _open(root, read_next)
        except BundleError:
            # Another writer may have replaced the bundle while it was being read.
            if before is None:
                time.sleep(_MISSING_S)
            if _stamp(root) == before:
                raise
    return _open(root, read_next)


def _stamp(root: Path) -> tuple[int, int, int] | None:
    """Return a stamp that changes when a bundle is replaced; None if there is no bundle."""
    try:
        found = root.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _open(root: Path, read_next: Callable[[Manifest], Collection[str]]) -> Bundle:
    if not os.path.exists(root):  # noqa: PTH110  (Path.exists raises on a name that is too long)
        if way := way_to_a_bundle(root):
            raise BundleError(f"{root}: no such file; expected a bundle, and this name would be {way}")
        raise BundleError(f"{root}: no such bundle; {_meant(root)}make one with: edgebone export MODEL -o {root}")
    with ExitStack() as held:
        files: _Files = _Folder(root) if root.is_dir() else _open_zip(root, held)
        manifest = _read_manifest(root, files)
        later = read_next(manifest)
        for name, record in manifest.files.items():
            _check_listed(root, name)
            _verify(root, files, name, record, hashed=name not in later)
        _refuse_others(root, files, manifest)
        return Bundle(root, files, manifest, held.pop_all())


def _open_zip(root: Path, held: ExitStack) -> _Zip:
    try:
        file = held.enter_context(open_regular(root))
        return _Zip(held.enter_context(open_archive(file)))
    except ZIP_ERRORS as error:
        if way := way_to_a_bundle(root):
            raise BundleError(f"{root}: not a bundle, but {way}") from error
        raise BundleError(f"{root}: not a bundle: neither a directory nor a readable zip ({error})") from error


def _meant(root: Path) -> str:
    """Suggest bundles beside a missing one that may have been meant."""
    beside = {item.name: str(item) for item in bundles_in(root.parent, _BESIDE)}
    named = [name for name in beside if Path(name).stem == root.name] or near(root.name, beside)
    return f"did you mean {' or '.join(beside[name] for name in named)}? " if named else ""


def _read_manifest(root: Path, files: _Files) -> Manifest:
    with _reading(root, MANIFEST):
        if files.size(MANIFEST) > MANIFEST_BYTES:
            raise BundleError(
                f"{root}: its {MANIFEST} is larger than {in_words(MANIFEST_BYTES)}; edgebone did not write it"
            )
        with files.open(MANIFEST) as file:
            content = file.read(MANIFEST_BYTES)
    return parse_manifest(content, str(root))


@contextmanager
def _reading(root: Path, name: str) -> Iterator[None]:
    try:
        yield
    except BundleError:
        raise
    except (KeyError, FileNotFoundError) as error:
        if name == MANIFEST:
            way, inside = way_to_a_bundle(root), [str(item) for item in bundles_in(root)]
            more = f"; {way}" if way else f"; did you mean {' or '.join(inside)}?" if inside else ""
            raise BundleError(f"{root}: not a bundle: it holds no {MANIFEST}{more}") from error
        raise BundleError(f"{root}: file {name} is missing; copy the bundle again") from error
    except ZIP_ERRORS as error:
        # No permission, a name that is too long, circular links; damage in a zip.
        raise BundleError(f"{root}: file {name} cannot be read ({error}); copy the bundle again") from error


def _verify(
    root: Path, files: _Files, name: str, record: FileRecord, *, hashed: bool = True, into: IO[bytes] | None = None
) -> None:
    """Check a file's size and, unless that is done later, its hash; read in pieces."""
    with _reading(root, name):
        _check_size(root, name, record, files.size(name))
        if not hashed:
            return
        digest, size = hashlib.sha256(), 0
        with files.open(name) as file:
            while size <= record.size and (piece := file.read(_PIECE_BYTES)):
                digest.update(piece)
                if into is not None:
                    into.write(piece)
                size += len(piece)
    _check_hash(root, name, record, size, digest.hexdigest())


def _check_size(root: Path, name: str, record: FileRecord, size: int) -> None:
    """Refuse a file before it is read, by its size alone."""
    if size != record.size:
        _check_hash(root, name, record, size, "")
    if size > BUNDLE_FILE_BYTES:
        raise BundleError(f"{root}: file {name} is larger than {in_words(BUNDLE_FILE_BYTES)}")


def _check_hash(root: Path, name: str, record: FileRecord, size: int, found: str) -> None:
    if (size, found) != (record.size, record.sha256):
        hashed = f" with {found[:12]}…" if found else ""
        raise BundleError(
            f"{root}: file {name} was altered or damaged: expected {record.size} bytes with sha256 "
            f"{record.sha256[:12]}…, found {size} bytes{hashed}; copy or export the bundle again"
        )


def _refuse_others(root: Path, files: _Files, manifest: Manifest) -> None:
    with _reading(root, "list"):
        for other in files.others({MANIFEST, *manifest.files}):
            if not _LITTER.fullmatch(other):
                raise BundleError(
                    f"{root}: it holds {other}, which its manifest does not list; remove it, or copy or export the "
                    "bundle again"
                )


def _check_listed(root: Path, name: str) -> None:
    """Reject a listed path that is not inside the bundle, whatever is on the disk."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or not pure.parts:
        raise BundleError(f"{root}: the manifest lists {name!r}, which is not a path inside the bundle")


def path_inside(root: Path, name: str) -> Path:
    """Resolve a listed path; reject one that leaves the bundle through ``..``, an absolute path or a link."""
    _check_listed(root, name)
    target = root / name
    if not target.resolve().is_relative_to(root.resolve()):
        raise BundleError(f"{root}: {name} is a link that leads out of the bundle")
    return target
