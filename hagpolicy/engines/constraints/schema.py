"""JSON schemas as expressions over bytes, where they are regular."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy.engines.constraints.expressions import (
    SURROGATES,
    Expression,
    Nfa,
    characters,
    complement,
    either,
    literal,
    optional,
    repeat,
    sequence,
)
from hagpolicy.errors import InvalidInput

__all__ = ["Beyond", "compile_schema", "follow_pointer"]

MOST_LENGTH, MOST_VALUES, INDENT = 1000, 1000, 8
# Keys that say nothing of the value.
_REMARKS = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions"}
_OF_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "integer": {"minimum", "maximum"},
    "number": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}


class Beyond(InvalidInput):
    """A schema says what is not counted exactly."""


def compile_schema(schema: Mapping[str, Any]) -> Expression:
    """The expression of the JSON texts that are valid by a schema.

    Properties come in the schema's order, and no others; between parts there may be one space, or a line break with an
    indentation of at most 8. Numbers have at most 18 digits before the point, 17 behind it, 2 in the exponent.

    Raises:
        Beyond: it uses another keyword than type, properties, required, additionalProperties (false), items, minItems,
            maxItems, minLength, maxLength, enum, const, anyOf, local $ref, and minimum and maximum of integers at
            most 1,000 apart; it refers to itself; or a length is above 1,000.
    """
    return _Schemas(schema).compile(schema, ())


def _beyond(what: str) -> Beyond:
    return Beyond("constraint.schema", "a schema that is counted exactly", what)


_GAP = optional(either(literal(b" "), sequence(literal(b"\n"), repeat(literal(b" "), 0, INDENT))))
_DIGIT = characters([(48, 57)])
# Escapes by number are no other characters than those that can stand for themselves: they would double the states.
_ESCAPE = sequence(literal(b"\\"), characters([(ord(sign), ord(sign)) for sign in '"\\/bfnrt']))
_CHARACTER = either(characters(complement([(0, 31), (34, 34), (92, 92), SURROGATES])), _ESCAPE)
_WHOLE = either(literal(b"0"), sequence(characters([(49, 57)]), repeat(_DIGIT, 0, 17)))
_E, _SIGN = characters([(69, 69), (101, 101)]), characters([(43, 43), (45, 45)])
_INTEGER = sequence(optional(literal(b"-")), _WHOLE)
_NUMBER = sequence(
    _INTEGER,
    optional(sequence(literal(b"."), repeat(_DIGIT, 1, 17))),
    optional(sequence(_E, optional(_SIGN), repeat(_DIGIT, 1, 2))),
)


class _Schemas:
    """A schema with what its references mean."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def compile(self, schema: Any, within: tuple[str, ...]) -> Expression:
        """The expression of a part of the schema; `within` are the references that lead to it."""
        if not isinstance(schema, Mapping):
            raise _beyond("a part without a type")
        keys = schema.keys() - _REMARKS
        for name in ("$ref", "const", "enum", "anyOf"):
            if name in keys:
                if more := keys - {name, "type"}:
                    raise _beyond(f"{', '.join(sorted(more))} beside {name}")
                return self._compile_choice(name, schema[name], within)
        kind = schema.get("type")
        if isinstance(kind, list) and keys == {"type"}:
            return either(*(self.compile({"type": one}, within) for one in kind))
        if not isinstance(kind, str) or kind not in _OF_TYPE:
            raise _beyond(f"type {kind}" if kind else f"a part without a type: {sorted(keys)}")
        if more := keys - _OF_TYPE[kind] - {"type"}:
            raise _beyond(f"{', '.join(sorted(more))} of {kind}")
        makers: Mapping[str, Callable[[], Expression]] = {
            "object": lambda: self._compile_object(schema, within),
            "array": lambda: self._compile_array(schema, within),
            "string": lambda: _compile_string(schema),
            "integer": lambda: _compile_integer(schema),
            "number": lambda: _NUMBER,
            "boolean": lambda: either(literal(b"true"), literal(b"false")),
            "null": lambda: literal(b"null"),
        }
        return makers[kind]()

    def _compile_choice(self, name: str, value: Any, within: tuple[str, ...]) -> Expression:
        if name == "$ref":
            return self._compile_reference(str(value), within)
        if name == "anyOf":
            return either(*(self.compile(part, within) for part in value))
        values = value if name == "enum" else [value]
        if len(values) > MOST_VALUES:
            raise _beyond(f"an enum of {len(values)} values")
        texts = dict.fromkeys(json.dumps(one, ensure_ascii=ascii_) for one in values for ascii_ in (False, True))
        return either(*(literal(text.encode("utf-8", "replace")) for text in texts))

    def _compile_reference(self, where: str, within: tuple[str, ...]) -> Expression:
        if where in within:
            raise _beyond(f"{where}, which refers to itself")
        if where == "#":
            raise _beyond("#, which refers to itself")
        if (part := follow_pointer(self._root, where)) is None:
            raise _beyond(f"{where}, which leads nowhere")
        return self.compile(part, (*within, where))

    def _compile_object(self, schema: Mapping[str, Any], within: tuple[str, ...]) -> Expression:
        if schema.get("additionalProperties", False) is not False:
            raise _beyond("additionalProperties")
        needed = set(schema.get("required", ()))
        properties: Mapping[str, Any] = schema.get("properties", {})
        if missing := needed - properties.keys():
            raise _beyond(f"required {sorted(missing)[0]!r} that is no property")
        parts = []
        for name, inner in properties.items():
            key = literal(json.dumps(name, ensure_ascii=False).encode("utf-8", "replace"))
            value = sequence(key, literal(b":"), optional(literal(b" ")), self.compile(inner, within))
            parts.append((value, name in needed))

        def add(nfa: Nfa, state: int) -> int:
            # Two ways side by side: no property yet, and some, behind which a comma comes.
            none, some = sequence(literal(b"{"), _GAP)(nfa, state), nfa.add()
            for value, must in parts:
                before, more = nfa.add(), nfa.add()
                nfa.jumps[none].append(before)
                nfa.jumps[sequence(literal(b","), _GAP)(nfa, some)].append(before)
                nfa.jumps[value(nfa, before)].append(more)
                if must:
                    none = nfa.add()  # a dead end: this property has to come first, if none has
                else:
                    nfa.jumps[some].append(more)
                some = more
            end = nfa.add()
            nfa.jumps[none].append(end)
            nfa.jumps[_GAP(nfa, some)].append(end)
            return literal(b"}")(nfa, end)

        return add

    def _compile_array(self, schema: Mapping[str, Any], within: tuple[str, ...]) -> Expression:
        item = self.compile(schema.get("items"), within)
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if max(least, most or 0) > MOST_LENGTH:
            raise _beyond(f"more than {MOST_LENGTH} items")
        if most == 0:
            inside: Expression = _GAP
        else:
            more = sequence(literal(b","), _GAP, item)
            some = sequence(_GAP, item, repeat(more, max(least - 1, 0), None if most is None else most - 1), _GAP)
            inside = some if least else either(some, _GAP)
        return sequence(literal(b"["), inside, literal(b"]"))


