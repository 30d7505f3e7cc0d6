"""Reads just enough of an ONNX file's fields to refuse what a policy never needs.

A bundle must be loadable from a stranger: no file outside it may be read, and no operator beyond
ONNX's own may run. The onnx package is not needed: the file is protobuf, a few wire types deep.
Field numbers are those of onnx.proto (github.com/onnx/onnx).
"""

from __future__ import annotations

from collections.abc import Iterator

from hagpolicy.errors import BundleError

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")

# Message -> field number -> kind of the message in it, or what to check about the field.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute", 7: "domain"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "tensor": {13: "external", 14: "location"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 9: "opset", 10: "domain", 11: "attribute"},
    "opset": {1: "domain"},
}
_MAX_DEPTH = 32


def scan(model: bytes) -> None:
    """Accept a self-contained ONNX model of standard operators.

    Raises:
        BundleError: no ONNX file, external data, an operator domain other than ONNX's own, or
            training information.
    """
    # onnxruntime would take its own flatbuffer format for a model too; nothing here could read that.
    if model[4:8] == b"ORTM":
        raise BundleError("policy.onnx: expected an ONNX file, got onnxruntime's own format")
    kinds = [number for number, _, _ in _walk(memoryview(model))]
    if 7 not in kinds:
        raise BundleError("policy.onnx: expected an ONNX file, got one without a graph")
    _check("model", memoryview(model), 0)


def _check(kind: str, message: memoryview, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise BundleError(f"policy.onnx: expected at most {_MAX_DEPTH} nested messages, got more")
    fields = _FIELDS[kind]
    for number, value, data in _walk(message):
        inner = fields.get(number)
        if inner is None:
            continue
        if inner == "location":
            if value != 0:
                raise BundleError("policy.onnx: expected all data inside the file, got a tensor stored elsewhere")
        elif inner == "external":
            raise BundleError("policy.onnx: expected all data inside the file, got a path to external data")
        elif inner == "training":
            raise BundleError("policy.onnx: expected inference only, got training information")
        elif inner == "domain":
            domain = bytes(data or b"").decode("utf-8", "replace")
            if domain not in DOMAINS:
                raise BundleError(f"policy.onnx: expected ONNX's own operators only, got the domain {domain!r}")
        elif data is not None:
            _check(inner, data, depth + 1)


def _walk(message: memoryview) -> Iterator[tuple[int, int, memoryview | None]]:
    """Fields of one message: number, the value of an integer field, the bytes of a nested one."""
    place, end = 0, len(message)
    while place < end:
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        value, data = 0, None
        if wire == 0:
            value, place = _varint(message, place)
        elif wire == 2:
            size, place = _varint(message, place)
            data = message[place : place + size]
            place += size
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        else:
            raise BundleError("policy.onnx: expected an ONNX file, got other bytes")
        if place > end or number == 0:
            raise BundleError("policy.onnx: expected a whole ONNX file, got a torn one")
        yield number, value, data


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise BundleError("policy.onnx: expected a whole ONNX file, got a torn one")
