"""Checks that bytes are a self-contained ONNX network before an engine parses them.

It walks the protobuf wire format (https://protobuf.dev/programming-guides/encoding), with the messages of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. No tensor is unpacked.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from edgebone.core.errors import BundleError
from edgebone.core.limits import GRAPH_FIELDS, GRAPH_NESTING, TENSOR_ELEMENTS

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
# Every field of each inspected message, with its message type; "" for scalars and for messages without tensors, graphs,
# or shapes that memory is allocated for.
_FIELDS = {
    "ModelProto": dict.fromkeys((1, 2, 3, 4, 5, 6, 8, 14, 26), "") | {7: "GraphProto", 25: "FunctionProto"},
    "GraphProto": dict.fromkeys((2, 10, 14, 16), "")
    | {1: "NodeProto", 5: "TensorProto"}
    | dict.fromkeys((11, 12, 13), "ValueInfoProto"),
    "FunctionProto": dict.fromkeys((1, 4, 5, 6, 8, 9, 10, 12, 13, 14), "") | {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": dict.fromkeys((1, 2, 3, 4, 6, 7, 8, 9, 10), "") | {5: "AttributeProto"},
    "AttributeProto": dict.fromkeys((1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21), "")
    | dict.fromkeys((5, 10), "TensorProto")
    | dict.fromkeys((6, 11), "GraphProto"),
    "TensorProto": dict.fromkeys((*range(1, 13), 14, 16), ""),
    "ValueInfoProto": {1: "", 2: "TypeProto", 3: "", 4: ""},
    "TypeProto": {1: "TypeProto.Tensor"} | dict.fromkeys((4, 5, 6, 7, 8, 9), ""),
    "TypeProto.Tensor": {1: "", 2: "TensorShapeProto"},
    "TensorShapeProto": {1: "TensorShapeProto.Dimension"},
    "TensorShapeProto.Dimension": {1: "", 2: "", 3: ""},
}
# The same by a field's tag: its number and wire type. A message is always length-delimited.
_TAGS: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        kind: {
            number << 3 | wire: child
            for number, child in fields.items()
            for wire in ((_BYTES,) if child else (_VARINT, _FIXED_64, _BYTES, _FIXED_32))
        }
        for kind, fields in _FIELDS.items()
    }
)
# ONNX fields that a bundle may not use, in words.
_EXTERNAL, _SPARSE = "it keeps tensors in other files (external data)", "it holds sparse tensors"
_REFUSED: Mapping[tuple[str, int], str] = MappingProxyType(
    {
        ("TensorProto", 13): _EXTERNAL,
        ("ModelProto", 20): "it holds training information",
        ("GraphProto", 15): _SPARSE,
        ("AttributeProto", 22): _SPARSE,
        ("AttributeProto", 23): _SPARSE,
    }
)
_PLAIN_BYTES = 128
_NEGATIVE = 1 << 63
_CUT_OFF = "it is truncated, or not protobuf"


def check_onnx(content: bytes | mmap.mmap, where: str) -> None:
    """Reject bytes that are not one complete ONNX network.

    It rejects other formats, whatever the file's name; data in other files, anywhere in the network; bytes that belong
    to no ONNX field; graphs nested too deep; nodes that read a value that no earlier node outputs, as in a cycle;
    shapes that fit in no memory; and tensors with less data than their shapes say.

    Args:
        content: The file.
        where: The file, for messages.

    Raises:
        BundleError: It is not an ONNX network, or is rejected.
    """
    try:
        _Walk(content).model()
    except (_Refused, IndexError) as refused:
        why = refused if isinstance(refused, _Refused) else _CUT_OFF
        raise BundleError(f"{where}: not a valid ONNX network for a bundle: {why}; export or import it again") from None


class _Refused(Exception):
    """The reason why a network is rejected."""


_Scopes = tuple[set[bytes], ...]


class _Walk:
    def __init__(self, content: bytes | mmap.mmap) -> None:
        self._content = content
        self._fields_left = GRAPH_FIELDS
        # Attributes without messages, such as the strides of most convolutions, are inspected once.
        self._plain: set[bytes] = set()

    def model(self) -> None:
        fields = list(self._fields("ModelProto", 0, len(self._content)))
        numbers = [number for number, _, _, _ in fields]
        # Protobuf writers write the version first; no other format begins with it.
        if numbers[:1] != [1] or (numbers.count(1), numbers.count(7)) != (1, 1) or 8 not in numbers:
            raise _Refused("it does not begin with ONNX's version, or lacks a single graph or the operators' version")
        for _, child, start, end in fields:
            if child:
                self._graph(child, start, end, (), 1)

    def _graph(self, kind: str, start: int, end: int, scopes: _Scopes, depth: int) -> None:
        """Check a graph, or a function, which sees only its own inputs."""
        if depth > GRAPH_NESTING:
            raise _Refused(f"its graphs are nested more than {GRAPH_NESTING} deep")
        known: set[bytes] = set()
        scopes = (*scopes, known)
        nodes = []
        for number, child, at, to in self._fields(kind, start, end):
            if child == "NodeProto":
                # Checked once all inputs and initialisers are known, which follow the nodes.
                nodes.append((at, to))
            elif child == "TensorProto":
                known.add(self._tensor(at, to))
            elif child == "ValueInfoProto":
                name = self._value(at, to)
                if number == 11:
                    known.add(name)
            elif child:
                self._attribute(at, to, scopes, depth)
            elif number == 4:
                known.add(self._content[at:to])
        for at, to in nodes:
            self._node(at, to, scopes, depth)

    def _node(self, start: int, end: int, scopes: _Scopes, depth: int) -> None:
        defined = []
        for number, child, at, to in self._fields("NodeProto", start, end):
            if child:
                self._attribute(at, to, scopes, depth)
            elif number == 1:
                name = self._content[at:to]
                if name and not any(name in scope for scope in scopes):
                    raise _Refused(f"a node reads {_shown(name)}, which no earlier node outputs")
            elif number == 2:
                defined.append(self._content[at:to])
        for name in defined:
            if name in scopes[-1]:
                raise _Refused(f"{_shown(name)} is defined twice")
            if name:
                scopes[-1].add(name)

    def _attribute(self, start: int, end: int, scopes: _Scopes, depth: int) -> None:
        key = self._content[start : min(end, start + _PLAIN_BYTES)]
        if key in self._plain:
            return
        plain = len(key) < _PLAIN_BYTES
        for _, child, at, to in self._fields("AttributeProto", start, end):
            plain = plain and not child
            if child == "TensorProto":
                self._tensor(at, to)
            elif child:
                self._graph(child, at, to, scopes, depth + 1)
        if plain:
            self._plain.add(key)

    def _tensor(self, start: int, end: int) -> bytes:
        """Check a tensor; return its name."""
        name, elements = b"", 1
        for number, _, at, to in self._fields("TensorProto", start, end):
            if number == 8:
                name = self._content[at:to]
            elif number == 14 and self._varint(at)[0]:
                raise _Refused(_EXTERNAL)
            while number == 1 and at < to:
                size, at = self._varint(at)
                elements *= size
        # ONNX's smallest elements have two bits.
        if elements > 4 * (end - start):
            raise _Refused(f"tensor {_shown(name)} declares {elements} elements but has fewer")
        return name

    def _value(self, start: int, end: int) -> bytes:
        """Check a value's declared type; return its name."""
        name, elements = b"", 1
        for number, child, at, to in self._fields("ValueInfoProto", start, end):
            if number == 1:
                name = self._content[at:to]
            elif child:
                for size in self._sizes(child, at, to):
                    # Some exporters write -1 for a free size.
                    elements *= size if size < _NEGATIVE else 1
        if elements > TENSOR_ELEMENTS:
            raise _Refused(f"{_shown(name)} declares {elements} elements, more than {TENSOR_ELEMENTS}")
        return name

    def _sizes(self, kind: str, start: int, end: int) -> Iterator[int]:
        """Yield the numeric sizes of a tensor's shape; the others are only known at run time."""
        for number, child, at, to in self._fields(kind, start, end):
            if child:
                yield from self._sizes(child, at, to)
            elif kind == "TensorShapeProto.Dimension" and number == 1:
                yield self._varint(at)[0]

    def _fields(self, kind: str, start: int, end: int) -> Iterator[tuple[int, str, int, int]]:
        """Yield a message's fields: number, message type, and where the value begins and ends."""
        content, tags = self._content, _TAGS[kind]
        while start < end:
            tag = content[start]
            start += 1
            if tag > 0x7F:
                tag, start = self._varint(start - 1)
            number, wire = tag >> 3, tag & 7
            child = tags.get(tag)
            if child is None:
                wrong = f"{kind} has a field {number} of wire type {wire}, which ONNX does not have"
                raise _Refused(_REFUSED.get((kind, number), wrong))
            if wire == _BYTES:
                size = content[start]
                start += 1
                if size > 0x7F:
                    size, start = self._varint(start - 1)
                stop = start + size
            elif wire == _VARINT:
                stop = self._varint(start)[1]
            else:
                stop = start + (4 if wire == _FIXED_32 else 8)
            if stop > end:
                raise _Refused(_CUT_OFF)
            self._fields_left -= 1
            if self._fields_left < 0:
                raise _Refused(f"it has more than {GRAPH_FIELDS} fields")
            yield number, child, start, stop
            start = stop

    def _varint(self, start: int) -> tuple[int, int]:
        """Read an integer of variable length; return it and its end."""
        value = shift = 0
        while shift < 70:
            byte = self._content[start]
            start += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, start
            shift += 7
        raise _Refused(_CUT_OFF)


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="replace"))
