"""Regular expressions in Python's notation as expressions over bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hagpolicy.config.constraints import parse_regex, trim_anchors
from hagpolicy.engines.constraints.expressions import (
    LAST,
    Characters,
    Expression,
    characters,
    complement,
    either,
    repeat,
    sequence,
)
from hagpolicy.errors import InvalidInput

__all__ = ["compile_regex"]

# As Python reads them with re.ASCII.
_CATEGORIES: Mapping[str, Characters] = {
    "CATEGORY_DIGIT": [(48, 57)],
    "CATEGORY_SPACE": [(9, 13), (32, 32)],
    "CATEGORY_WORD": [(48, 57), (65, 90), (95, 95), (97, 122)],
}
_LINE_BREAK = 10
_UNBOUNDED = 1 << 16


def compile_regex(pattern: str) -> Expression:
    """The expression of a pattern that `Constraint` took, as a match of the whole.

    Raises:
        InvalidInput: a construction that this does not know.
    """
    tree = parse_regex(pattern)
    dot_matches_all = bool(tree.state.flags & 16)  # re.DOTALL
    return _compile_parts(trim_anchors(tree), dot_matches_all)


def _compile_parts(parts: Sequence[Any], dotall: bool) -> Expression:
    return sequence(*(_compile_part(str(name), value, dotall) for name, value in parts))


def _compile_part(name: str, value: Any, dotall: bool) -> Expression:
    if name not in _PARTS:
        raise InvalidInput("constraint.regex", "a regular expression", name.lower())
    return _PARTS[name](value, dotall)


def _compile_group(value: Any, dotall: bool) -> Expression:
    _, added, removed, parts = value
    if (added | removed) & ~16:
        raise InvalidInput("constraint.regex", "groups without flags, but for (?s:…)", "others")
    return _compile_parts(parts, (dotall or bool(added & 16)) and not removed & 16)


def _compile_repeat(value: Any, dotall: bool) -> Expression:
    least, most, parts = value
    unbounded = str(most) == "MAXREPEAT" or int(most) > _UNBOUNDED
    return repeat(_compile_parts(parts, dotall), int(least), None if unbounded else int(most))


def _compile_set(value: Any, dotall: bool) -> Expression:
    negated, ranges = False, list[tuple[int, int]]()
    for name, what in value:
        kind = str(name)
        if kind == "NEGATE":
            negated = True
        elif kind == "LITERAL":
            ranges.append((what, what))
        elif kind == "RANGE":
            ranges.append(tuple(what))
        else:
            ranges += _list_category(str(what))
    return characters(complement(ranges) if negated else ranges)


def _list_category(name: str) -> Characters:
    inner = name.replace("_NOT_", "_")
    return complement(_CATEGORIES[inner]) if inner != name else _CATEGORIES[inner]


_Compile = Callable[[Any, bool], Expression]
_PARTS: Mapping[str, _Compile] = {
    "LITERAL": lambda value, _: characters([(value, value)]),
    "NOT_LITERAL": lambda value, _: characters(complement([(value, value)])),
    "ANY": lambda _, dotall: characters([(0, LAST)] if dotall else complement([(_LINE_BREAK, _LINE_BREAK)])),
    "IN": _compile_set,
    "BRANCH": lambda value, dotall: either(*(_compile_parts(parts, dotall) for parts in value[1])),
    "SUBPATTERN": _compile_group,
    # A lazy repetition matches the same texts as a whole.
    "MAX_REPEAT": _compile_repeat,
    "MIN_REPEAT": _compile_repeat,
}
