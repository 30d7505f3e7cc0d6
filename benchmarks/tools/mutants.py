"""Changed files of a bundle: ONNX models by their protobuf fields, manifests and tokenizers by their JSON values."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hagpolicy._digest import digest, digest_bytes

# Which fields of which message of onnx.proto hold messages: written here once more, apart from the reader attacked.
_NESTED = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor", 11: "info", 12: "info"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor"},
    "info": {2: "type"},
    "type": {1: "tensor_type"},
    "tensor_type": {2: "shape"},
    "shape": {1: "dim"},
}
WIDE = 1 << 35
OPERATORS = ("Add", "Div", "Gather", "Where", "TopK", "Round", "Shape", "Identity", "TreeEnsembleRegressor")
OPERATORS += ("If", "Loop", "Constant", "Expand", "Tile", "RandomUniform", "StringNormalizer", "ConstantOfShape")
NAMES = ("values", "novelty", "choice", "vectors", "ids", "mask", "", "x" * 300, "a\x00b", "é", "com.microsoft", "axis")
NUMBERS = (0, 1, 2, 3, 7, 8, 10, 127, 128, 255, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64 - 1)
FLOATS = (0.0, -1.0, 1e-300, 1e38, 1e300, float("inf"), float("-inf"), float("nan"))
# Names that a path to external data may have; all lead to files that are watched.
CANARIES = (b".env", b"../.env", b"secret.bin")


@dataclass
class Part:
    """A field: its tag as a number, more bytes in its tag than needed, its value, a length that is claimed for it."""

    tag: int
    value: int | bytes | list[Part]
    pad: int = 0
    length: int | None = None

    def copy(self) -> Part:
        """The same again."""
        value = [part.copy() for part in self.value] if isinstance(self.value, list) else self.value
        return Part(self.tag, value, self.pad, self.length)

    def encode(self) -> bytes:
        """Its bytes."""
        tag = _varint(self.tag, self.pad)
        if isinstance(self.value, int):
            return tag + _varint(self.value)
        data = self.value if isinstance(self.value, bytes) else b"".join(part.encode() for part in self.value)
        if self.tag & 7 in (1, 5):
            return tag + data
        return tag + _varint(len(data) if self.length is None else self.length) + data


def parse(data: bytes, kind: str = "model") -> list[Part]:
    """The fields of a message that protobuf wrote."""
    parts, place = [], 0
    while place < len(data):
        tag, place = _read(data, place)
        if tag & 7 == 0:
            number, place = _read(data, place)
            parts.append(Part(tag, number))
            continue
        size, place = ({1: 8, 5: 4}[tag & 7], place) if tag & 7 != 2 else _read(data, place)
        inner = _NESTED.get(kind, {}).get(tag >> 3)
        part = data[place : place + size]
        parts.append(Part(tag, parse(part, inner) if inner else part))
        place += size
    return parts


def change_model(base: bytes, rng: random.Random) -> bytes:
    """The bytes of a model with one to three changes."""
    parts = parse(base)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        siblings, number = rng.choice(_walk(parts))
        rng.choice(_MODEL_CHANGES)(siblings, number, rng)
        if not parts:
            break
    data = b"".join(part.encode() for part in parts)
    return change_bytes(data, rng) if rng.random() < 0.15 else data


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes with a flip, a cut, a piece that is gone, doubled or made up."""
    if not data:
        return b"\x00"
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.choice((1, 1, 2, 4, 16, 200)))
    flipped = bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 : stop]
    made = rng.choice((data[start:stop] * 2, b"", rng.randbytes(stop - start), flipped))
    return data[:start] if rng.random() < 0.1 else data[:start] + made + data[stop:]


def change_json(base: bytes, rng: random.Random) -> Any:
    """JSON values with one to three changes."""
    values = json.loads(base)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_walk_json(values))
        inner, key = rng.choice(places)
        if isinstance(inner, list) and not 0 <= key < len(inner):
            continue
        rng.choice(_JSON_CHANGES)(inner, key, rng, places)
    return values


