"""The side of the tests: they run here, and ask the program in the other process for values.

In place of a function or a class of the program stands an object that asks for it. What comes back is built
anew from plain values of built-in types, so that it is equal to what is expected or it is not, whatever the program
did. What does not cross makes the tests undecided, and so does a comparison with an object that only the
program has: whether two of them are equal would be the program's own word.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import random
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from hagpolicy.scorers.code.programs import find_global_names, run_source, split_prompt
from hagpolicy.scorers.code.values import (
    EXCEPTIONS,
    KINDS,
    TOO_DEEP,
    TOO_LARGE,
    BadMessage,
    CannotCross,
    SharedObjects,
    ValueReader,
    ValueWriter,
    dump,
    receive,
    send,
)

OWN = "an exception of its own"
_ALIASES = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "nx": "networkx", "sp": "scipy"} | {
    name: name for name in ("numpy", "pandas", "pytest", "scipy", "sympy", "sklearn", "networkx", "torch", "hypothesis")
}
# An exception that means more to an iteration than to a reader: `all(map(f, …))` would take it for the end.
_ENDS = {"StopIteration", "StopAsyncIteration", "GeneratorExit"}
_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "divmod", "matmul")
_BITWISE = ("and", "or", "xor", "lshift", "rshift")
# Operators that can be told what is expected of the object: their answer is the program's word, see `Session.ask`.
_TOLD = {"contains", *_BINARY, *_BITWISE}
_FORWARDED = (
    *("getitem", "setitem", "delitem", "neg", "pos", "invert", "abs", "round", "len", "str", "repr", "format"),
    *("bool", "int", "float", *sorted(_TOLD)),
)
_UNDECIDED = (
    *("eq", "ne", "lt", "le", "gt", "ge", "hash", "reduce_ex", "index", "complex", "bytes", "trunc", "floor", "ceil"),
    *("delattr", "dir", "next", "await", "aiter", "anext", "fspath", *(f"r{name}" for name in (*_BINARY, *_BITWISE))),
    *(f"i{name}" for name in (*_BINARY, *_BITWISE) if name != "divmod"),
)
_HIDDEN = {"__dict__", "__annotations__", "__bases__", "__mro__", "mro", "__subclasses__"}
# Methods that tell something about a plain value when asked; those of a result may be the program's own.
_PLAIN_METHODS = {name for kind in (str, bytes, int, float, frozenset, range) for name in dir(kind) if name[0] != "_"}
_OWN_WORD = "the tests ask an object of the program about a value, which only the program can answer"
_COMPARED = "the tests compare, hash, copy or format an object of the program, which only the program can do"
_SHARED = "a value that the program and the tests both have was changed by one of them"
# What tests change of the interpreter is changed in theirs alone.
_SETTINGS = {"argv", "environ", "putenv", "setrecursionlimit", "set_int_max_str_digits", "setcontext", "getcontext"} | {
    *("localcontext", "chdir", "tempfile", "modules", "setattr", "globals", "filterwarnings", "simplefilter")
}


class Undecided(BaseException):
    """The tests cannot be decided: something does not cross. No `except` of the tests can undo it."""


class Ended(BaseException):
    """The process of the program is gone, or what it sent is no reply."""


class _Object:
    """An object of the program."""

    def __init__(self, session: Session, number: int) -> None:
        object.__setattr__(self, "_place", (session, number))

    def __call__(self, *values: Any, **named: Any) -> Any:
        session, number = object.__getattribute__(self, "_place")
        return session.ask("call", number, "", values, named)

    def __getattr__(self, name: str) -> Any:
        session, number = object.__getattribute__(self, "_place")
        return session.ask("get", number, name)

    def __setattr__(self, name: str, value: Any) -> None:
        session, number = object.__getattribute__(self, "_place")
        session.ask("set", number, name, (value,))

    def __iter__(self) -> Any:
        session, number = object.__getattribute__(self, "_place")
        return iter(session.ask("do", number, "iter"))

    def __reversed__(self) -> Any:
        session, number = object.__getattribute__(self, "_place")
        return iter(session.ask("do", number, "reversed"))

    def __getattribute__(self, name: str) -> Any:
        return _refuse(self) if name in _HIDDEN else object.__getattribute__(self, name)

    def __enter__(self) -> Any:
        return self.__getattr__("__enter__")()

    def __exit__(self, *error: object) -> Any:
        return _refuse(self) if error[0] is not None else self.__getattr__("__exit__")(None, None, None)

    __doc__ = property(lambda self: self.__getattr__("__doc__"))


def _forward(name: str) -> Callable[..., Any]:
    def ask(self: Any, *values: Any) -> Any:
        session, number = object.__getattribute__(self, "_place")
        return session.ask("do", number, name, values)

    return ask


def _refuse(self: Any, *values: object) -> Any:
    session, _ = object.__getattribute__(self, "_place")
    session.give_up(_COMPARED)


for _name in _FORWARDED:
    setattr(_Object, f"__{_name}__", _forward(_name))
for _name in _UNDECIDED:
    setattr(_Object, f"__{_name}__", _refuse)


class _Class(type):
    """A class of the program: its instances are objects of the program."""

    def __call__(cls, *values: Any, **named: Any) -> Any:
        session, number = type.__getattribute__(cls, "_class")
        return session.ask("call", number, "", values, named)

    def __getattr__(cls, name: str) -> Any:
        session, number = type.__getattribute__(cls, "_class")
        return session.ask("get", number, name)

    def __getattribute__(cls, name: str) -> Any:
        if name in _HIDDEN:
            type.__getattribute__(cls, "_class")[0].give_up(_COMPARED)
        return type.__getattribute__(cls, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        session, number = type.__getattribute__(cls, "_class")
        session.ask("set", number, name, (value,))

    def __instancecheck__(cls, value: Any) -> bool:
        return type(value) is cls or (isinstance(type(value), _Class) and cls._refuse())

    def __subclasscheck__(cls, kind: Any) -> bool:
        return kind is cls or (isinstance(kind, _Class) and cls._refuse())

    def __iter__(cls) -> Any:
        session, number = type.__getattribute__(cls, "_class")
        return iter(session.ask("do", number, "iter"))

    def _refuse(cls) -> Any:
        session, _ = type.__getattribute__(cls, "_class")
        return session.give_up(_COMPARED)

    def __new__(cls, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> Any:
        if bases != (_Object,):
            vars(bases[0])["_class"][0].give_up("the tests derive from a class of the program")
        return super().__new__(cls, name, bases, members)


def _forward_of_class(name: str) -> Callable[..., Any]:
    def ask(cls: Any, *values: Any) -> Any:
        session, number = type.__getattribute__(cls, "_class")
        return session.ask("do", number, name, values)

    return ask


for _name in ("getitem", "len", "contains"):
    setattr(_Class, f"__{_name}__", _forward_of_class(_name))


class Session:
    """The program as the tests see it.

    Attributes:
        failure: why the tests are undecided, or that the program ended; whatever the tests make of it.
        doubt: why a test that fails might have passed in one process with the program; "": nothing speaks for it.
    """

    def __init__(self, requests: int, replies: int, follow_seed: bool) -> None:
        self.failure: BaseException | None = None
        self.doubt = ""
        self._requests, self._replies = requests, replies
        self._objects: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._held = SharedObjects(self._refer)
        self._last = SharedObjects(self._refer)
        # Numbers of objects that a call gave back, of functions that an attribute is, and of those in the last reply.
        self._returned: set[int] = set()
        self._functions: set[int] = set()
        self._resolved: list[int] = []
        self._state: object = random.getstate() if follow_seed else None

    def ask(
        self,
        do: str,
        number: int = -1,
        name: Any = "",
        values: tuple[Any, ...] = (),
        named: dict[str, Any] | None = None,
    ) -> Any:
        """What the program gives back; raises what it raises."""
        self._check_word(do, number, name, values)
        writer, changed = ValueWriter(self._refer), self._find_changed()
        try:
            node = writer.node((values, tuple((named or {}).items())))
            request = [do, number, name, node, list(writer.rows()), self._new_state()]
            self._send(request)
        except CannotCross as error:
            self.give_up(f"the tests give the program {KINDS[error.kind]}")
        self._resolved = []
        value = self._take(writer.objects, changed)
        if do == "get" and type(value) is _Object:
            self._functions.add(self._numbers[id(value)])
        elif any(type(self._objects[one]) is _Object for one in self._resolved):
            self.give_up(f"the program gives {KINDS[0]}")
        elif not isinstance(self._objects.get(number), _Class):
            self._returned.update(self._resolved)
        return value

    def _check_word(self, do: str, number: int, name: str, values: tuple[Any, ...]) -> None:
        """Give up where the program could say of its own object what the tests expect to hear."""
        told = do == "do" and name in _TOLD and any(id(value) not in self._numbers for value in values)
        asked = do == "get" and name in _PLAIN_METHODS and number in self._returned
        of_function = number in self._functions and (do == "do" or (do == "get" and name[:2] != "__"))
        if (told and number in self._returned) or asked or of_function:
            self.give_up(_OWN_WORD)

    def _find_changed(self) -> set[int]:
        """Numbers of the objects of the last message that the tests have changed since; notes what else they have."""
        if self.doubt:
            return set()
        if self._held.find_changed():
            self.doubt = _SHARED
        changed = set(self._last.find_changed())
        self._held.forget_unused()
        return changed

    def start(self) -> None:
        """Wait until the program was run; raises what it raises."""
        self._take([])

    def find_doubt(self) -> str:
        """See `doubt`."""
        if not self.doubt and self._held.find_changed():
            self.doubt = _SHARED
        return self.doubt

    def describe(self, names: Sequence[str], bound: Sequence[str]) -> list[Any]:
        """What each name is in the program, see `Program.answer`.

        Args:
            names: that the tests read.
            bound: that they give a value.
        """
        self._send(["names", -1, list(names), list(bound), [], None])
        reply = self._receive()
        if reply[0] == "cannot":
            self._give_up_on(reply)
        if reply[0] != "names" or len(reply) != 3 or len(reply[1]) != len(names):
            self._end()
        if reply[2]:
            self.doubt = "the program reads a name that the tests give a value"
        return list(reply[1])

    def bind(self, name: str, found: list[Any]) -> Any:
        """What stands in the tests for what a name is in the program."""
        try:
            if found[0] == "value":
                reader = ValueReader(self._resolve, [])
                reader.rows(found[2])
                value = reader.node(found[1])
                self._held.hold(reader.objects)
                return value
            if found[0] == "module":
                return self._find_module(name, found[1])
            return self._stand_in(name, *found)
        except Exception:
            self._end()

    def give_up(self, why: str) -> Any:
        """Make the tests undecided."""
        self.failure = self.failure or Undecided(why)
        raise self.failure

    def _end(self) -> Any:
        self.failure = self.failure or Ended()
        raise self.failure

    def _give_up_on(self, reply: list[Any]) -> None:
        try:
            kind = KINDS[reply[1]]
        except Exception:
            self._end()
        self.give_up(f"the program gives {kind}")

    def _send(self, request: list[Any]) -> None:
        if self.failure is not None:
            raise self.failure
        try:
            send(self._requests, request)
        except OSError:
            self._end()

    def _receive(self) -> list[Any]:
        try:
            reply = receive(self._replies)
        except MemoryError:
            self.give_up(f"the program gives {KINDS[TOO_LARGE]}")
        except (EOFError, OSError, BadMessage):
            self._end()
        if type(reply) is not list or not reply:
            self._end()
        return list(reply)

    def _follow(self, objects: list[Any], changed: set[int], held: list[int], moved: list[int]) -> None:
        """Take note of which objects the program still has and which of them it has changed, see `Program.answer`."""
        if self.doubt:
            return
        self._held.hold([self._last.objects[at] for at in held])
        there = [at < 0 or self._held.objects[at] is not None for at in moved]
        if changed & set(held) or any(there):
            self.doubt = _SHARED
        self._last = SharedObjects(self._refer, objects)

    def _take(self, objects: list[Any], changed: set[int] = frozenset()) -> Any:  # type: ignore[assignment]
        reply = self._receive()
        if reply[0] == "cannot":
            self._give_up_on(reply)
        error: BaseException | None = None
        value = None
        try:
            kind, node, rows, printed, held, moved = reply
            reader = ValueReader(self._resolve, objects)
            reader.rows(rows)
            if kind == "raised":
                error = self._make_error(reader, *node)
            elif kind == "value":
                value = reader.node(node)
            else:
                raise BadMessage
            self._follow(reader.objects, changed, held, moved)
            if type(printed) is str and printed:
                sys.stdout.write(printed)
        except MemoryError:
            self.give_up(f"the program gives {KINDS[TOO_LARGE]}")
        except RecursionError:
            self.give_up(f"the program gives {KINDS[TOO_DEEP]}")
        except Exception:
            self._end()
        if error is not None:
            raise error
        return value

    def _make_error(self, reader: ValueReader, name: str, own: int, place: Any, values: Any, more: Any) -> Any:
        """An exception like the program's, of a built-in type, of the standard library's, or standing for its own."""
        kind, (module, inner) = EXCEPTIONS[name], place
        if own >= 0:
            kind = self._objects[own]
        elif module.split(".")[0] in sys.stdlib_module_names - {"builtins"} and module in sys.modules:
            found = vars(sys.modules[module]).get(inner)
            kind = found if isinstance(found, type) and issubclass(found, kind) else kind
        elif name in _ENDS:
            kind = RuntimeError
        given = reader.node(values)
        try:
            error: BaseException = kind(*given)
        except Exception:
            error = kind.__new__(kind, *given)
        vars(error).update({str(key): value for key, value in reader.node(more)})
        if own >= 0 or place != ["builtins", name]:
            error._hagpolicy_own = True  # type: ignore[attr-defined]
        return error

    def _find_module(self, name: str, module: str) -> Any:
        """A module that the tests use and only the program imports: the real one, never what the program calls so."""
        if module != _ALIASES.get(name, name) or (module not in sys.stdlib_module_names and name not in _ALIASES):
            self.give_up("the tests use a module that only the program imports")
        return importlib.import_module(module)

    def _stand_in(self, name: str, kind: str, number: int, base: str = "") -> Any:
        if kind == "error":
            made: Any = type(name, (EXCEPTIONS[base],), {})
        elif kind == "class":
            made = _Class(name, (_Object,), {"_class": (self, number)})
        else:
            made = _Object(self, number)
        self._objects[number] = made
        self._numbers[id(made)] = number
        return made

    def _resolve(self, parts: list[Any]) -> Any:
        number, kind = parts
        if type(number) is not int or type(kind) is not int:
            raise BadMessage
        if number not in self._objects:
            made = _Object(self, number)
            if kind >= 0:
                made = object.__new__(self._objects[kind])
                _Object.__init__(made, self, number)
            self._objects[number] = made
            self._numbers[id(made)] = number
        self._resolved.append(number)
        return self._objects[number]

    def _refer(self, value: Any) -> list[Any] | None:
        number = self._numbers.get(id(value))
        return None if number is None else ["h", number, -1]

    def _new_state(self) -> Any:
        """Python's random numbers follow a seed that the tests set."""
        if self._state is None or self._state == (state := random.getstate()):
            return None
        self._state = state
        return ValueWriter(self._refer).node(state)


