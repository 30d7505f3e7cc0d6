"""`Constraint`: what an answer has to be, as a caller says it of a prompt.

How it is met, by words, by masks, by trying again, or not at all, is a config's `constrain`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from hagpolicy._checks import is_whole
from hagpolicy._digest import digest
from hagpolicy._names import suggest
from hagpolicy._text import replace_surrogates
from hagpolicy.errors import InvalidInput

__all__ = ["ASK", "MASK", "RETRY", "Constraint", "check_regex", "fold", "parse_regex", "trim_anchors"]

ASK, MASK, RETRY = "ask", "mask", "retry"
"""Ways to meet a constraint: the values of a config's `constrain` beside ""."""

MOST_CHOICES, MOST_WORDS, MOST_CHARACTERS = 10_000, 10_000, 100_000
# A word as it is looked for: ASCII letters, digits and _, and whatever is not ASCII.
_WORD = re.compile(r"[0-9A-Za-z_\u0080-\U0010ffff]+")
_KINDS = ("choices", "regex", "schema", "words")


@dataclass(frozen=True)
class Constraint:
    """What an answer has to be: one of some texts, a match of a regular expression, JSON by a schema, or words.

    The whole answer is meant, without the spaces around it. Words to include and to avoid, and their number, may be
    said together; the others stand alone.

    Attributes:
        choices: the answer is one of these texts.
        regex: the answer matches this regular expression, in Python's notation: \\d, \\w and \\s are those of ASCII.
        schema: the answer is JSON that is valid by this JSON schema. The order of its properties counts: by masks they
            are written in it.
        include: words that stand in it, as whole words, each at least once; letters of ASCII in either case.
        avoid: words that do not.
        min_words: least number of words, parted by spaces.
        max_words: greatest number.

    Raises:
        InvalidInput: none of these, several that do not go together, an expression that is none or is not regular, a
            schema that refers to another document, or a word that is none.
    """

    choices: tuple[str, ...] = ()
    regex: str = ""
    schema: Mapping[str, Any] | None = None
    include: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    min_words: int | None = None
    max_words: int | None = None

    def __post_init__(self) -> None:
        for name in ("choices", "include", "avoid"):
            object.__setattr__(self, name, _check_texts(name, getattr(self, name)))
        if not isinstance(self.regex, str) or len(self.regex) > MOST_CHARACTERS:
            raise InvalidInput("constraint.regex", "a regular expression", self.regex)
        said = [kind for kind in _KINDS if self._says(kind)]
        if len(said) != 1:
            expected = "one of choices, regex, schema, and words (include, avoid, min_words, max_words)"
            raise InvalidInput("constraint", expected, " and ".join(said) or "none")
        if self.regex:
            check_regex(self.regex)
        if self.schema is not None:
            object.__setattr__(self, "schema", _check_schema(self.schema))
        self._check_words()

    def _says(self, kind: str) -> bool:
        if kind == "schema":
            return self.schema is not None
        if kind != "words":
            return bool(getattr(self, kind))
        return bool(self.include or self.avoid) or self.min_words is not None or self.max_words is not None

    def _check_words(self) -> None:
        for name in ("include", "avoid"):
            for word in getattr(self, name):
                if not _WORD.fullmatch(word):
                    do = "Several words, each by itself; what joins them cannot be asked for."
                    raise InvalidInput(f"constraint.{name}", "single words of letters and digits", word, do)
        if both := {fold(word) for word in self.include} & {fold(word) for word in self.avoid}:
            raise InvalidInput("constraint", "words to include that are not to be avoided", sorted(both)[0])
        for name, low in (("min_words", 0), ("max_words", 1)):
            value = getattr(self, name)
            if value is not None and not is_whole(value, low, MOST_WORDS):
                raise InvalidInput(f"constraint.{name}", f"a whole number in [{low}, {MOST_WORDS}]", value)
        if self.min_words is not None and self.max_words is not None and self.min_words > self.max_words:
            raise InvalidInput("constraint", "min_words of at most max_words", f"{self.min_words} > {self.max_words}")

    @property
    def kind(self) -> str:
        """ "choices", "regex", "schema" or "words"."""
        return next(kind for kind in _KINDS if self._says(kind))

    @classmethod
    def parse(cls, value: Any) -> Constraint | None:
        """The constraint of a constraint, its mapping, or the JSON text of one; None of None and of an empty text.

        Raises:
            InvalidInput: anything else, or an unknown key.
        """
        if value is None or isinstance(value, Constraint):
            return value
        if isinstance(value, str):
            if not value.strip():
                return None
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise InvalidInput("constraint", "a mapping, or the JSON text of one", str(error)) from error
        if not isinstance(value, Mapping):
            raise InvalidInput("constraint", 'a mapping such as {"choices": ["yes", "no"]}', value)
        names = [field.name for field in fields(cls)]
        for name in value:
            if name not in names:
                raise InvalidInput("constraint", f"only the keys {', '.join(names)}", name, suggest(str(name), names))
        # Rows of a table have all keys, those that say nothing without a value.
        return cls(**{name: part for name, part in value.items() if part is not None})

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able mapping of what is said, that `parse` reads back; a schema is its text, which keeps its order."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        said = {name: value for name, value in values.items() if value is not None and value not in ((), "")}
        lists = {name: list(value) for name, value in said.items() if isinstance(value, tuple)}
        return {**said, **lists, **({"schema": self._schema_text} if self.schema is not None else {})}

    @cached_property
    def _schema_text(self) -> str:
        return _write_schema(self.schema or {})

    @cached_property
    def digest(self) -> str:
        """Identity, 32 hex digits."""
        return digest(self.to_dict())

    def describe(self) -> str:
        """The constraint in words, as a request to the one who answers."""
        if self.choices:
            shown = ", ".join(json.dumps(choice, ensure_ascii=False) for choice in self.choices)
            return f"Answer with exactly one of these, without quotes, and nothing else: {shown}."
        if self.regex:
            return f"Answer with text that matches this regular expression as a whole, and nothing else: {self.regex}"
        if self.schema is not None:
            return f"Answer with JSON that is valid by this JSON schema, and nothing else: {self._schema_text}"
        parts = [f"Use each of these words: {', '.join(self.include)}."] if self.include else []
        parts += [f"Do not use any of these words: {', '.join(self.avoid)}."] if self.avoid else []
        return " ".join([*parts, *self._describe_count()])

    def _describe_count(self) -> list[str]:
        low, high = self.min_words, self.max_words
        if low is not None and high is not None:
            return [f"Write exactly {low} words." if low == high else f"Write {low} to {high} words."]
        if high is not None:
            return [f"Write at most {high} words."]
        return [] if low is None else [f"Write at least {low} words."]

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constraint) and self.digest == other.digest


