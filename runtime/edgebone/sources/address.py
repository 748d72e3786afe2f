"""``usb:0?size=1280x720&fps=30``: a camera of this machine and its mode."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgebone.core.errors import SourceError

_ADDRESS = re.compile(r"(usb|csi):(\d{1,4})(?:\?(.*))?")
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_FPS = re.compile(r"[1-9]\d{0,3}")
_FORMAT = re.compile(r"[A-Za-z0-9]{4}")


@dataclass(frozen=True)
class Mode:
    """The requested mode of a camera; None leaves a value to the camera.

    Attributes:
        size_hw: Height and width in pixels.
        fps: Frames per second.
        format: Four characters, such as ``MJPG`` or ``YUYV``.
    """

    size_hw: tuple[int, int] | None = None
    fps: int | None = None
    format: str | None = None

    def __str__(self) -> str:
        """``1280x720@30``."""
        size = f"{self.size_hw[1]}x{self.size_hw[0]}" if self.size_hw else "its own size"
        return size + (f"@{self.fps}" if self.fps else "")


@dataclass(frozen=True)
class Address:
    """A camera of this machine.

    Attributes:
        bus: ``usb`` or ``csi``.
        number: From 0.
        mode: The requested mode.
    """

    bus: str
    number: int
    mode: Mode


def parse_address(text: str) -> Address | None:
    """Parse a camera's address.

    Args:
        text: ``usb:0``, ``usb:0?size=1280x720&fps=30&format=mjpg``, ``csi:1?size=1920x1080``.

    Returns:
        The address; None if the text is not one.

    Raises:
        SourceError: It begins like one, but the rest is invalid.
    """
    found = _ADDRESS.fullmatch(text)
    if not found:
        if re.match(r"(usb|csi):", text):
            raise SourceError(f"{text}: write a camera as usb:0, csi:0, or usb:0?size=1280x720&fps=30&format=mjpg")
        return None
    bus, number, query = found.groups()
    settings: dict[str, str] = {}
    for part in filter(None, (query or "").split("&")):
        name, _, value = part.partition("=")
        if name in settings or not _is_good(bus, name, value):
            allowed = "size=WIDTHxHEIGHT, fps=N" + (" and format=FOUR, such as mjpg" if bus == "usb" else "")
            raise SourceError(f"{text}: {part} is not understood; after the question mark: {allowed}, joined by &")
        settings[name] = value
    size = _SIZE.fullmatch(settings.get("size", ""))
    mode = Mode(
        (int(size[2]), int(size[1])) if size else None,
        int(settings["fps"]) if "fps" in settings else None,
        settings["format"].upper() if "format" in settings else None,
    )
    if bus == "csi" and mode.size_hw and (mode.size_hw[0] % 2 or mode.size_hw[1] % 2):
        raise SourceError(f"{text}: a CSI camera's sizes must be even")
    return Address(bus, int(number), mode)


def _is_good(bus: str, name: str, value: str) -> bool:
    forms = {"size": _SIZE, "fps": _FPS} | ({"format": _FORMAT} if bus == "usb" else {})
    return name in forms and forms[name].fullmatch(value) is not None
