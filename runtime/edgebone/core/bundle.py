"""Reading and writing bundles: a directory, or the same directory as one zip, with a hash for every file."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType

import msgspec

from edgebone.core.errors import BundleError, OutputError
from edgebone.core.manifest import FileRecord, Manifest, parse_manifest
from edgebone.core.writing import writing

MANIFEST = "manifest.json"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError)
"""What zipfile raises on damage, on encryption and on a compression method that it does not know."""


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
        return _inside(root, name).read_bytes()
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


def _inside(root: Path, name: str) -> Path:
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
            target = _inside(root, name)
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


def write_bundle(
    path: str | os.PathLike[str], manifest: Manifest, files: Mapping[str, bytes], overwrite: bool = False
) -> Path:
    """Write a bundle whole or not at all.

    Everything goes to a hidden directory beside the target, which then takes the target's name.

    Args:
        path: The target; one that ends in ``.zip`` becomes a single zip.
        manifest: The manifest; its ``files`` are replaced by the records of ``files``.
        files: Content by path in the bundle.
        overwrite: Replace an existing bundle.

    Returns:
        The target.

    Raises:
        OutputError: The target exists, is no place to write to, or the disk is full.
    """
    target = Path(path)
    check_target(target, overwrite)
    records = {name: FileRecord(hashlib.sha256(content).hexdigest(), len(content)) for name, content in files.items()}
    text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(manifest, files=records)), indent=2)
    parse_manifest(text, str(target))
    with writing(target), _staging(target) as staging:
        tree = staging / "bundle"
        for name, content in {**files, MANIFEST: text}.items():
            place = _inside(tree, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            _write_synced(place, content)
        made = tree
        if target.suffix == ".zip":
            made = staging / "bundle.zip"
            with zipfile.ZipFile(made, "w") as archive:
                for name in (MANIFEST, *files):
                    archive.write(tree / name, name)
            _sync(made)
        _put_in_place(made, target, staging)
    return target


def update_bundle(bundle: Bundle, manifest: Manifest, add: Mapping[str, bytes], remove: Collection[str] = ()) -> Path:
    """Write an open bundle anew with files added and removed, whole or not at all; the open one stays as it was.

    Args:
        bundle: The bundle, whose other files are kept.
        manifest: Its new manifest; ``files`` is made anew.
        add: Content by path in the bundle; replaces files of that path.
        remove: Paths that go.

    Raises:
        BundleError: A file that is kept was altered meanwhile.
        OutputError: The bundle cannot be written.
    """
    kept = [name for name in bundle.manifest.files if name not in remove and name not in add]
    return write_bundle(bundle.path, manifest, {**{name: bundle.read(name) for name in kept}, **add}, overwrite=True)


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a target that :func:`write_bundle` could not write, before the work that fills it.

    Raises:
        OutputError: It exists and is not to be replaced, or is not a bundle; its folder cannot be written.
    """
    if target.exists():
        if not overwrite:
            raise OutputError(f"{target} exists; choose another name, or replace it with --force")
        if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
            raise OutputError(f"{target} is a folder with other things in it, not a bundle; not replaced")
        if target.is_file() and not zipfile.is_zipfile(target):
            raise OutputError(f"{target} is a file of another kind, not a bundle; not replaced")
    with writing(target):
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        with _staging(target):
            pass


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A hidden directory beside the target, removed whatever happens."""
    parent = target.absolute().parent
    _remove_stale(parent, target.name)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}-", dir=parent))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove_stale(parent: Path, name: str) -> None:
    """Clear what an earlier process that was killed outright (SIGKILL, power) left of the same target."""
    if not Path("/proc/self").exists():
        return
    for left in parent.iterdir():
        found = re.fullmatch(rf"\.{re.escape(name)}\.(\d+)-[a-z0-9_]{{8}}", left.name)
        if found and left.is_dir() and not Path(f"/proc/{found[1]}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _write_synced(path: Path, content: bytes) -> None:
    """Write and flush to the disk, so that the rename cannot come before the content."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _put_in_place(made: Path, target: Path, staging: Path) -> None:
    """Give the finished bundle its name; a bundle of that name moves into the staging directory."""
    replaced = staging / "replaced"
    if target.exists():
        target.rename(replaced)
    try:
        made.rename(target)
    except BaseException:
        # Ctrl-C between the two renames, too: the old bundle must not go away with the staging directory.
        if replaced.exists():
            replaced.rename(target)
        raise