def sign_manifest(values: dict[str, Any]) -> bytes:
    """The bytes of a manifest under a digest of its own, so that what was changed is reached."""
    values = {name: value for name, value in values.items() if name != "digest"}
    try:
        values["digest"] = digest(values)
    except (ValueError, RecursionError):  # NaN: signed as Python would write it
        values["digest"] = digest_bytes(json.dumps(values, sort_keys=True, separators=(",", ":")).encode())
    return json.dumps(values).encode("utf-8", "surrogatepass")


def _varint(value: int, pad: int = 0) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value | 0x80, *[0x80] * (pad - 1), 0]) if pad else bytes([*out, value])


def _read(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while data[place] >= 0x80:
        value |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | data[place] << shift, place + 1


def _walk(parts: list[Part]) -> list[tuple[list[Part], int]]:
    """All fields, each as its message's fields and its place among them."""
    found, waiting = [], [parts]
    while waiting:
        siblings = waiting.pop()
        found += [(siblings, number) for number in range(len(siblings))]
        waiting += [part.value for part in siblings if isinstance(part.value, list)]
    return found


def _widen(parts: list[Part], at: int, rng: random.Random) -> None:
    parts[at].tag |= rng.choice((WIDE, 1 << 32, 1 << 40, 1 << 62))


def _pad(parts: list[Part], at: int, rng: random.Random) -> None:
    parts[at].pad = rng.choice((1, 2, 4, 8, 12))


def _retag(parts: list[Part], at: int, rng: random.Random) -> None:
    tag = parts[at].tag
    parts[at].tag = rng.choice((rng.randrange(1, 32) << 3 | tag & 7, tag & ~7 | rng.randrange(8)))


def _insert(parts: list[Part], at: int, rng: random.Random) -> None:
    """External data, a domain, metadata, functions and whatever else a number may mean in the message."""
    entry = [Part(1 << 3 | 2, b"location"), Part(2 << 3 | 2, rng.choice(CANARIES))]
    value = rng.choice(([Part(13 << 3 | 2, list(entry))], entry, b"evil", b"com.microsoft", b"", b"\x08\x01", 1, 2**40))
    tag = rng.randrange(1, 27) << 3 | (0 if isinstance(value, int) else 2)
    parts.insert(at, Part(tag | rng.choice((0, 0, WIDE)), value, pad=rng.choice((0, 0, 0, 2))))


def _place_outside(parts: list[Part], at: int, rng: random.Random) -> None:
    """External data in place of a tensor's numbers, under tags of all kinds."""
    entry = [Part(1 << 3 | 2, b"location"), Part(2 << 3 | 2, rng.choice(CANARIES))]
    wide = rng.choice((0, WIDE, 1 << 32))
    parts[:] = [part for part in parts if part.tag >> 3 != 9 or rng.random() < 0.5]
    parts += [Part(13 << 3 | 2 | wide, list(entry)), Part(14 << 3 | wide, 1)]


def _resize(parts: list[Part], at: int, rng: random.Random) -> None:
    value = parts[at].value
    if not isinstance(value, int):
        size = len(value) if isinstance(value, bytes) else sum(len(part.encode()) for part in value)
        parts[at].length = max(0, rng.choice((size - 1, size + 1, size * 2, 0, *NUMBERS)))


def _revalue(parts: list[Part], at: int, rng: random.Random) -> None:
    part = parts[at]
    if isinstance(part.value, int):
        part.value = rng.choice((*NUMBERS, part.value + 1, max(0, part.value - 1)))
    elif isinstance(part.value, bytes) and part.tag & 7 == 5:
        part.value = struct.pack("<f", rng.choice([one for one in FLOATS if abs(one) < 1e39 or one != one]))
    elif isinstance(part.value, bytes) and len(part.value) > 24:
        place = rng.randrange(len(part.value) // 8) * 8
        kind = rng.choice(("<d", "<ff"))
        made = [rng.choice(FLOATS[:5] if kind == "<d" else FLOATS[:4]) for _ in kind[1:]]
        part.value = part.value[:place] + struct.pack(kind, *made) + part.value[place + 8 :]
    elif isinstance(part.value, bytes):
        part.value = rng.choice((*(name.encode() for name in (*OPERATORS, *NAMES)), change_bytes(part.value, rng)))
    else:
        rng.shuffle(part.value)


def _repeat(parts: list[Part], at: int, rng: random.Random) -> None:
    parts.insert(rng.randrange(len(parts) + 1), parts[at].copy())


def _drop(parts: list[Part], at: int, rng: random.Random) -> None:
    del parts[at]


def _swap(parts: list[Part], at: int, rng: random.Random) -> None:
    """Two fields change their values, or their places."""
    other = rng.randrange(len(parts))
    if rng.random() < 0.5:
        parts[at], parts[other] = parts[other], parts[at]
    else:
        parts[at].value, parts[other].value = parts[other].value, parts[at].value


def _pack(parts: list[Part], at: int, rng: random.Random) -> None:
    value = parts[at].value
    if isinstance(value, int):
        parts[at] = Part(parts[at].tag & ~7 | 2, _varint(value) * rng.choice((1, 3)))


def _nest(parts: list[Part], at: int, rng: random.Random) -> None:
    part = parts[at].copy()
    for _ in range(rng.choice((1, 5, 40))):
        part = Part(part.tag & ~7 | 2, [part])
    parts[at] = part


_MODEL_CHANGES: tuple[Callable[[list[Part], int, random.Random], None], ...] = (
    *(_widen, _pad, _retag, _insert, _insert, _place_outside, _resize),
    *(_revalue, _revalue, _revalue, _repeat, _drop, _swap, _swap, _pack, _nest),
)


def _walk_json(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Places in JSON values; of a vocabulary's thousands of words a few."""
    keys = list(value)[:200] if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        if depth < 12:
            yield from _walk_json(value[key], depth + 1)


def _odd(rng: random.Random) -> Any:
    deep: Any = 0
    for _ in range(rng.choice((3, 100, 900))):
        deep = [deep]
    words = ("", "x", "../.env", "\x1b[2J", "é", "\ud800", "values", "price", "(a+)+$", "a" * 10_000, "1", "vectors")
    numbers = (0, 1, -1, 2, 0.5, -0.5, 1e308, 5e-324, 2**53, 2**63, 10**30, 10**400, float("nan"), float("inf"))
    others = (None, True, False, [], {}, [[]], {"x": 1})
    return rng.choice((rng.choice(words), rng.choice(numbers), rng.choice(others), deep))


def _json_replace(inner: Any, key: Any, rng: random.Random, places: Any) -> None:
    inner[key] = _odd(rng)


def _json_shift(inner: Any, key: Any, rng: random.Random, places: Any) -> None:
    """A value of the same type."""
    value = inner[key]
    if isinstance(value, bool):
        inner[key] = not value
    elif isinstance(value, int):
        inner[key] = value + rng.choice((-1, 1, 100, 2**31))
    elif isinstance(value, float):
        inner[key] = value * rng.choice((-1.0, 0.0, 1.0001, 2.0, 1e20, 1e300)) + rng.choice((0.0, 1e-9, 0.1))
    elif isinstance(value, str):
        inner[key] = value + rng.choice(("x", " ", "\n", "é")) if rng.random() < 0.5 else value[: len(value) // 2]
    elif isinstance(value, list) and value:
        rng.choice((rng.shuffle, lambda one: one.append(one[0]), lambda one: one.pop()))(value)


def _json_drop(inner: Any, key: Any, rng: random.Random, places: Any) -> None:
    del inner[key]


def _json_rename(inner: Any, key: Any, rng: random.Random, places: Any) -> None:
    if isinstance(inner, dict):
        inner[rng.choice((key + "x", key.upper(), "type", "margin"))] = inner.pop(key)


def _json_swap(inner: Any, key: Any, rng: random.Random, places: Any) -> None:
    """The value of another place."""
    other, place = rng.choice(places)
    if not isinstance(other, list) or place < len(other):
        inner[key] = copy.deepcopy(other.get(place) if isinstance(other, dict) else other[place])


def _json_add(inner: Any, key: Any, rng: random.Random, places: Any) -> None:
    if isinstance(inner, dict):
        inner[rng.choice(("x", "dropout", "pattern", "session_options", "at", "ships", "dim"))] = _odd(rng)
    else:
        inner.insert(key, _odd(rng))


_JSON_CHANGES = (
    *(_json_replace, _json_replace, _json_shift, _json_shift),
    *(_json_drop, _json_rename, _json_swap, _json_add),
)
