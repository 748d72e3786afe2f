"""Converts PAM, which Pillow does not read, to PNM."""

from __future__ import annotations

import numpy as np

_HEADER_BYTES = 4096
_WANTED = ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL")
# Output channels by the file's: alpha is dropped, as in every other format.
_KEPT = {1: 1, 2: 1, 3: 3, 4: 3}


def as_pnm(content: bytes, most_pixels: int) -> bytes:
    """Return a PGM or PPM with a PAM's pixels.

    Args:
        content: The PAM's bytes.
        most_pixels: A larger picture keeps only its header: it will be rejected for its size.

    Raises:
        ValueError: It is truncated or invalid.
    """
    header, end, _ = content[:_HEADER_BYTES].partition(b"ENDHDR\n")
    if not end:
        raise ValueError("its header has no end")
    words = [line.split() for line in header.decode("latin-1").splitlines()]
    said = {line[0]: line[1] for line in words if len(line) > 1 and not line[0].startswith("#")}
    width, height, depth, most = (int(said.get(name, "0")) for name in _WANTED)
    if width < 1 or height < 1 or depth not in _KEPT or not 0 < most < 65536:
        raise ValueError(f"its header says {', '.join(f'{name} {said.get(name)}' for name in _WANTED)}")
    channels = _KEPT[depth]
    made = f"P{5 if channels == 1 else 6}\n{width} {height}\n{most}\n".encode()
    if width * height > most_pixels:
        return made
    size = 1 if most < 256 else 2
    samples = np.frombuffer(content, np.uint8, width * height * depth * size, len(header) + len(end))
    return made + samples.reshape(-1, depth, size)[:, :channels].tobytes()
