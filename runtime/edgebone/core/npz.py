"""Reads arrays from NumPy's zip, within a size limit."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from edgebone.core import limits
from edgebone.core.reading import in_words, read_member
from edgebone.core.tensors import Array


def read_npz(content: bytes, limit_bytes: int) -> dict[str, Array]:
    """Read arrays that :func:`numpy.savez` wrote.

    Args:
        content: The file.
        limit_bytes: The limit for all arrays together, unpacked.

    Raises:
        ValueError: The arrays are larger, or too many.
        Exception: The file is damaged: zipfile, zlib, NumPy and tokenize each raise their own errors.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if len(members) > limits.ARCHIVE_MEMBERS:
            raise ValueError(f"it holds {len(members)} arrays, more than {limits.ARCHIVE_MEMBERS}")
        if sum(member.file_size for member in members) > limit_bytes:
            raise ValueError(f"its arrays are larger than {in_words(limit_bytes)}")
        return {
            member.filename.removesuffix(".npy"): np.lib.format.read_array(
                io.BytesIO(read_member(archive, member, limit_bytes)), allow_pickle=False
            )
            for member in members
        }
