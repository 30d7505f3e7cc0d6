"""The side of the program: it runs what was generated and answers what the tests ask of it, by values alone.

Nothing of the tests is in this process but the names that they use and the arguments that they give. A program
can do here whatever it likes, to these functions too: all that comes of it is another value, or none.
"""

from __future__ import annotations

import io
import itertools
import operator
import os
import random
import sys
import types
from contextlib import suppress
from typing import Any

from hagpolicy.scorers.code.programs import find_read_names, run_source
from hagpolicy.scorers.code.values import (
    MAX_NODES,
    TOO_DEEP,
    TOO_LARGE,
    CannotCross,
    SharedObjects,
    ValueReader,
    ValueWriter,
    dump,
    find_exceptions,
    receive,
    send,
)

_MOST_OUTPUT = 1 << 20
_OPERATORS: dict[str, Any] = {
    **{name: getattr(operator, name) for name in ("getitem", "setitem", "delitem", "contains", "add", "sub", "mul")},
    **{name: getattr(operator, name) for name in ("truediv", "floordiv", "mod", "pow", "neg", "abs", "call")},
    **{kind.__name__: kind for kind in (str, bool, int, float)},
    "len": len,
    **{name: getattr(operator, name) for name in ("matmul", "lshift", "rshift", "xor", "invert", "pos")},
    "and": operator.and_,
    "or": operator.or_,
    "divmod": divmod,
    "round": round,
    "format": format,
    "reversed": lambda value: list(itertools.islice(reversed(value), MAX_NODES + 1)),
    "repr": repr,
    "iter": lambda value: list(itertools.islice(value, MAX_NODES + 1)),
}


class _Output(io.TextIOBase):
    """Keeps the beginning of what is printed, for tests that look at it."""

    def __init__(self) -> None:
        self.kept = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.kept = (self.kept + text)[:_MOST_OUTPUT]
        return len(text)


