"""What is kept between runs, in a cache of the user's: compiled networks, features; as trustworthy as a bundle.

Each file begins with a hash of what it is kept under and of all that follows: damage is found, and a file in another
one's place. Who may write in the folder could make both: nobody else may, and where somebody else can it is not used.
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
    """A folder under the user's cache directory (``XDG_CACHE_HOME``, or ``~/.cache``), made where missing.

    Nobody but the user can look into it. One that belongs to another user, or that lies where others may replace it, is
    not used, which is logged once (CWE-379).

    Args:
        name: What is kept in it, such as ``openvino``.

    Returns:
        The folder; None where there is no place to write to, or none to trust, which only costs time.
    """
    try:
        told = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The XDG Base Directory Specification has relative ones ignored.
        root = told if told.is_absolute() else Path.home() / ".cache"
        folder = root / "edgebone" / name
        folder.mkdir(parents=True, exist_ok=True)
        reason = _distrust(folder)
        if reason:
            _warn(f"{folder} is not used as a cache: {reason}; nothing is kept until it is yours alone")
            return None
        for own in (folder.parent, folder):
            own.chmod(0o700)
    except (OSError, RuntimeError):
        # A read-only system, or a user without a home.
        return None
    return folder if os.access(folder, os.W_OK) else None


@cache
def _warn(line: str) -> None:
    """Say it once a process."""
    _log.warning(line)


def _distrust(folder: Path) -> str:
    """Why others than the user may have written in a folder, in words; empty where they cannot."""
    if not hasattr(os, "geteuid"):
        # On Windows a user's own folders are nobody else's.
        return ""
    me = os.geteuid()
    place = folder.resolve()
    for own in (place, *place.parents):
        about = own.stat()
        mine = own in (place, place.parent)
        if about.st_uid != me and (mine or about.st_uid != 0):
            return f"{own} belongs to another user"
        # In one with the sticky bit, as /tmp, nobody replaces what is another's.
        others = 0 if about.st_mode & stat.S_ISVTX else about.st_mode & (stat.S_IWOTH | stat.S_IWGRP)
        if others & stat.S_IWOTH or (others and not _only_mine(about.st_gid)):
            return f"others may write in {own}"
    return ""


def _only_mine(group: int) -> bool:
    """Whether nobody else is in a group: many systems give each user one of their own, and let it write."""
    import grp
    import pwd

    try:
        me = pwd.getpwuid(os.geteuid())
        return group == me.pw_gid and not set(grp.getgrgid(group).gr_mem) - {me.pw_name}
    except KeyError:
        return False


@dataclass(frozen=True)
class Cached:
    """A place for one thing that is kept; make one with :func:`cached`.

    Attributes:
        path: The file.
        key: All that its content depends on.
    """

    path: Path
    key: bytes

    def load(self) -> tuple[bytes, bytes] | None:
        """The content and its note; None where there is none, where it is damaged, or was kept under another key."""
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
        """Keep content, and a few words beside it.

        Raises:
            OSError: It cannot be written, which costs the time of making it again, and nothing else.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        length = len(note).to_bytes(_LENGTH_BYTES, "little")
        # A cache that the power goes out on is found damaged, and made again.
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
    """The place of what depends on these numbers, texts and structures, and on nothing else."""
    key = msgspec.json.encode(depends_on)
    return Cached(folder / hashlib.sha256(key).hexdigest()[:32], key)


@dataclass(frozen=True)
class CachedFolder:
    """A folder that a library fills, and reads, by itself; make one with :func:`cached_folder`.

    Attributes:
        path: The folder.
        sums: Where the hashes of what is in it are kept.
    """

    path: Path
    sums: Cached

    def clean(self) -> None:
        """Remove all that is not as it was sealed, before the library reads it."""
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
        """Keep the hashes of what the library has written; what is not sealed is removed at the next start."""
        with suppress(OSError):
            self.sums.keep(msgspec.json.encode({item.name: sha256_of(item) for item in self.path.iterdir()}))


def cached_folder(folder: Path, *depends_on: object) -> CachedFolder:
    """A folder for what depends on these numbers, texts and structures, and on nothing else."""
    sums = cached(folder, *depends_on)
    return CachedFolder(sums.path.with_suffix(".files"), sums)


@dataclass(frozen=True)
class NetworkCache:
    """Where one network is kept, compiled.

    Attributes:
        folder: The folder.
        sha256: The hash of the network's ONNX file.
    """

    folder: Path
    sha256: str