def check(job: dict[str, Any], requests: int, replies: int) -> list[str]:
    """The verdict on a program: ["passed"], ["failed", exception], ["undecided", why] or ["ended"]."""
    random.seed(0)
    session = Session(requests, replies, "seed" in job["tests"])
    try:
        session.start()
        module = _prepare(job, session)
        run_source(job["tests"], module)
        for name in job["functions"]:
            getattr(module, name)()
        verdict = ["passed"]
    except BaseException as error:
        verdict = ["failed", name_error(error)]
    doubtful = verdict[0] == "failed" and session.failure is None
    if doubtful and (doubt := session.find_doubt() or _find_doubt(job["tests"])):
        session.failure = Undecided(doubt)
    if isinstance(session.failure, Undecided):
        return ["undecided", str(session.failure)]
    return ["ended"] if session.failure is not None else verdict


def _find_doubt(tests: str) -> str:
    """Why tests that fail might have passed in one process with the program, by their text; "" for no reason."""
    nodes = list(ast.walk(ast.parse(tests)))
    names = {str(getattr(node, "attr", getattr(node, "id", ""))) for node in nodes}
    if set_here := names & _SETTINGS:
        return f"the tests may change, by {min(set_here)}, what the program in its own process has"
    if any(isinstance(node, ast.Compare) and _asks_identity(node) for node in nodes):
        return "the tests ask whether two values are the same object"
    return ""


