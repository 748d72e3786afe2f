"""Writes bundles: atomically, one writer at a time."""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from edgebone.core.bundle import Bundle, open_bundle, path_inside
from edgebone.core.errors import BundleError, OutputError
from edgebone.core.locking import locked
from edgebone.core.manifest import FileRecord, Manifest, parse_manifest
from edgebone.core.model_files import MANIFEST
from edgebone.core.reading import is_regular
from edgebone.core.staging import put_in_place, remove_left, staging
from edgebone.core.writing import writing


@dataclass(frozen=True)
class Update:
    """A change to a bundle.

    Attributes:
        manifest: Its new manifest; ``files`` is recomputed.
        add: Content by path in the bundle; replaces existing files.
        remove: Paths to remove; all others are kept.
    """

    manifest: Manifest
    add: Mapping[str, bytes] = field(default_factory=dict)
    remove: Collection[str] = ()


def write_bundle(
    path: str | os.PathLike[str],
    manifest: Manifest,
    files: Mapping[str, bytes],
    overwrite: bool = False,
    made_of: Bundle | None = None,
) -> Path:
    """Write a bundle atomically; other writers of it wait.

    Everything is written to a hidden directory beside the target, read back, and then renamed to the target.

    Args:
        path: The target; one that ends in ``.zip`` becomes a single zip. If it is a link, the link's target is
            replaced.
        manifest: The manifest; its ``files`` are replaced by the records of ``files``.
        files: Content by path in the bundle.
        overwrite: Replace an existing bundle.
        made_of: The bundle that this one was made from. If it is the target itself, it must not have changed since it
            was opened.

    Returns:
        The target.

    Raises:
        BundleError: A path is not inside the bundle.
        OutputError: The target exists, was changed meanwhile, cannot be written, or the disk is full.
    """
    target = Path(path)
    with writing(target), locked(target):
        check_target(target, overwrite)
        place = Path(os.path.realpath(target))
        if made_of is not None and place.exists() and made_of.path.exists() and place.samefile(made_of.path):
            with open_bundle(place) as newest:
                if newest.manifest != made_of.manifest:
                    raise _changed(target)
        whole = msgspec.structs.replace(manifest, files=_records(files))
        _write(target, whole, files.items(), as_zip=target.suffix == ".zip")
    return target


def update_bundle(path: str | os.PathLike[str], change: Callable[[Manifest], Update]) -> Path:
    """Change the current bundle atomically; other writers of it wait, and no update is lost.

    Files that are kept keep their records, and are checked against them.

    Args:
        path: The bundle.
        change: Takes the current manifest and returns the update. It is called while others wait: do slow work before,
            and check with :func:`check_unchanged` that it still applies.

    Raises:
        BundleError: The bundle cannot be read, or a file that is kept was altered.
        OutputError: The bundle cannot be written; it is as it was.
    """
    target = Path(path)
    with writing(target, left="the bundle is as it was"), locked(target), open_bundle(target) as bundle:
        update = change(bundle.manifest)
        kept = {
            name: record
            for name, record in bundle.manifest.files.items()
            if name not in update.add and name not in update.remove
        }
        whole = msgspec.structs.replace(update.manifest, files=kept | _records(update.add))
        # One at a time: together they may not fit in memory.
        content = chain(((name, bundle.read(name)) for name in kept), update.add.items())
        _write(target, whole, content, as_zip=target.is_file())
    return target


def check_unchanged(path: str | os.PathLike[str], then: Manifest, now: Manifest, graphs: Collection[str]) -> None:
    """Reject an addition that was made from, or measured on, graphs that have changed since.

    Args:
        path: The bundle, for the message.
        then: The manifest at that time.
        now: The newest one.
        graphs: Names of the variants and frame variants that it was made of.

    Raises:
        OutputError: One of them, the heads, the preprocessing or the golden sample is another one now.
    """
    if _foundation(then, graphs) != _foundation(now, graphs):
        raise _changed(Path(path))


def _foundation(manifest: Manifest, graphs: Collection[str]) -> tuple[Any, ...]:
    known = [name for name in graphs if name in manifest.variants or name in manifest.frame_variants]
    variants = {name: manifest.graph(name) for name in known}
    used = [variant.file for variant in variants.values()]
    used += [head.file for head in manifest.heads.values() if head.file]
    used += [manifest.golden.image, manifest.golden.tensors]
    records = {name: manifest.files[name] for name in used}
    return manifest.preprocess, manifest.input, manifest.heads, manifest.taps, manifest.golden, variants, records


def _changed(target: Path) -> OutputError:
    return OutputError(
        f"{target} was changed by another process meanwhile, and the new content was made from the older one; "
        "nothing was written: run it again"
    )


def check_target(target: Path, overwrite: bool) -> None:
    """Reject a target that :func:`write_bundle` could not write, before the work starts.

    Raises:
        OutputError: It exists and may not be replaced, or is not a bundle; or its folder cannot be written.
    """
    place = Path(os.path.realpath(target))
    if place.parent.is_dir():
        with writing(target):
            remove_left(place)
    if target.exists():
        if not overwrite:
            raise OutputError(f"{target} exists; choose another name, or replace it with --force")
        if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
            raise OutputError(f"{target} is a folder with other files, not a bundle; it was not replaced")
        if not target.is_dir() and not (is_regular(target) and zipfile.is_zipfile(target)):
            raise OutputError(f"{target} is a file of another kind, not a bundle; it was not replaced")
    with writing(target):
        place.parent.mkdir(parents=True, exist_ok=True)
        with staging(place):
            pass


def _records(files: Mapping[str, bytes]) -> dict[str, FileRecord]:
    return {name: FileRecord(hashlib.sha256(content).hexdigest(), len(content)) for name, content in files.items()}


def _write(target: Path, manifest: Manifest, files: Iterable[tuple[str, bytes]], as_zip: bool) -> None:
    """Write a bundle from a complete manifest; the caller holds the target's lock."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    parse_manifest(text, str(target))
    place = Path(os.path.realpath(target))
    with staging(place) as folder:
        made = folder / ("bundle.zip" if as_zip else "bundle")
        (_fill_zip if as_zip else _fill_folder)(made, chain([(MANIFEST, text)], files))
        graphs = {manifest.graph(name).file for name in (*manifest.variants, *manifest.frame_variants)}
        try:
            with open_bundle(made, read_next=lambda _: graphs) as opened:
                for name in graphs:
                    opened.read(name)
        except BundleError as error:
            # A bundle reported as written must be readable; a kept file may have been altered since it was checked.
            raise BundleError(str(error).replace(str(made), str(target))) from error
        put_in_place(made, place)


def _fill_folder(made: Path, files: Iterable[tuple[str, bytes]]) -> None:
    made.mkdir()
    for name, content in files:
        place = path_inside(made, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def _fill_zip(made: Path, files: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files:
            path_inside(made.parent, name)
            info = zipfile.ZipInfo(name, time.localtime()[:6])
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
