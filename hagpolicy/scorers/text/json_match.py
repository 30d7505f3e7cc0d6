"""The scorer of JSON values: how much of an expected value an answer holds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hagpolicy._checks import is_number
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput
from hagpolicy.scorers.base import Score
from hagpolicy.scorers.text.base import ReferenceScorer, format_options
from hagpolicy.scorers.text.shape import drop_fence, refuse_constant

_DECODER = json.JSONDecoder(parse_constant=refuse_constant)


@dataclass(frozen=True)
class JsonMatch(ReferenceScorer[dict[tuple[Any, ...], Any]]):
    """Share of the leaves of both values that are equal, at the same place: 1 where the values are equal.

    A leaf is a value that is no object and no list, or an empty one; its place, the keys and indices on the way to it.
    So a missing, a wrong and a superfluous leaf each cost the same. Text is compared as it is, without spaces around
    it; true and false are no numbers. The answer is the whole text (one code fence around it is allowed), else the
    first object or list in it.

    Attributes:
        tolerance: numbers are equal within this share of the larger, [0, 1).
    """

    tolerance: float = 1e-9

    name = "json_match"
    needs_reference = True

    def __post_init__(self) -> None:
        if not is_number(self.tolerance) or not 0.0 <= self.tolerance < 1.0:
            raise InvalidInput("json_match.tolerance", "a number in [0, 1)", self.tolerance)
        object.__setattr__(self, "version", f"1{format_options(self)}")

    def read_reference(self, prompt: Prompt) -> dict[tuple[Any, ...], Any]:
        """The leaves of the expected value; one that is text is read as JSON where it is an object or a list."""
        reference = prompt.reference
        if isinstance(reference, str) and reference.strip()[:1] in ("{", "["):
            try:
                reference = json.loads(reference)
            except ValueError:
                raise self.reject("a JSON value, or the text of one", reference) from None
        return dict(_list_leaves(reference))

    def score_text(self, text: str, wanted: dict[tuple[Any, ...], Any]) -> Score:
        """The share; 0 where there is no JSON in the text."""
        try:
            found = dict(_list_leaves(_read_value(text)))
        except (ValueError, RecursionError):
            return Score(0.0)
        equal = sum(place in found and self._agree(found[place], value) for place, value in wanted.items())
        return Score(equal / len(wanted.keys() | found.keys()))

    def _agree(self, one: Any, other: Any) -> bool:
        if is_number(one) and is_number(other):
            return math.isclose(one, other, rel_tol=self.tolerance, abs_tol=0.0)
        if isinstance(one, str) and isinstance(other, str):
            return one.strip() == other.strip()
        return type(one) is type(other) and bool(one == other)


def _read_value(text: str) -> Any:
    """The JSON value of an answer. Raises ValueError where there is none."""
    text = text.strip(" \t\r\n\u00a0\ufeff")
    try:
        return _DECODER.decode(drop_fence(text))
    except ValueError:
        starts = [place for sign in "{[" if (place := text.find(sign)) >= 0]
        if not starts:
            raise
        return _DECODER.raw_decode(text, min(starts))[0]


def _list_leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each leaf with its place."""
    if isinstance(value, (dict, list)) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _list_leaves(inner, (*place, key))
    else:
        yield place, value
