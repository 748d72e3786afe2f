"""A head as a separate artefact: a small ONNX graph and its manifest in one file, ``NAME.head``."""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from edgebone.core.bundle import ZIP_ERRORS
from edgebone.core.errors import BundleError, OutputError
from edgebone.core.limits import HEAD_BYTES, MANIFEST_BYTES
from edgebone.core.manifest import Head, Preprocess, Tap
from edgebone.core.onnx_file import check_onnx
from edgebone.core.reading import open_archive, read_member, read_regular
from edgebone.core.tensors import TensorSpec
from edgebone.core.writing import write_whole, writing

SCHEMA = 1
SUFFIX = ".head"
_MANIFEST, _GRAPH = "head.json", "head.onnx"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Backbone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The backbone that a head was fitted on, and the preprocessing that it needs.

    Attributes:
        name: The network's name.
        weights: Its weights' name.
        preprocess: From picture to the network's input.
        variant: The variant whose features it saw.
        engine: The engine and precision that computed them.
    """

    name: str
    weights: str
    preprocess: Preprocess
    variant: str
    engine: str


class HeadManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``head.json``.

    Attributes:
        schema: Always 1; another number is refused.
        name: The head's name in a bundle, unless another is given.
        created_by: ``edgebone`` and its version.
        created_at: UTC, ISO 8601.
        head: How its outputs are read.
        outputs: The graph's outputs.
        reads: The taps that it reads, by the name of its input.
        backbone: The backbone that it was fitted on.
        report: The measurements of the fit.
        sha256: The graph's hash.
    """

    schema: int
    name: str
    created_by: str
    created_at: str
    head: Head
    outputs: tuple[TensorSpec, ...]
    reads: dict[str, Tap]
    backbone: Backbone
    report: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class HeadFile:
    """An artefact that was read and verified.

    Attributes:
        manifest: ``head.json``.
        graph: ``head.onnx``: float32 inputs by tap, with the free batch axis ``batch``.
        where: Where it was read from, for messages.
    """

    manifest: HeadManifest
    graph: bytes
    where: str


def head_bytes(manifest: HeadManifest, graph: bytes) -> bytes:
    """Return the artefact's bytes; ``sha256`` in the manifest is recomputed. Equal content has equal bytes."""
    whole = msgspec.structs.replace(manifest, sha256=hashlib.sha256(graph).hexdigest())
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in ((_MANIFEST, msgspec.json.format(msgspec.json.encode(whole), indent=2)), (_GRAPH, graph)):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def write_head(path: str | os.PathLike[str], manifest: HeadManifest, graph: bytes, overwrite: bool = False) -> Path:
    """Write an artefact atomically.

    Raises:
        OutputError: It exists and may not be replaced, or cannot be written.
    """
    target = Path(path)
    check_head_target(target, overwrite)
    with writing(target):
        write_whole(target, head_bytes(manifest, graph))
    return target


def check_head_target(target: Path, overwrite: bool) -> None:
    """Reject a target that cannot be written, before the head is fitted.

    Raises:
        OutputError: It exists and may not be replaced, or its folder cannot be created.
    """
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; choose another name, or replace it with --force")
    if target.is_dir():
        raise OutputError(f"{target} is a folder; choose another name for the head")
    with writing(target):
        target.absolute().parent.mkdir(parents=True, exist_ok=True)


def read_head(path: str | os.PathLike[str]) -> HeadFile:
    """Read an artefact and check its hash.

    Raises:
        BundleError: It is missing, damaged, altered, not a head, or of another version.
    """
    try:
        content = read_regular(path, HEAD_BYTES)
    except OSError as error:
        raise BundleError(f"{path}: the head cannot be read ({error.strerror or error})") from error
    return parse_head(content, str(path))


def parse_head(content: bytes, where: str) -> HeadFile:
    """Read an artefact from bytes; ``where`` is for messages.

    Raises:
        BundleError: It is damaged, altered, not a head, or of another version.
    """
    try:
        with open_archive(io.BytesIO(content)) as archive:
            raw, graph = read_member(archive, _MANIFEST, MANIFEST_BYTES), read_member(archive, _GRAPH, HEAD_BYTES)
    except (*ZIP_ERRORS, KeyError) as error:
        raise BundleError(f"{where}: not a head; `edgebone fit` and `edgebone detach` write heads ({error})") from error
    try:
        found = msgspec.json.decode(raw, type=_Version).schema
        if found != SCHEMA or isinstance(found, bool):
            raise BundleError(f"{where}: the head has schema {found!r}, this edgebone reads {SCHEMA}; fit it again")
        manifest = msgspec.json.decode(raw, type=HeadManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{where}: head.json does not follow schema {SCHEMA}: {error}") from error
    if hashlib.sha256(graph).hexdigest() != manifest.sha256:
        raise BundleError(f"{where}: its graph was altered or damaged; copy or fit the head again")
    check_onnx(graph, f"{where}: {_GRAPH}")
    check_head_name(manifest.name)
    if {spec.name for spec in manifest.outputs} != set(manifest.head.outputs) or not manifest.reads:
        raise BundleError(f"{where}: head.json does not match the graph's inputs and outputs; fit it again")
    return HeadFile(manifest, graph, where)


def renamed(head: HeadFile, name: str) -> HeadFile:
    """Return the same head under another name."""
    return replace(head, manifest=msgspec.structs.replace(head.manifest, name=name))


def check_head_name(name: str) -> str:
    """Reject a name that cannot be used in a graph or as a file name.

    Raises:
        BundleError: It is too long or has characters other than letters, digits, dots, dashes and underscores.
    """
    if not _NAME.fullmatch(name):
        raise BundleError(f"a head's name has at most 64 letters, digits, dots, dashes and underscores, not {name!r}")
    return name


class _Version(msgspec.Struct):
    schema: Any = None


def refusal(reads: dict[str, Tap], taps: dict[str, Tap], mine: Backbone, preprocess: Preprocess) -> str:
    """Explain why a head does not fit a backbone; empty if it does.

    Args:
        reads: The taps that the head reads.
        taps: The backbone's taps.
        mine: The backbone that the head was fitted on.
        preprocess: How the backbone's pictures are prepared.
    """
    missing = sorted(reads.keys() - taps.keys())
    if missing:
        return f"it reads {', '.join(missing)}, the backbone has {', '.join(sorted(taps)) or 'no taps'}"
    for name, wanted in reads.items():
        have = taps[name]
        if have.shape != wanted.shape:
            return f"it reads {name} of shape {list(wanted.shape)}, the backbone has {list(have.shape)}"
        if have.fingerprint != wanted.fingerprint:
            return (
                f"it was fitted on another backbone: {mine.name} with weights {mine.weights}, whose {name} has the "
                f"fingerprint {wanted.fingerprint[:12]}…, not {have.fingerprint[:12]}…"
            )
    if mine.preprocess != preprocess:
        other = [
            f"{field} {getattr(mine.preprocess, field)} instead of {getattr(preprocess, field)}"
            for field in Preprocess.__struct_fields__
            if getattr(mine.preprocess, field) != getattr(preprocess, field)
        ]
        return f"it was fitted with another preprocessing: {', '.join(other)}"
    return ""
