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
        SourceError: It is installed but cannot be imported.
    """
    try:
        import av
        import av.error
    except ModuleNotFoundError as error:
        raise missing("av", "video", "a video or a camera on the network") from error
    except ImportError as error:
        raise_interrupt(error)
        raise SourceError(f"PyAV is installed but cannot be imported: {error}") from error
    # FFmpeg's remarks about damaged packets would fill the log of a long run.
    av.logging.set_level(None)
    # Otherwise RTP fragments are joined to any length. PyAV does not expose the function; the lookup fails only where
    # FFmpeg is linked into PyAV's own modules, as in none of today's wheels.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(av.error.__file__).av_max_alloc(ctypes.c_size_t(limits.FFMPEG_BLOCK_BYTES))
    return av


def nameless(file: Any, *methods: str) -> SimpleNamespace:
    """Wrap a file without its name, which FFmpeg would use to guess the format or take for a protocol.

    Args:
        file: The file.
        methods: The names of the methods that PyAV may call.
    """
    return SimpleNamespace(**{method: getattr(file, method) for method in methods})
