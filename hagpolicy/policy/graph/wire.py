"""ONNX's protobuf encoding, strictly: known fields alone, each in the one form that protobuf itself writes.

What protobuf readers disagree about or let pass is refused: unknown fields, tags or numbers that are longer than
needed or than 64 bits, a single field given twice, packed lists, groups. So the values that were read are all that
a message says to any reader, and writing them again gives the same bytes. The onnx package is not needed. Field
numbers are those of onnx.proto (github.com/onnx/onnx).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hagpolicy.errors import BundleError

# Fields of all messages together, those of a list of numbers not counted.
MAX_FIELDS = 100_000
# Bytes of one list of numbers or words.
MAX_LIST = 8 << 20
# Printable ASCII: names end up in messages and in other files.
_TEXT = re.compile(rb"[\x20-\x7e]{0,255}")
# The words that a list of strings may hold: the modes of a tree's nodes.
LEAF, BRANCH = b"LEAF", b"BRANCH_LEQ"
_WORDS = re.compile(rb"(?:\x4a\x04LEAF|\x4a\x0aBRANCH_LEQ)+")
# Wire type of each kind of field; a message's name is a kind too.
_WIRES = {"int": 0, "ints": 0, "float": 5, "floats": 5}


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        name: such as "op_type".
        kind: "int", "float", "text", "bytes", the name of a message; "ints", "floats" or "words" for a list.
        many: it may come several times.
    """

    name: str
    kind: str
    many: bool = False


@dataclass(frozen=True, eq=False)
class Run:
    """A list of numbers or words: its values, and its bytes in the message, which are the only ones it can have."""

    values: np.ndarray
    raw: memoryview


Message = dict[str, Any]

_FIELDS: dict[str, dict[int, Field]] = {
    "model": {
        1: Field("ir_version", "int"),
        2: Field("producer_name", "text"),
        6: Field("doc_string", "text"),
        7: Field("graph", "graph"),
        8: Field("opset_import", "opset", many=True),
    },
    "opset": {1: Field("domain", "text"), 2: Field("version", "int")},
    "graph": {
        1: Field("node", "node", many=True),
        2: Field("name", "text"),
        5: Field("initializer", "tensor", many=True),
        11: Field("input", "value_info", many=True),
        12: Field("output", "value_info", many=True),
    },
    "node": {
        1: Field("input", "text", many=True),
        2: Field("output", "text", many=True),
        3: Field("name", "text"),
        4: Field("op_type", "text"),
        5: Field("attribute", "attribute", many=True),
        7: Field("domain", "text"),
    },
    "attribute": {
        1: Field("name", "text"),
        2: Field("f", "float"),
        3: Field("i", "int"),
        4: Field("s", "text"),
        5: Field("t", "tensor"),
        7: Field("floats", "floats"),
        8: Field("ints", "ints"),
        9: Field("strings", "words"),
        20: Field("type", "int"),
    },
    "tensor": {
        1: Field("dims", "int", many=True),
        2: Field("data_type", "int"),
        8: Field("name", "text"),
        9: Field("raw_data", "bytes"),
    },
    "value_info": {1: Field("name", "text"), 2: Field("type", "type")},
    "type": {1: Field("tensor_type", "tensor_type")},
    "tensor_type": {1: Field("elem_type", "int"), 2: Field("shape", "shape")},
    "shape": {1: Field("dim", "dim", many=True)},
    "dim": {1: Field("dim_value", "int"), 2: Field("dim_param", "text")},
}
# What else onnx.proto has and a stranger may try, in words.
_REFUSED = {
    ("model", 14): "metadata",
    ("model", 20): "training information",
    ("model", 25): "functions",
    ("graph", 14): "quantization annotations",
    ("graph", 15): "sparse tensors",
    ("attribute", 6): "subgraphs",
    ("attribute", 11): "subgraphs",
    ("attribute", 22): "sparse tensors",
    ("attribute", 23): "sparse tensors",
    ("tensor", 13): "external data",
    ("tensor", 14): "external data",
}
# Tags by message: number and wire type in one, as they are written.
_TAGS = {
    kind: {number << 3 | _WIRES.get(field.kind, 2): field for number, field in fields.items()}
    for kind, fields in _FIELDS.items()
}


def read_message(kind: str, data: bytes) -> Message:
    """The values of a message and of all messages in it, by name; lists where a field may come several times.

    Args:
        kind: name of the message, such as "model".
        data: its bytes. Tensors stay views of them.

    Raises:
        BundleError: unknown fields, or known ones in a form that protobuf does not write.
    """
    return _Reader(MAX_FIELDS).read(kind, memoryview(data))


def write_message(kind: str, message: Message) -> list[bytes | memoryview]:
    """The bytes of a message, in parts: fields in the order of their numbers, as protobuf writes them."""
    parts: list[bytes | memoryview] = []
    for tag, field in _TAGS[kind].items():
        if field.name not in message:
            continue
        value = message[field.name]
        for one in value if field.many else (value,):
            if field.kind == "int":
                parts.append(_write_varint(tag) + _write_varint(one))
            elif field.kind == "float":
                parts.append(_write_varint(tag) + struct.pack("<f", one))
            elif isinstance(one, Run):
                parts.append(one.raw)
            else:
                inner = _write_contents(field.kind, one)
                parts.append(_write_varint(tag) + _write_varint(sum(map(len, inner))))
                parts += inner
    return parts