def fold(word: str) -> str:
    """A word as it is compared: letters of ASCII in lower case."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in word)


# What makes an expression not regular, or asks for more than a match of the whole: by the names of Python's parser.
_NOT_REGULAR = {
    "ASSERT": "look-around",
    "ASSERT_NOT": "look-around",
    "GROUPREF": "a back-reference",
    "GROUPREF_EXISTS": "a back-reference",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repetition",
}


def parse_regex(pattern: str) -> Any:
    """The parsed expression, by Python's own parser.

    Raises:
        InvalidInput: it is no expression, or has flags.
    """
    # The module has another, deprecated name in public; the tree is the same.
    from re import _parser  # type: ignore[attr-defined]

    try:
        tree = _parser.parse(pattern, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidInput("constraint.regex", "a regular expression", f"{pattern!r}: {error}") from error
    if tree.state.flags & ~int(re.ASCII | re.DOTALL):
        expected = "a regular expression without flags, but for (?s)"
        raise InvalidInput("constraint.regex", expected, pattern, "Write [aA] for a letter in either case.")
    return tree


def trim_anchors(tree: Any) -> list[Any]:
    """The parts of a parsed expression without the anchors at its two ends: the whole answer is meant anyway."""
    parts = list(tree)
    if parts and str(parts[0][0]) == "AT" and "BEGINNING" in str(parts[0][1]):
        parts = parts[1:]
    if parts and str(parts[-1][0]) == "AT" and "END" in str(parts[-1][1]):
        parts = parts[:-1]
    return parts


def check_regex(pattern: str) -> None:
    """Refuse an expression that is not regular, or that asks for more than a match of the whole.

    Raises:
        InvalidInput: naming the look-around, back-reference, boundary or inner anchor.
    """
    todo: list[Any] = trim_anchors(parse_regex(pattern))
    while todo:
        part = todo.pop()
        found = ""
        if isinstance(part, tuple) and part:
            found = _NOT_REGULAR.get(str(part[0]), "")
            if str(part[0]) == "AT":
                found = "a word boundary" if "BOUNDARY" in str(part[1]) else "an anchor that is not at an end"
        if found:
            expected, do = "a regular expression without it", "Only such can be counted in tokens to their end."
            raise InvalidInput("constraint.regex", expected, f"{found}, in {pattern}", do)
        if isinstance(part, tuple | list) or hasattr(part, "data"):
            todo += list(part)


def _check_texts(name: str, value: Any) -> tuple[str, ...]:
    """Distinct texts in their order."""
    if hasattr(value, "tolist"):  # Parquet through pandas gives arrays
        value = value.tolist()
    texts = isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) <= MOST_CHOICES
    if not texts or not all(isinstance(text, str) and text.strip() for text in value):
        raise InvalidInput(f"constraint.{name}", f"a list of at most {MOST_CHOICES:,} texts", value)
    return tuple(dict.fromkeys(replace_surrogates(text) for text in value))


def _write_schema(schema: Any) -> str:
    """A schema as JSON text, its keys in their order. Raises TypeError or ValueError for what JSON cannot hold."""
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=dict)


def _check_schema(schema: Any) -> Mapping[str, Any]:
    """The schema, a copy; no reference in it leads out of it."""
    try:
        text = _write_schema(schema if isinstance(schema, Mapping) else json.loads(schema))
        made = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("constraint.schema", "a JSON schema", str(error)) from error
    if not isinstance(made, dict) or len(text) > MOST_CHARACTERS:
        raise InvalidInput("constraint.schema", f"a JSON schema of at most {MOST_CHARACTERS:,} characters", schema)
    todo: list[Any] = [made]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            for name in ("$ref", "$dynamicRef"):
                if isinstance(where := part.get(name), str) and not where.startswith("#"):
                    raise InvalidInput("constraint.schema", "references within the schema ('#/…')", where)
            todo += part.values()
        elif isinstance(part, list):
            todo += part
    return made
