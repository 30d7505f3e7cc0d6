"""Whether a text meets a constraint."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from hagpolicy._extras import require
from hagpolicy.config.constraints import Constraint
from hagpolicy.engines.constraints.expressions import Nfa
from hagpolicy.engines.constraints.regex import compile_regex
from hagpolicy.engines.constraints.words import build_words

__all__ = ["meets"]

# Spaces around an answer are no part of it.
_SPACES = " \t\r\n\u00a0\ufeff"


def meets(constraint: Constraint, text: str) -> bool:
    """Whether a text, without the spaces around it, meets a constraint; in time linear in its length but for schemas.

    Raises:
        MissingExtra: jsonschema is not installed, for a schema.
    """
    check, bare = _make_check(constraint), text.strip(_SPACES)
    return check(text) or (bare != text and check(bare))


@lru_cache(256)
def _make_check(constraint: Constraint) -> Callable[[str], bool]:
    if constraint.choices:
        return frozenset(constraint.choices).__contains__
    if constraint.schema is not None:
        return _make_schema_check(constraint.schema)
    if constraint.kind == "words":
        words = build_words(constraint)
        return lambda text: words.accepts(text.encode("utf-8", "replace"))
    nfa = Nfa()
    begin = nfa.add()
    end = compile_regex(constraint.regex)(nfa, begin)
    return lambda text: nfa.accepts(text.encode("utf-8", "replace"), begin, end)


def _make_schema_check(schema: Any) -> Callable[[str], bool]:
    jsonschema = require("jsonschema", "sweep", "a constraint that is a JSON schema", "or [http]")
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)(schema)

    def check(text: str) -> bool:
        try:
            value = json.loads(text, parse_constant=_refuse)
            return bool(validator.is_valid(value))
        except (ValueError, RecursionError):
            return False

    return check


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
