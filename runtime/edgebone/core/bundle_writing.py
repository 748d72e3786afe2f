"""Writing bundles, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edgebone.core.bundle import MANIFEST, Bundle, path_inside
from edgebone.core.errors import OutputError
from edgebone.core.manifest import FileRecord, Manifest, parse_manifest
from edgebone.core.writing import writing


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
            place = path_inside(tree, name)
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
