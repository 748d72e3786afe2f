"""Arrays out of NumPy's zip, none of them larger than they may be together."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from edgebone.core import limits
from edgebone.core.reading import in_words, read_member
from edgebone.core.tensors import Array


def read_npz(content: bytes, limit_bytes: int) -> dict[str, Array]:
    """Read what :func:`numpy.savez` wrote.

    Args:
        content: The file.
        limit_bytes: The most bytes of all arrays together, unpacked.

    Raises:
        ValueError: They are larger, or more than a zip may hold.
        Exception: It is damaged: zipfile, zlib, NumPy and tokenize each have errors of their own for that.
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
