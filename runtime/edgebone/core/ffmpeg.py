"""FFmpeg, through PyAV: imported when the first video or camera needs it, and bounded."""

from __future__ import annotations

import contextlib
import ctypes
from types import SimpleNamespace
from typing import Any

from edgebone.core import limits
from edgebone.core.errors import SourceError, missing, raise_interrupt


def import_av() -> Any:
    """Import PyAV, with FFmpeg's own messages off and its memory bounded.

    Returns:
        The module ``av``.

    Raises:
        MissingDependencyError: It is not installed.
        SourceError: It is installed, and cannot be imported.
    """
    try:
        import av
        import av.error
    except ModuleNotFoundError as error:
        raise missing("av", "video", "a video or a camera on the network") from error
    except ImportError as error:
        raise_interrupt(error)
        raise SourceError(f"PyAV is installed but cannot be imported: {error}") from error
    # FFmpeg's remarks about damaged packets would fill a log of days.
    av.logging.set_level(None)
    # Otherwise what RTP brings in pieces is put together to any length. PyAV does not offer the function itself; it is
    # not found where FFmpeg is a part of PyAV's own modules, as in no wheel of today.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(av.error.__file__).av_max_alloc(ctypes.c_size_t(limits.FFMPEG_BLOCK_BYTES))
    return av


def nameless(file: Any, *methods: str) -> SimpleNamespace:
    """Of a file the bytes alone: PyAV would show FFmpeg its name, which is guessed from, or taken for a protocol.

    Args:
        file: The file.
        methods: The names of what PyAV is to call.
    """
    return SimpleNamespace(**{method: getattr(file, method) for method in methods})
