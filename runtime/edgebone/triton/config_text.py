"""Writes Triton's ``config.pbtxt``: the text form of its ModelConfig message, without protobuf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

# A bare word (an enum), a string, a number, a message, or a sequence of them, which repeats the field.
Field = Union["Word", str, bool, int, float, Mapping[str, "Field"], Sequence["Field"]]


class Word(str):
    """A bare word, such as an enum's value."""

    __slots__ = ()


def to_text(message: Mapping[str, Field], indent: int = 0) -> str:
    """Return a message in protobuf's text format.

    Args:
        message: Values by field name; a sequence repeats the field.
        indent: Its nesting depth.
    """
    pad = "  " * indent
    lines: list[str] = []
    for name, value in message.items():
        repeated = isinstance(value, Sequence) and not isinstance(value, str)
        for item in value if repeated else (value,):  # type: ignore[union-attr]
            if isinstance(item, Mapping):
                lines.append(f"{pad}{name} {{\n{to_text(item, indent + 1)}{pad}}}\n")
            else:
                lines.append(f"{pad}{name}: {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value: object) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    # Bytes beyond ASCII in octal: the only escape that every reader of the format supports.
    escaped = "".join(
        {"\\": "\\\\", '"': '\\"', "\n": "\\n"}.get(chr(byte)) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")
        for byte in str(value).encode()
    )
    return f'"{escaped}"'
