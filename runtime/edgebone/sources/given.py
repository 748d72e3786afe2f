"""Converts a model's argument into pixels: a file, a URL, bytes, or a Pillow, NumPy or PyTorch picture."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgebone.core.errors import SourceError, TensorError
from edgebone.core.frame import Frame
from edgebone.core.limits import PICTURE_BYTES
from edgebone.sources.images import picture_to_bgr, read_image
from edgebone.sources.network_address import read_address

Color = Literal["bgr", "rgb"]
_TIMEOUT_S, _PIECE_BYTES = 10.0, 1 << 16


def to_bgr(picture: Any, color: Color = "bgr") -> NDArray[Any]:
    """Return the pixels of a picture in any supported form.

    Args:
        picture: A path; an ``http://`` or ``https://`` address; a file's bytes, or the file, open for reading bytes; a
            ``PIL.Image.Image``; an array, uint8: (height, width, 3), (height, width, 4) with an ignored alpha channel,
            (height, width, 1) or (height, width) in grey; a torch tensor, RGB and channels first, uint8 or float of 0
            to 1; a :class:`edgebone.Frame`.
        color: The channel order of arrays; ignored for other forms.

    Returns:
        uint8 (height, width, 3), BGR; an array in that form is returned itself.

    Raises:
        SourceError: A file or an address cannot be read.
        TensorError: An array or a tensor is not a picture.
    """
    if color not in get_args(Color):
        raise TensorError(f"an array's color must be bgr or rgb, not {color!r}")
    if isinstance(picture, np.ndarray):
        return _array_to_bgr(picture, color)
    if isinstance(picture, Frame):
        return picture.image
    if isinstance(picture, str) and picture.lower().startswith(("http://", "https://")):
        return read_image(*_fetch(picture))
    if isinstance(picture, (str, os.PathLike)):
        return read_image(picture)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return read_image("the picture's bytes", bytes(picture))
    if isinstance(picture, Image.Image):
        return picture_to_bgr(picture)
    if hasattr(picture, "read"):
        name = getattr(picture, "name", "the picture's file")
        content = picture.read(PICTURE_BYTES + 1)
        if not isinstance(content, bytes):
            raise SourceError(f"{name}: open a picture's file for reading bytes: open(path, 'rb')")
        return read_image(name if isinstance(name, (str, os.PathLike)) else str(name), content)
    if hasattr(picture, "detach") and hasattr(picture, "cpu"):
        return _tensor_to_bgr(picture.detach().cpu().numpy())
    raise TensorError(
        "a picture must be a path, a URL, bytes, an open file, a PIL picture, an array, a tensor or a Frame, not "
        f"{type(picture).__name__}"
    )


def _array_to_bgr(array: NDArray[Any], color: Color) -> NDArray[Any]:
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] in (1, 4):
        array = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[..., :3]
    # Other shapes and types are rejected by the preprocessing, with its message.
    is_picture = array.ndim == 3 and array.shape[2] == 3
    return np.ascontiguousarray(array[..., ::-1]) if color == "rgb" and is_picture else array


def _tensor_to_bgr(tensor: NDArray[Any]) -> NDArray[np.uint8]:
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise TensorError(
            "a tensor must be one picture, RGB and channels first, of shape [3, height, width], not "
            f"{list(tensor.shape)}; pass several as a list"
        )
    if tensor.dtype.kind == "f":
        low, high = (float(tensor.min()), float(tensor.max())) if tensor.size else (0.0, 0.0)
        if not (low >= 0 and high <= 1):
            raise TensorError(
                f"a tensor of floats must be a picture of 0 to 1, found {low:.3g} to {high:.3g}: pass it "
                "before normalisation"
            )
        tensor = np.rint(tensor * 255).astype(np.uint8)
    if tensor.dtype != np.uint8:
        raise TensorError(f"a tensor must be uint8, or floats of 0 to 1, not {tensor.dtype}")
    return np.ascontiguousarray(np.broadcast_to(tensor, (3, *tensor.shape[1:]))[::-1].transpose(1, 2, 0))


def _fetch(url: str) -> tuple[str, bytes]:
    """Return the address's name, without secrets, and its content, up to the limit for a picture."""
    # Imported here: it loads HTTP and TLS, which files do not need.
    from edgebone.sources.http_stream import HttpStream

    address = read_address(url)
    content = io.BytesIO()
    with contextlib.closing(HttpStream(address, _TIMEOUT_S)) as stream:
        # One byte above the limit is enough to be rejected.
        while content.tell() <= PICTURE_BYTES and (data := stream.read(_PIECE_BYTES)):
            stream.grant(_TIMEOUT_S)
            content.write(data)
        if stream.failure:
            raise stream.failure
    return address.name, content.getvalue()