def _write_contents(kind: str, value: Any) -> list[bytes | memoryview]:
    if kind == "text":
        return [value.encode("ascii")]
    return [value] if kind == "bytes" else write_message(kind, value)


def _write_varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """Reads messages, `left` fields at most."""

    def __init__(self, left: int) -> None:
        self.left = left

    def read(self, kind: str, data: memoryview) -> Message:
        """The values of one message."""
        tags, place, end = _TAGS[kind], 0, len(data)
        found: Message = {}
        while place < end:
            self.left -= 1
            if self.left < 0:
                raise BundleError(f"policy.onnx: expected at most {MAX_FIELDS:,} fields, got more")
            start = place
            tag, place = _read_varint(data, place)
            field = tags.get(tag)
            if field is None:
                raise BundleError(f"policy.onnx: expected the fields of a policy's graph, got {_describe(kind, tag)}")
            if field.kind in _READERS:
                if end - start > MAX_LIST:
                    raise BundleError(f"policy.onnx: expected a list of at most {MAX_LIST:,} bytes, got a longer one")
                value: Any = _READERS[field.kind](data[start:])
                place = start + len(value.raw)
            else:
                value, place = self._value(field.kind, data, place)
            if field.many:
                found.setdefault(field.name, []).append(value)
            elif field.name in found:
                raise BundleError(f"policy.onnx: expected one {field.name} in a {kind}, got several")
            else:
                found[field.name] = value
        return found

    def _value(self, kind: str, data: memoryview, place: int) -> tuple[Any, int]:
        """A value, and where it ends."""
        if kind == "int":
            value, place = _read_varint(data, place)
            return value - (value >> 63 << 64), place
        size, place = (4, place) if kind == "float" else _read_varint(data, place)
        stop = place + size
        if stop > len(data):
            raise _torn()
        part = data[place:stop]
        if kind == "float":
            return struct.unpack("<f", part)[0], stop
        if kind == "text":
            if not _TEXT.fullmatch(part):
                raise BundleError("policy.onnx: expected names of at most 255 printable ASCII characters, got others")
            return str(part, "ascii"), stop
        return part if kind == "bytes" else self.read(kind, part), stop


def _read_varint(data: memoryview, place: int) -> tuple[int, int]:
    """An unsigned number of at most 64 bits in its shortest form, and where it ends."""
    value = shift = 0
    while place < len(data):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if (shift and not byte) or value >> 64:
                break
            return value, place
        shift += 7
        if shift > 63:
            break
    else:
        raise _torn()
    raise BundleError("policy.onnx: expected numbers in their shortest form, got a longer one")


def _read_ints(data: memoryview) -> Run:
    """The fields "ints" at the beginning of `data`, a tag and a number each."""
    tag = data[0]
    values = np.frombuffer(data, np.uint8)
    # Every second end is a tag, just after the number before it.
    last = np.flatnonzero(values < 0x80)
    ends = last[: len(last) // 2 * 2].reshape(-1, 2)
    starts = np.concatenate([[0], ends[:-1, 1] + 1])
    wrong = np.flatnonzero((ends[:, 0] != starts) | (values[ends[:, 0]] != tag))
    ends = ends[: wrong[0]] if len(wrong) else ends
    sizes = ends[:, 1] - ends[:, 0]
    if not len(ends) or sizes.max() > 10:
        raise _torn()
    total = np.zeros(len(ends), np.uint64)
    for step in range(int(sizes.max())):
        more = sizes > step
        total[more] |= (values[ends[more, 0] + 1 + step] & 0x7F).astype(np.uint64) << np.uint64(7 * step)
    highest = values[ends[:, 1]]
    if ((sizes > 1) & (highest == 0)).any() or ((sizes == 10) & (highest > 1)).any():
        raise BundleError("policy.onnx: expected numbers in their shortest form, got a longer one")
    return Run(total.view(np.int64), data[: int(ends[-1, 1]) + 1])


def _read_floats(data: memoryview) -> Run:
    """The fields "floats" at the beginning of `data`, a tag and four bytes each."""
    rows = np.frombuffer(data, np.uint8, len(data) // 5 * 5).reshape(-1, 5)
    wrong = np.flatnonzero(rows[:, 0] != data[0])
    rows = rows[: wrong[0]] if len(wrong) else rows
    if not len(rows):
        raise _torn()
    return Run(np.ascontiguousarray(rows[:, 1:]).view("<f4")[:, 0], data[: 5 * len(rows)])


def _read_words(data: memoryview) -> Run:
    """The fields "strings" at the beginning of `data`: uint8, 1 for `BRANCH` and 0 for `LEAF`."""
    found = _WORDS.match(data)
    if found is None:
        raise BundleError(f"policy.onnx: expected lists of {LEAF.decode()} and {BRANCH.decode()}, got other words")
    raw = data[: found.end()]
    letters = bytes(raw).replace(b"\x4a\x0a" + BRANCH, b"\x01").replace(b"\x4a\x04" + LEAF, b"\x00")
    return Run(np.frombuffer(letters, np.uint8), raw)


_READERS = {"ints": _read_ints, "floats": _read_floats, "words": _read_words}


def _describe(kind: str, tag: int) -> str:
    number, wire = tag >> 3, tag & 7
    if (kind, number) in _REFUSED:
        return _REFUSED[kind, number]
    return f"field {number} of wire type {wire} in a {kind}"


def _torn() -> BundleError:
    return BundleError("policy.onnx: expected a whole ONNX file, got a torn one")
