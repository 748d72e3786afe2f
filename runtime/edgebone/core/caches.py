"""The user's cache of compiled networks and features, kept between runs; as trustworthy as a bundle.

Each file begins with a hash of its key and of its content, which detects damage and swapped files. Anyone who can write
to the folder could forge both, so a folder that other users can write to is not used.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from edgebone.core.reading import is_regular, open_regular, sha256_of
from edgebone.core.writing import write_whole

_DIGEST_BYTES = 32
_LENGTH_BYTES = 4
_log = logging.getLogger("edgebone.caches")


def cache_folder(name: str) -> Path | None:
    """Return a folder under the user's cache directory (``XDG_CACHE_HOME``, or ``~/.cache``), created if missing.

    Only the user can read it. A folder that belongs to another user, or that others could replace, is not used, and a
    warning is logged once (CWE-379).

    Args:
        name: Its name, such as ``openvino``.

    Returns:
        The folder; None if no folder is writable and trusted, which only costs time.
    """
    try:
        stated = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The XDG Base Directory Specification says to ignore relative paths.
        root = stated if stated.is_absolute() else Path.home() / ".cache"
        folder = root / "edgebone" / name
        folder.mkdir(parents=True, exist_ok=True)
        reason = _distrust(folder)
        if reason:
            _warn(f"{folder} is not used as a cache: {reason}; nothing is cached until only you can write to it")
            return None
        for own in (folder.parent, folder):
            own.chmod(0o700)
    except (OSError, RuntimeError):
        # A read-only system, or a user without a home.
        return None
    return folder if os.access(folder, os.W_OK) else None


@cache
def _warn(line: str) -> None:
    """Log a warning once per process."""
    _log.warning(line)


def _distrust(folder: Path) -> str:
    """Explain why other users may have written to a folder; empty if they cannot."""
    if not hasattr(os, "geteuid"):
        # On Windows other users cannot write to a user's own folders.
        return ""
    me = os.geteuid()
    place = folder.resolve()
    for own in (place, *place.parents):
        about = own.stat()
        mine = own in (place, place.parent)
        if about.st_uid != me and (mine or about.st_uid != 0):
            return f"{own} belongs to another user"
        # In a folder with the sticky bit, such as /tmp, users cannot replace each other's files.
        others = 0 if about.st_mode & stat.S_ISVTX else about.st_mode & (stat.S_IWOTH | stat.S_IWGRP)
        if others & stat.S_IWOTH or (others and not _only_mine(about.st_gid)):
            return f"other users can write to {own}"
    return ""


def _only_mine(group: int) -> bool:
    """Return whether a group has no other member: many systems create a group per user, with write permission."""
    import grp
    import pwd

    try:
        me = pwd.getpwuid(os.geteuid())
        return group == me.pw_gid and not set(grp.getgrgid(group).gr_mem) - {me.pw_name}
    except KeyError:
        return False


@dataclass(frozen=True)
class Cached:
    """The place of one cached file; create it with :func:`cached`.

    Attributes:
        path: The file.
        key: Everything that its content depends on.
    """

    path: Path
    key: bytes

    def load(self) -> tuple[bytes, bytes] | None:
        """Return the content and its note; None if the file is missing, damaged, or has another key."""
        try:
            with open_regular(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                digest = file.read(_DIGEST_BYTES)
                note = file.read(min(int.from_bytes(file.read(_LENGTH_BYTES), "little"), size))
                content = file.read(size)
        except (OSError, MemoryError):
            return None
        return (content, note) if digest == self._digest(content, note) else None

    def keep(self, content: bytes, note: bytes = b"") -> None:
        """Write content and a short note.

        Raises:
            OSError: It cannot be written; the only cost is the time to make the content again.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        length = len(note).to_bytes(_LENGTH_BYTES, "little")
        # A file damaged by a power failure is detected and made again.
        write_whole(self.path, b"".join((self._digest(content, note), length, note, content)), durable=False)

    def drop(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)

    def _digest(self, content: bytes, note: bytes) -> bytes:
        digest = hashlib.sha256()
        for part in (self.key, note):
            digest.update(len(part).to_bytes(_LENGTH_BYTES, "little") + part)
        digest.update(content)
        return digest.digest()


def cached(folder: Path, *depends_on: object) -> Cached:
    """Return the place of content that depends on exactly these numbers, texts and structures."""
    key = msgspec.json.encode(depends_on)
    return Cached(folder / hashlib.sha256(key).hexdigest()[:32], key)


@dataclass(frozen=True)
class CachedFolder:
    """A folder that a library reads and writes itself; create it with :func:`cached_folder`.

    Attributes:
        path: The folder.
        sums: The file with the hashes of its content.
    """

    path: Path
    sums: Cached

    def clean(self) -> None:
        """Remove every file that does not match its sealed hash, before the library reads the folder."""
        found = self.sums.load()
        sealed: dict[str, str] = {} if found is None else msgspec.json.decode(found[0])
        self.path.mkdir(parents=True, exist_ok=True)
        for item in self.path.iterdir():
            if is_regular(item) and not item.is_symlink() and sealed.get(item.name) == sha256_of(item):
                continue
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
            else:
                item.unlink()

    def seal(self) -> None:
        """Record the hashes of the library's files; unsealed files are removed at the next start."""
        with suppress(OSError):
            self.sums.keep(msgspec.json.encode({item.name: sha256_of(item) for item in self.path.iterdir()}))


def cached_folder(folder: Path, *depends_on: object) -> CachedFolder:
    """Return a folder for content that depends on exactly these numbers, texts and structures."""
    sums = cached(folder, *depends_on)
    return CachedFolder(sums.path.with_suffix(".files"), sums)


@dataclass(frozen=True)
class NetworkCache:
    """The cache of one compiled network.

    Attributes:
        folder: The folder.
        sha256: The hash of the network's ONNX file.
    """

    folder: Path
    sha256: str
