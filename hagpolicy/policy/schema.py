"""What JSON from outside may hold: checks of type, range and length that name the field.

A check takes the place and the value and returns the value, or raises BundleError. Records refuse keys that they
do not know: a known format version has exactly its keys, and what is not understood is never kept or used.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy._files import parse_json
from hagpolicy._text import replace_controls
from hagpolicy.errors import BundleError

Check = Callable[[str, Any], Any]

# Larger than any value, weight or count of ours; the product of two still fits into float64, one into float32.
LARGEST = 1e30

# Of lists, objects and keys in one text, which take the most memory for their bytes: a file at its limit in bytes and
# here takes less than 1 GiB once it is read.
MAX_CONTAINERS = 1_000_000
MAX_KEYS = 2_000_000


def parse_bounded(data: bytes) -> Any:
    """The value of a JSON text from outside, in bounded memory.

    Raises:
        ValueError: it is no JSON, holds too many lists, objects or keys, or an object has a key twice.
    """
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS:
        raise ValueError(f"expected at most {MAX_CONTAINERS:,} lists and objects, got more")
    if data.count(b":") > MAX_KEYS:
        raise ValueError(f"expected at most {MAX_KEYS:,} keys, got more")
    return parse_json(data, unique=True)


def refuse(place: str, expected: str, got: object) -> BundleError:
    """The error that says what was expected at a place; what was found is shortened, its control characters escaped."""
    return BundleError(f"{place}: expected {expected}, got {reprlib.repr(got)}")


def number(low: float = -LARGEST, high: float = LARGEST) -> Check:
    """A check of a finite number in [low, high]."""

    def check(place: str, value: Any) -> Any:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise refuse(place, f"a finite number in [{low:g}, {high:g}]", value)
        return value

    return check


def whole(low: int = 0, high: int = 2**53) -> Check:
    """A check of a whole number in [low, high]."""

    def check(place: str, value: Any) -> Any:
        if not is_whole(value, low, high):
            raise refuse(place, f"a whole number in [{low}, {high}]", value)
        return value

    return check


def flag(place: str, value: Any) -> Any:
    """A check of a truth value."""
    if not isinstance(value, bool):
        raise refuse(place, "true or false", value)
    return value


def text(most: int = 100_000, *, least: int = 0, any_characters: bool = False) -> Check:
    """A check of a text of `least` to `most` characters; of any, or of those only that a terminal shows as they are."""

    def check(place: str, value: Any) -> Any:
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise refuse(place, f"a text of {least} to {most} characters", value)
        if not any_characters and replace_controls(value) != value:
            raise refuse(place, "a text without control characters", value)
        return value

    return check


def matching(pattern: str, words: str) -> Check:
    """A check of a text that a regular expression matches as a whole; `words` say what it is."""
    compiled = re.compile(pattern)

    def check(place: str, value: Any) -> Any:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise refuse(place, words, value)
        return value

    return check


def one_of(*values: object) -> Check:
    """A check of a value that is one of those given, type included."""

    def check(place: str, value: Any) -> Any:
        if not any(type(value) is type(known) and value == known for known in values):
            raise refuse(place, f"one of {', '.join(map(repr, values))}" if len(values) > 1 else repr(values[0]), value)
        return value

    return check


def optional(inner: Check) -> Check:
    """A check of null, or of what `inner` takes."""
    return lambda place, value: None if value is None else inner(place, value)


def items(inner: Check, most: int, least: int = 0) -> Check:
    """A check of a list of `least` to `most` values, each of which `inner` takes."""

    def check(place: str, value: Any) -> Any:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise refuse(place, f"a list of {least} to {most} values", value)
        try:
            return [inner(place, one) for one in value]
        except BundleError:  # again, with the number of the one that is refused
            return [inner(f"{place}[{index}]", one) for index, one in enumerate(value)]

    return check


def mapping(inner: Check, most: int) -> Check:
    """A check of an object of at most `most` keys of any name, each with a value that `inner` takes."""

    def check(place: str, value: Any) -> Any:
        if not isinstance(value, dict) or len(value) > most:
            raise refuse(place, f"an object of at most {most} keys", value)
        return {key: inner(f"{place}[{reprlib.repr(key)}]", one) for key, one in value.items()}

    return check


def record(fields: Mapping[str, Check], further: Mapping[str, Check] | None = None) -> Check:
    """A check of an object that has all keys of `fields`, perhaps some of `further`, and no others."""
    known = {**fields, **(further or {})}

    def check(place: str, value: Any) -> Any:
        if not isinstance(value, dict):
            raise refuse(place, f"an object with {_list(fields)}", value)
        if missing := [name for name in fields if name not in value]:
            raise refuse(place, f"an object with {_list(missing)}", list(value))
        if unknown := [name for name in value if name not in known]:
            raise refuse(place, f"no keys but {_list(known)}", unknown)
        inside = f"{place}." if place else ""
        return {name: known[name](f"{inside}{name}", one) for name, one in value.items()}

    return check


def _list(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in names)
