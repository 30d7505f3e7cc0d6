"""How a request's constraint is met at a server: which configs can meet it, and what is sent.

Answers are checked in the process that serves all callers, and a constraint may come from any of them: what could not
be checked in bounded time is not met by trying again, see `find_uncheckable`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.config.constraints import ASK, MASK, RETRY, Constraint
from hagpolicy.config.masks import FORMS
from hagpolicy.engines.constraints.expressions import Nfa, TooLarge
from hagpolicy.engines.constraints.regex import compile_regex
from hagpolicy.engines.constraints.schema import follow_pointer
from hagpolicy.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    from hagpolicy.config.config import DecodingConfig
    from hagpolicy.config.dialects import Dialect

__all__ = ["UNMET", "ConstraintWriter", "check_form", "find_uncheckable"]

UNMET = "none"
"""What receipts say of a constraint about which nothing is done."""

# Of what answers are checked by: states of an expression's automaton, letters of words, parts of a schema.
MOST_STATES, MOST_LETTERS, MOST_PARTS = 2_000, 1_000, 1_000
# Keys of a schema, beside texts, by which its check may take time without bound.
_UNBOUNDED = ("pattern", "$id", "$dynamicRef", "$recursiveRef")
# Where the body of a request says the form of its answer itself, beside `FORMS`, by endpoint (the API references of
# OpenAI and Anthropic, November 2026).
_FORMS_WITHIN = {"responses": (("text", "format"),), "messages": (("output_config", "format"), ("output_format",))}


def check_form(endpoint: str, body: Mapping[str, Any]) -> None:
    """Refuse a request that says the form of its answer itself, as one beside a constraint does.

    Args:
        endpoint: its name in `ENDPOINTS`.
        body: of the request.

    Raises:
        InvalidInput: naming the key.
    """
    for path in (*((key,) for key in sorted(FORMS)), *_FORMS_WITHIN.get(endpoint, ())):
        value: Any = body
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None and not (isinstance(value, Mapping) and value.get("type") == "text"):
            expected, do = "a request without a form of the answer of its own", "Leave one of them out."
            raise InvalidInput("constraint", expected, ".".join(path), do)


class ConstraintWriter:
    """Which configs of a space can meet a constraint at one endpoint of a server, and what it is sent for it.

    Args:
        dialect: what the server takes at the endpoint.
        space: of configs, in their order.
    """

    def __init__(self, dialect: Dialect, space: Sequence[DecodingConfig]) -> None:
        self._masks, self._ways = dialect.masks, [config.constrain for config in space]

    def find_able(self, constraint: Constraint, *, words: bool) -> np.ndarray:
        """bool (n_configs,): configs that meet it as they say, or do nothing about it.

        Args:
            constraint: of the request.
            words: whether words can follow those of the prompt.
        """
        return np.array([not way or self.find_way(constraint, way, words=words) == way for way in self._ways])

    def find_way(self, constraint: Constraint, way: str, *, words: bool) -> str:
        """A config's way to meet a constraint where it can be gone here, else `UNMET`."""
        able = (
            (way == ASK and words)
            or (way == MASK and constraint.kind in self._masks)
            or (way == RETRY and not find_uncheckable(constraint))
        )
        return way if able else UNMET

    def write_mask(self, constraint: Constraint) -> dict[str, Any]:
        """Keys and values by which the server masks tokens for it."""
        return self._masks[constraint.kind](constraint)


@lru_cache(256)
def find_uncheckable(constraint: Constraint) -> str:
    """Why no answers are checked by a constraint while others wait; "" where they are.

    Refused are schemas with regular expressions, since those are not matched in linear time; with references that lead
    to themselves or beyond pointers; and what is larger than texts of a request are.
    """
    if constraint.kind == "words":
        letters = sum(map(len, (*constraint.include, *constraint.avoid)))
        return "" if letters <= MOST_LETTERS else f"words of more than {MOST_LETTERS:,} letters in all"
    if constraint.regex:
        return _measure_regex(constraint.regex)
    if constraint.schema is None:
        return ""
    try:
        require("jsonschema", "sweep", "a constraint that is a JSON schema", "or [http]")
    except MissingExtra as error:
        return str(error)
    return _measure_schema(constraint.schema)


def _measure_regex(pattern: str) -> str:
    nfa = Nfa()
    begin = nfa.add()
    try:
        compile_regex(pattern)(nfa, begin)
    except (TooLarge, RecursionError):
        return f"an automaton of more than {MOST_STATES:,} states"
    return "" if len(nfa.moves) <= MOST_STATES else f"an automaton of more than {MOST_STATES:,} states"


def _measure_schema(schema: Mapping[str, Any]) -> str:
    """Why values are not checked by a schema, its references written out; "" where they are."""
    todo: list[tuple[Any, tuple[str, ...]]] = [(schema, ())]
    parts = 0
    while todo:
        part, within = todo.pop()
        parts += 1
        if parts > MOST_PARTS:
            return f"a schema of more than {MOST_PARTS:,} parts"
        if isinstance(part, list):
            todo += [(one, within) for one in part]
        if not isinstance(part, dict):
            continue
        if found := [key for key in _UNBOUNDED if isinstance(part.get(key), str)]:
            return f"a schema with {found[0]}"
        if "patternProperties" in part:
            return "a schema with patternProperties"
        if isinstance(where := part.get("$ref"), str):
            target = follow_pointer(schema, where)
            if target is None or where in within:
                return f"a schema with {where}, which leads {'nowhere' if target is None else 'to itself'}"
            todo.append((target, (*within, where)))
        todo += [(one, within) for one in part.values()]
    return ""