def _compile_string(schema: Mapping[str, Any]) -> Expression:
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if max(least, most or 0) > MOST_LENGTH:
        raise _beyond(f"a string of more than {MOST_LENGTH} characters")
    return sequence(literal(b'"'), repeat(_CHARACTER, least, most), literal(b'"'))


def _compile_integer(schema: Mapping[str, Any]) -> Expression:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return _INTEGER
    if not is_whole(low) or not is_whole(high) or not 0 <= high - low <= MOST_VALUES:
        raise _beyond(f"minimum and maximum of an integer that are not whole, or more than {MOST_VALUES} apart")
    return either(*(literal(str(value).encode()) for value in range(low, high + 1)))


def follow_pointer(schema: Mapping[str, Any], pointer: str) -> Any:
    """What a reference by a JSON pointer leads to; None: nothing, or it is none."""
    part: Any = schema
    if pointer != "#" and not pointer.startswith("#/"):
        return None
    for key in pointer.removeprefix("#").removeprefix("/").split("/") if pointer != "#" else ():
        key = key.replace("~1", "/").replace("~0", "~")
        if isinstance(part, list) and key.isdecimal() and int(key) < len(part):
            part = part[int(key)]
        elif isinstance(part, Mapping) and key in part:
            part = part[key]
        else:
            return None
    return part
