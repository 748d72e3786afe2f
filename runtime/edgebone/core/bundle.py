"""Reading bundles: a directory, or the same directory as one zip, with a hash for every file."""

from __future__ import annotations

import hashlib
import os
import re
import time
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from types import TracebackType

from edgebone.core.errors import BundleError
from edgebone.core.manifest import FileRecord, Manifest, parse_manifest

MANIFEST = "manifest.json"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError)
"""What zipfile raises on damage, on encryption and on a compression method that it does not know."""
# One is enough for an exchange; somebody may write again and again.
_TRIES = 5
# Where a file system cannot exchange two names, there is none for a moment.
_MISSING_S = 0.02


class Bundle:
    """An open, verified bundle. Use :func:`open_bundle` to get one."""

    def __init__(self, path: Path, archive: zipfile.ZipFile | None, prefix: str, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._archive = archive
        self._prefix = prefix

    def read(self, name: str) -> bytes:
        """The bytes of one file that the manifest lists.

        Raises:
            BundleError: The manifest does not list it, or it is gone.
        """
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: the manifest lists no file {name}")
        return _read(self.path, self._archive, self._prefix, name)

    def file_path(self, name: str) -> Path | None:
        """Where the file lies on disk, or None in a zip: engines that can map a file take this."""
        return None if self._archive else self.path / name

    def close(self) -> None:
        """Close the zip, if it is one."""
        if self._archive:
            self._archive.close()

    def __enter__(self) -> Bundle:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle and check every file's hash.

    Args:
        path: The bundle's directory or zip.

    Raises:
        BundleError: There is no bundle, or a file is missing, altered or outside of the bundle.
    """
    root = Path(path)
    for _ in range(_TRIES - 1):
        before = _stamp(root)
        try:
            return _open(root)
        except BundleError:
            # A writer put another bundle in its place while this one was being read?
            if before is None:
                time.sleep(_MISSING_S)
            if _stamp(root) == before:
                raise
    return _open(root)


def _stamp(root: Path) -> tuple[int, int, int] | None:
    """What changes when a bundle is replaced; None where there is none."""
    try:
        found = root.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _open(root: Path) -> Bundle:
    if not os.path.exists(root):  # noqa: PTH110  (Path.exists raises on a name that is too long)
        raise BundleError(f"{root}: no such bundle; make one with: edgebone export MODEL -o {root}")
    archive = None
    prefix = ""
    if not root.is_dir():
        archive, prefix = _open_zip(root)
    try:
        manifest = parse_manifest(_read(root, archive, prefix, MANIFEST), str(root))
        for name, record in manifest.files.items():
            _verify(root, archive, prefix, name, record)
    except BaseException:
        if archive:
            archive.close()
        raise
    return Bundle(root, archive, prefix, manifest)


def _open_zip(root: Path) -> tuple[zipfile.ZipFile, str]:
    """Open a zip and find the folder in it that holds the manifest: its top, or its only folder."""
    try:
        archive = zipfile.ZipFile(root)
    except ZIP_ERRORS as error:
        raise BundleError(f"{root}: not a bundle: neither a directory nor a readable zip ({error})") from error
    names = archive.namelist()
    # Beside the one folder there may be others, without a manifest: macOS adds its __MACOSX.
    folders = [name.removesuffix(MANIFEST) for name in names if re.fullmatch(rf"[^/]+/{MANIFEST}", name)]
    prefix = folders[0] if MANIFEST not in names and len(folders) == 1 else ""
    return archive, prefix


def _read(root: Path, archive: zipfile.ZipFile | None, prefix: str, name: str) -> bytes:
    _check_listed(root, name)
    try:
        if archive:
            return archive.read(prefix + name)
        return path_inside(root, name).read_bytes()
    except BundleError:
        raise
    except (KeyError, FileNotFoundError) as error:
        if name == MANIFEST:
            raise BundleError(f"{root}: not a bundle: it holds no {MANIFEST}") from error
        raise BundleError(f"{root}: file {name} is missing; copy the bundle again") from error
    except ZIP_ERRORS as error:
        raise BundleError(f"{root}: file {name} cannot be read ({error}); copy the bundle again") from error


def _check_listed(root: Path, name: str) -> None:
    """Refuse a listed path that is not one inside the bundle, whatever lies on the disk."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or not pure.parts:
        raise BundleError(f"{root}: the manifest lists {name!r}, which is not a path inside the bundle")


def path_inside(root: Path, name: str) -> Path:
    """Resolve a listed path, refusing one that leaves the bundle by dots, by root or by a link."""
    _check_listed(root, name)
    target = root / name
    if not target.resolve().is_relative_to(root.resolve()):
        raise BundleError(f"{root}: {name} is a link that leads out of the bundle")
    return target


def _verify(root: Path, archive: zipfile.ZipFile | None, prefix: str, name: str, record: FileRecord) -> None:
    if archive:
        content = _read(root, archive, prefix, name)
        size, found = len(content), hashlib.sha256(content).hexdigest()
    else:
        try:
            target = path_inside(root, name)
            if not target.is_file():
                raise BundleError(f"{root}: file {name} is missing; copy the bundle again")
            size, found = target.stat().st_size, sha256_of(target)
        except (OSError, RuntimeError) as error:
            # No permission, a name that is too long, links in a circle.
            raise BundleError(f"{root}: file {name} cannot be read ({error})") from error
    if (size, found) != (record.size, record.sha256):
        raise BundleError(
            f"{root}: file {name} was altered or damaged: expected {record.size} bytes with sha256 "
            f"{record.sha256[:12]}…, found {size} bytes with {found[:12]}…; copy or export the bundle again"
        )


def sha256_of(path: Path) -> str:
    """A file's hex SHA-256, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