class Program:
    """A program that was run, and its objects by number.

    Args:
        source: its text, run at once in a module of its own.
        prints: whether what it prints is kept.
    """

    def __init__(self, source: str, prints: bool) -> None:
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._classes: dict[int, int] = {}
        self._printed = _Output() if prints else None
        if self._printed is not None:
            sys.stdout = self._printed
        self._source = source
        self._plain: dict[str, Any] = {}
        self._held = SharedObjects(self._refer)
        self._last: list[Any] = []
        self._module = types.ModuleType("answer")
        sys.modules["answer"] = self._module
        run_source(source, self._module)

    def answer(self, request: list[Any]) -> list[Any]:
        """The reply to a request: ["value", node, rows, printed, held, moved], ["raised", …] or ["cannot", kind].

        `held` are numbers of the objects of the message before that the program still has, and `moved` the places, of
        all that were such, of those that have changed since; -1 is that of variables which the tests have read.
        """
        do, number, name, node, rows, state = request
        held = self._hold_last()
        try:
            if state is not None:
                random.setstate(ValueReader(self._resolve, []).node(state))
            if do == "names":
                read = find_read_names(self._source) & {str(one) for one in node}
                return ["names", [self._describe(one) for one in name], sorted(read)]
            reader = ValueReader(self._resolve, [])
            reader.rows(list(enumerate(rows)))
            values, named = reader.node(node)
            writer, raised, new = ValueWriter(self._refer, reader.objects), None, False
            try:
                value = self._perform(do, self._objects[number], name, values, dict(named))
                new = do == "get"
            except BaseException as error:
                raised, value = error, None
            reply = [*self._write(writer, rows, raised, value, new), held, self._find_moved()]
            if raised is not None:
                raised.__traceback__ = None  # it would hold what the call was given
            self._last = list(writer.objects)
            return reply
        except CannotCross as error:
            return ["cannot", error.kind]
        except RecursionError:
            return ["cannot", TOO_DEEP]
        except MemoryError:
            return ["cannot", TOO_LARGE]

    def _hold_last(self) -> list[int]:
        """Numbers of the objects of the last message that something else refers to, too; these are held from now."""
        left, self._last = self._last[::-1], []
        if self._held.is_full():
            return []
        numbers, found, at = [], [], 0
        while left:
            value = left.pop()
            if sys.getrefcount(value) > 2:  # this variable and the argument
                numbers.append(at)
                found.append(value)
            at += 1
        self._held.hold(found)
        return numbers

    def _find_moved(self) -> list[int]:
        rebound = any(vars(self._module).get(name) is not value for name, value in self._plain.items())
        return [-1] if rebound or self._held.is_full() else self._held.find_changed()

    def _perform(self, do: str, target: Any, name: str, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if do == "call":
            return target(*values, **named)
        if do == "get":
            return getattr(target, name)
        if do == "set":
            return setattr(target, name, values[0])
        return _OPERATORS[name](target, *values)

    def _write(
        self, writer: ValueWriter, rows: list[Any], raised: BaseException | None, value: Any, new: bool
    ) -> list[Any]:
        if raised is None:
            if new and callable(value) and not isinstance(value, type):
                self._register(value)
            node = writer.node(value)
        else:
            node = self._describe_error(raised, writer)
        changed = []
        for at, row in enumerate(writer.rows()):
            if at >= len(rows) or dump(row) != dump(rows[at]):
                changed.append([at, row])
        printed = ""
        if self._printed is not None:
            printed, self._printed.kept = self._printed.kept, ""
        return ["value" if raised is None else "raised", node, changed, printed]

    def _describe(self, name: str) -> list[Any] | None:
        """What a name of the module is: a value, a module's name, an object with a number; None: it is not there."""
        try:
            value = vars(self._module)[name]
        except KeyError:
            return None
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        writer = ValueWriter(self._refer)
        if not isinstance(value, type) or issubclass(value, BaseException):
            try:
                described = ["value", writer.node(value), list(enumerate(writer.rows()))]
                self._plain[name] = value
                self._held.hold(writer.objects)
                return described
            except CannotCross as error:
                if error.kind >= TOO_LARGE:
                    raise
        number = self._register(value)
        if isinstance(value, type):
            self._classes[id(value)] = number
            if issubclass(value, BaseException):
                return ["error", number, find_exceptions(value.__new__(value))[0]]
            return ["class", number]
        return ["object", number]

    def _describe_error(self, error: BaseException, writer: ValueWriter) -> list[Any]:
        """The nearest built-in type of an exception, the number of its own where the tests name that, the module and
        name of its own, its arguments, its attributes."""
        own = next((self._classes[id(kind)] for kind in type(error).__mro__ if id(kind) in self._classes), -1)
        try:
            values = ValueWriter(self._refer).node(error.args)
            if "@" in dump(values):
                raise CannotCross(TOO_LARGE)
        except CannotCross:
            values = writer.node((str(error),))
        kept = []
        for name, value in vars(error).items():
            with suppress(CannotCross):
                node = ValueWriter(self._refer).node((name, value))
                kept += [] if "@" in dump(node) else [node]
        kind = type(error)
        return [find_exceptions(error)[0], own, [str(kind.__module__), str(kind.__qualname__)], values, ["t", *kept]]

    def _register(self, value: Any) -> int:
        number = self._numbers.setdefault(id(value), len(self._objects))
        if number == len(self._objects):
            self._objects.append(value)
        return number

    def _refer(self, value: Any) -> list[Any] | None:
        """Objects that have numbers, and those of classes that the tests name, cross by number."""
        number, kind = self._numbers.get(id(value)), self._classes.get(id(type(value)), -1)
        if number is None and kind >= 0:
            number = self._register(value)
        return None if number is None else ["h", number, kind]

    def _resolve(self, parts: list[Any]) -> Any:
        return self._objects[parts[0]]


def serve(source: str, prints: bool, requests: int, replies: int) -> None:
    """Run a program, say that it is there, and answer until nobody asks any more."""
    random.seed(0)
    for name in [name for name in sys.modules if name.split(".")[0] == "hagpolicy"]:
        del sys.modules[name]
    try:
        program = Program(source, prints)
    except BaseException as error:
        kind = type(error)
        described = [find_exceptions(error)[0], -1, [str(kind.__module__), str(kind.__qualname__)], ["t"], ["t"]]
        send(replies, ["raised", described, [], "", [], []])
        os._exit(1)
    send(replies, ["value", None, [], "", [], []])
    while True:
        try:
            request = receive(requests)
        except EOFError:
            os._exit(0)
        try:
            send(replies, program.answer(request))
        except CannotCross as error:
            send(replies, ["cannot", error.kind])