def _asks_identity(node: ast.Compare) -> bool:
    sides = [node.left, *node.comparators]
    texts = [ast.unparse(side) for side in sides]
    if any(text.startswith("id(") for text in texts):
        return True
    plain = any(
        isinstance(side, ast.Constant) or text.startswith("type(") for side, text in zip(sides, texts, strict=True)
    )
    return not plain and any(isinstance(one, (ast.Is, ast.IsNot)) for one in node.ops)


def name_error(error: BaseException) -> str:
    """The name of a built-in exception; of any other only that it is one, since its name is the program's text."""
    name = type(error).__name__
    return name if EXCEPTIONS.get(name) is type(error) and not hasattr(error, "_hagpolicy_own") else OWN


def _prepare(job: dict[str, Any], session: Session) -> types.ModuleType:
    """The module that the tests run in: helpers of the prompt, and what they name of the program."""
    module = types.ModuleType("answer")
    space = vars(module)
    helpers, has_stub = split_prompt(job["head"], job["entry_point"])
    try:
        run_source(helpers, module)
    except Exception:
        helpers = ast.Module([], [])
    used, bound = find_global_names(job["tests"])
    own = find_global_names(ast.unparse(helpers))
    # Helpers are the prompt's where it gives them beside what is to be written; else the program may rewrite them.
    kept = own[1] if has_stub or job["entry_point"] else set()
    names = sorted((used | own[0]) - bound - kept - {name for name in used | own[0] if name.startswith("__")})
    plain = [name for name in names if name not in vars(builtins)]
    asked = plain or names
    if job["entry_point"] in names and job["entry_point"] not in asked:
        asked = [*asked, job["entry_point"]]
    nodes = [node for node in ast.walk(ast.parse(job["tests"])) if isinstance(node, ast.Attribute)]
    modules = {node.value.id for node in nodes if isinstance(node.value, ast.Name)} & {
        *sys.stdlib_module_names,
        *_ALIASES,
    }
    imports = [node for node in ast.walk(ast.parse(job["tests"])) if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {(one.asname or one.name).split(".")[0] for node in imports for one in node.names}
    for name, found in zip(asked, session.describe(asked, sorted(bound - imported)), strict=True):
        if found is not None:
            if name in modules and name != job["entry_point"] and found[0] != "module":
                session.give_up("the tests use a name that may mean a module or something of the program's")
            space[name] = session.bind(name, found)
    sys.modules["answer"] = module
    return module


def report(verdict: list[str]) -> bytes:
    """A verdict as the line that the process ends with."""
    return dump(verdict).encode()[:1000]
