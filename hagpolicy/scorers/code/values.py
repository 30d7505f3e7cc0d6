"""Plain values as bytes and back, exactly: what crosses between a program and its tests, in two processes.

Every mutable object is a row of its own, and whatever holds it names the row by its number: what is the same object
stays the same object, circles end, and an argument that was changed in place can be changed in place on the
other side. Everything else is written where it stands. A message is a JSON text behind its length. Reading one builds
objects of the standard types listed here and of no others, however the bytes were made.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

MAX_BYTES, MAX_NODES, MAX_DEPTH, MAX_BITS = 32 << 20, 1_000_000, 100, 1 << 22
# What cannot cross, in words: a message names it by its place here, so that no text of a program's gets into a reason.
KINDS = (
    "a function",
    "a generator",
    "an iterator",
    "a module",
    "a class",
    "an object of a class that is not built in",
    "a value that is too large",
    "a value that is nested too deeply",
)
TOO_LARGE, TOO_DEEP = 6, 7
# Built-in exceptions by name, without second names of the same.
EXCEPTIONS: dict[str, type[BaseException]] = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__name__ == name
}
_SMALL = 1 << 63
_MOST_SHARED, _MOST_SHARED_TEXT = 100, 1 << 16
_TYPES: list[type] = [int, float, str, bool, bytes, list, tuple, dict, set, frozenset, complex, bytearray, range]
_TYPE_NAMES: dict[str, type] = {kind.__name__: kind for kind in [*_TYPES, type, object, types.NoneType]}
_ROW_TAGS: dict[type, str] = {
    list: "l",
    dict: "d",
    set: "s",
    bytearray: "a",
    deque: "q",
    Counter: "C",
    OrderedDict: "O",
    defaultdict: "f",
}
_ROW_TYPES = {tag: kind for kind, tag in _ROW_TAGS.items()}
# Values of the standard library: module and name of the type, and the arguments that make an equal one.
_STANDARD: dict[tuple[str, str], tuple[str, ...]] = {
    ("fractions", "Fraction"): ("numerator", "denominator"),
    ("datetime", "date"): ("year", "month", "day"),
    ("datetime", "time"): ("hour", "minute", "second", "microsecond"),
    ("datetime", "datetime"): ("year", "month", "day", "hour", "minute", "second", "microsecond"),
    ("datetime", "timedelta"): ("days", "seconds", "microseconds"),
}


class CannotCross(Exception):
    """A value is none that crosses; `kind` is its place in `KINDS`."""

    def __init__(self, kind: int) -> None:
        super().__init__(KINDS[kind])
        self.kind = kind


class BadMessage(Exception):
    """Bytes that are no message."""


class ValueWriter:
    """Turns values into nodes and rows.

    Args:
        refer: the node of an object that is known by number on both sides, or None.
        objects: mutable objects that have numbers already, in their order.
    """

    def __init__(self, refer: Callable[[Any], list[Any] | None], objects: Sequence[Any] = ()) -> None:
        self.objects = list(objects)
        self._refer = refer
        self._numbers = {id(value): number for number, value in enumerate(objects)}
        self._left = MAX_NODES

    def node(self, value: Any, depth: int = 0) -> Any:
        """The node of a value.

        Raises:
            CannotCross: neither a plain value nor one that `refer` knows, or too large.
        """
        self._left -= 1
        if self._left < 0:
            raise CannotCross(TOO_LARGE)
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if kind is int:
            return value if -_SMALL < value < _SMALL else self._big(value)
        if kind is str:
            return self._text(value)
        if kind in _ROW_TAGS:
            return ["@", self._number(value)]
        if kind is tuple or kind is frozenset:
            if depth >= MAX_DEPTH:
                raise CannotCross(TOO_DEEP)
            return ["t" if kind is tuple else "z", *[self.node(one, depth + 1) for one in value]]
        if (node := self._scalar(value, kind)) is None and (node := self._refer(value)) is None:
            raise CannotCross(_kind_of(value))
        return node

    def rows(self) -> Iterator[list[Any]]:
        """The row of each mutable object, in the order of their numbers; those that are met are added."""
        at = 0
        while at < len(self.objects):
            yield self.row(self.objects[at])
            at += 1

    def _number(self, value: Any) -> int:
        number = self._numbers.setdefault(id(value), len(self.objects))
        if number == len(self.objects):
            self.objects.append(value)
        return number

    def row(self, value: Any) -> list[Any]:
        """The row of a mutable object."""
        kind = type(value)
        tag = _ROW_TAGS[kind]
        if kind is bytearray:
            return [tag, self._hex(value)]
        if kind in (list, set, deque):
            head = [value.maxlen] if kind is deque else []
            return [tag, *head, *[self.node(one) for one in value]]
        head = [self.node(value.default_factory)] if kind is defaultdict else []
        return [tag, *head, *[self.node(one) for pair in value.items() for one in pair]]

    def _big(self, value: int) -> list[Any]:
        if value.bit_length() > MAX_BITS:
            raise CannotCross(TOO_LARGE)
        return ["i", format(value, "x")]

    def _text(self, value: str) -> Any:
        self._spend(len(value))
        if value.isascii():
            return value
        try:
            value.encode()
        except UnicodeEncodeError:  # two lone surrogates side by side would be read as one character
            return ["u", value.encode("utf-32-le", "surrogatepass").hex()]
        return value

    def _hex(self, value: bytes | bytearray) -> str:
        self._spend(2 * len(value))
        return value.hex()

    def _spend(self, size: int) -> None:
        self._left -= size >> 5
        if self._left < 0:
            raise CannotCross(TOO_LARGE)

    def _scalar(self, value: Any, kind: type) -> list[Any] | None:
        if kind is bytes:
            return ["b", self._hex(value)]
        if kind is complex:
            return ["c", value.real, value.imag]
        if kind is range:
            return ["r", *[self.node(one) for one in (value.start, value.stop, value.step)]]
        if kind is type and (name := str(value.__name__)) in _TYPE_NAMES and _TYPE_NAMES[name] is value:
            return ["y", name]
        if value is Ellipsis:
            return ["e"]
        named = (kind.__module__, kind.__qualname__)
        known = named in _STANDARD or named == ("decimal", "Decimal")
        if not known or getattr(sys.modules.get(named[0]), named[1], None) is not kind:
            return None
        if named == ("decimal", "Decimal"):
            return ["D", str(value)]
        if getattr(value, "tzinfo", None) is not None:
            return None
        return ["m", *named, *[self.node(getattr(value, name)) for name in _STANDARD[named]]]


class SharedObjects:
    """Mutable objects that crossed and may change where they came from, with what was in them.

    Each side has its own copy, so that a change of one is none of the other; this tells that there was one.

    Args:
        refer: see `ValueWriter`.

    Attributes:
        objects: in the order in which they were added; None for those that nothing else refers to any more.
    """

    def __init__(self, refer: Callable[[Any], list[Any] | None], objects: Sequence[Any] = ()) -> None:
        self.objects: list[Any] = []
        self._refer = refer
        self._rows: list[str] = []
        self.hold(objects)

    def hold(self, objects: Sequence[Any]) -> None:
        """Add objects."""
        if objects:
            self.objects += objects
            self._rows = self._read()

    def is_full(self) -> bool:
        """Whether there is more than is worth following."""
        return len(self._rows) > _MOST_SHARED or sum(map(len, self._rows)) > _MOST_SHARED_TEXT

    def find_changed(self) -> list[int]:
        """Places of objects that are not what they were when this was last asked."""
        before, self._rows = self._rows, self._read()
        return [at for at, (old, new) in enumerate(zip(before, self._rows, strict=True)) if old != new]

    def forget_unused(self) -> None:
        """Let go of objects that only this refers to."""
        for at in range(len(self.objects)):
            if sys.getrefcount(self.objects[at]) == 2:  # the list and the argument
                self.objects[at], self._rows[at] = None, ""

    def _read(self) -> list[str]:
        writer, found = ValueWriter(self._refer, self.objects), []
        for value in self.objects:
            try:
                found.append("" if value is None else dump(writer.row(value)))
            except CannotCross:
                found.append("")
        return found


class ValueReader:
    """Turns nodes and rows back into values.

    Args:
        resolve: the object that a reference `["h", …]` means.
        objects: mutable objects that have numbers already; what is new is added.
    """

    def __init__(self, resolve: Callable[[list[Any]], Any], objects: list[Any]) -> None:
        self.objects = objects
        self._resolve = resolve

    def node(self, node: Any) -> Any:
        """The value of a node."""
        if type(node) is not list:
            if type(node) is dict:
                raise BadMessage
            return node
        tag, *parts = node
        if tag == "@":
            return self.objects[int(parts[0])]
        if tag == "h":
            return self._resolve(parts)
        if tag in ("t", "z"):
            return (tuple if tag == "t" else frozenset)([self.node(one) for one in parts])
        return self._scalar(tag, parts)

    def rows(self, rows: Sequence[tuple[int, list[Any]]]) -> None:
        """Make the objects of new rows, and give all of them their content."""
        for number, row in rows:
            if number == len(self.objects):
                self.objects.append(deque(maxlen=row[1]) if row[0] == "q" else _ROW_TYPES[row[0]]())
            elif not 0 <= number < len(self.objects) or _ROW_TAGS[type(self.objects[number])] != row[0]:
                raise BadMessage
        for number, row in rows:
            self._fill(self.objects[number], row)

    def _fill(self, value: Any, row: list[Any]) -> None:
        tag, parts = row[0], row[1:]
        if tag == "a":
            value[:] = bytes.fromhex(parts[0])
            return
        if tag == "f":
            value.default_factory = self.node(parts[0])
        nodes = [self.node(one) for one in (parts[1:] if tag in ("f", "q") else parts)]
        value.clear()
        if tag in ("l", "q"):
            value.extend(nodes)
        elif tag == "s":
            value.update(nodes)
        else:
            for key, one in zip(nodes[::2], nodes[1::2], strict=True):
                value[key] = one

    def _scalar(self, tag: str, parts: list[Any]) -> Any:
        if tag == "i":
            return int(parts[0], 16)
        if tag == "u":
            return bytes.fromhex(parts[0]).decode("utf-32-le", "surrogatepass")
        if tag == "b":
            return bytes.fromhex(parts[0])
        if tag == "c":
            return complex(parts[0], parts[1])
        if tag == "r":
            return range(*[self.node(one) for one in parts])
        if tag == "y":
            return _TYPE_NAMES[parts[0]]
        if tag == "e":
            return Ellipsis
        if tag == "D":
            return importlib.import_module("decimal").Decimal(str(parts[0]))
        if tag == "m" and (parts[0], parts[1]) in _STANDARD:
            return getattr(importlib.import_module(parts[0]), parts[1])(*[self.node(one) for one in parts[2:]])
        raise BadMessage


def dump(message: Any) -> str:
    """A message, row or node as JSON text."""
    return json.dumps(message, separators=(",", ":"))


def send(channel: int, message: Any) -> None:
    """Write a message.

    Raises:
        CannotCross: it is larger than a message may be.
        OSError: nobody reads it.
    """
    data = dump(message).encode()
    if len(data) > MAX_BYTES:
        raise CannotCross(TOO_LARGE)
    rest = memoryview(len(data).to_bytes(8, "big") + data)
    while rest:
        rest = rest[os.write(channel, rest) :]


def receive(channel: int) -> Any:
    """The next message.

    Raises:
        EOFError: the other side has ended.
        BadMessage: what came is none.
    """
    size = int.from_bytes(_read(channel, 8), "big")
    if size > MAX_BYTES:
        raise BadMessage
    data = _read(channel, size)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadMessage from error


def find_exceptions(error: BaseException) -> list[str]:
    """Names of the built-in types of an exception, the nearest first."""
    return [kind.__name__ for kind in type(error).__mro__ if EXCEPTIONS.get(kind.__name__) is kind]


def _read(channel: int, size: int) -> bytes:
    pieces = []
    while size:
        piece = os.read(channel, min(size, 1 << 20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _kind_of(value: Any) -> int:
    """The place in `KINDS` of what cannot cross."""
    kind = type(value)
    if issubclass(kind, type):
        return 4
    if kind is type(sys):
        return 3
    if kind.__name__ in ("generator", "coroutine", "async_generator"):
        return 1
    if hasattr(kind, "__next__") or kind.__name__ in ("dict_keys", "dict_values", "dict_items"):
        return 2
    return 0 if kind.__name__ in ("function", "builtin_function_or_method", "method", "type", "partial") else 5
