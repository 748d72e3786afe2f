"""Reads untrusted files: only regular ones, within a size limit."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zipfile
from pathlib import Path
from typing import BinaryIO

from edgebone.core.limits import ARCHIVE_MEMBERS, ARCHIVE_RATIO, MANIFEST_BYTES


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading.

    A FIFO, which would block until its writer opens it, and a device, which may be endless, are rejected at once.

    Raises:
        OSError: It cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str], limit_bytes: int) -> bytes:
    """Read a regular file whole.

    Args:
        path: The file.
        limit_bytes: The largest allowed size; from ``core/limits.py``.

    Raises:
        OSError: It cannot be read, is not a regular file, or is larger. ``strerror`` says which.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # Reads no more than that: Python allocates memory for all bytes requested.
        content = b"" if size > limit_bytes else file.read(size + 1)
    if max(size, len(content)) > limit_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {in_words(limit_bytes)}", os.fspath(path))
    return content


def read_text(path: str | os.PathLike[str], limit_bytes: int) -> str:
    """Read a UTF-8 text, with or without a byte order mark.

    Raises:
        OSError: As :func:`read_regular`.
        UnicodeDecodeError: It is not UTF-8.
    """
    return read_regular(path, limit_bytes).decode("utf-8-sig")


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """Open a zip, within limits on the number of members and the unpacked size, and with unique names.

    Args:
        file: The zip, open for reading; the caller closes it.

    Raises:
        ValueError: It has too many members, a name twice, or declares far more bytes than it has: a zip bomb, also one
            whose members share bytes (CWE-409).
        zipfile.BadZipFile: It is damaged, or not a zip.
    """
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    if len(names) > ARCHIVE_MEMBERS:
        raise ValueError(f"it has {len(names)} members, more than {ARCHIVE_MEMBERS}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has two members named {twice}")
    declared = sum(info.file_size for info in archive.infolist())
    if declared > MANIFEST_BYTES + ARCHIVE_RATIO * file.seek(0, os.SEEK_END):
        raise ValueError(f"unpacked it would have {in_words(declared)}, more than {ARCHIVE_RATIO} times its own size")
    return archive


def read_member(archive: zipfile.ZipFile, member: str | zipfile.ZipInfo, limit_bytes: int) -> bytes:
    """Read one member of a zip; its declared size is checked before it is unpacked.

    Raises:
        KeyError: There is no such member.
        ValueError: It is larger than the limit, or than it declares.
        zipfile.BadZipFile: It is damaged; zlib and zipfile also raise other errors.
    """
    info = member if isinstance(member, zipfile.ZipInfo) else archive.getinfo(member)
    if info.file_size > limit_bytes:
        raise ValueError(f"{info.filename} is larger than {in_words(limit_bytes)}")
    with archive.open(info) as file:
        content = file.read(limit_bytes + 1)
    if len(content) != info.file_size:
        raise ValueError(f"{info.filename} is not as long as it declares")
    return content


def sha256_of(path: Path) -> str:
    """Return a file's hex SHA-256, read in chunks."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def in_words(size_bytes: int) -> str:
    """Format a size in bytes for people: ``16 MB``."""
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.4g} {name}"
    return f"{size_bytes} bytes"


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a regular file, following links; False if it cannot be accessed."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False
