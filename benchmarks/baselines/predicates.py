"""Conditions on a prompt written in words, such as `contains "list"`, and the encoder whose features they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from hagpolicy.data.prompts import Prompt
from hagpolicy.fitting.encoders.base import Encoder
from hagpolicy.fitting.encoders.words import WordsEncoder
from hagpolicy.fitting.graphs.builder import FLOAT, GraphBuilder
from hagpolicy.policy.tokenizer import TOKENIZER_FILE

FORMS = (
    'contains "WORD"',
    'contains "WORD" or "WORD" or "WORD"',
    'contains "WORD" and "WORD"',
    "contains a number",
    "contains a line break",
    "is longer than N words",
    "is shorter than N words",
)
"""What a line may say; `parse_predicate` reads no other."""

# What the encoder of words counts beside words: numbers, line breaks, indentations.
MARKS = WordsEncoder().columns[:-1]
# A phrase of more tokens is no predicate but a prompt; more alternatives are a list of words, not a condition.
MOST_TOKENS, MOST_PHRASES, LONGEST = 8, 12, 10_000
_STRAIGHT = str.maketrans({"\u201c": '"', "\u201d": '"', "\u201e": '"', "`": '"'})
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\d{1,2}[.):]\s+)?")
_QUOTED = r"\"[^\"]{1,80}\""
_CONTAINS = re.compile(rf"(?:it )?contains (?:one of )?({_QUOTED}(?:(?:,| or|, or| and|, and) {_QUOTED})*)", re.I)
_HAS = re.compile(rf"(?:it )?contains ({'|'.join(map(re.escape, MARKS))})", re.I)
_LENGTH = re.compile(r"(?:it )?is (longer|shorter) than (\d{1,5}) (?:words|tokens)", re.I)


class Predicate(NamedTuple):
    """A condition on a prompt, of the tokens that `WordsEncoder` counts.

    Attributes:
        clauses: one of them is enough. Of each all parts must hold: a token or mark (such as "a number") that stands in
            the prompt, or the number of tokens that it must have more of.
    """

    clauses: tuple[tuple[str | int, ...], ...]


def parse_predicate(line: str) -> Predicate | None:
    """What a line in one of the `FORMS` says, with a bullet or number before it; None for any other line.

    A word or phrase stands in a prompt where all of its tokens do, in any order. Words of a length are counted as
    tokens. "shorter than N" is "longer than N - 1", which a rule may ask not to hold.
    """
    text = _BULLET.sub("", line.translate(_STRAIGHT)).strip().rstrip(".").strip()
    if found := _LENGTH.fullmatch(text):
        number = int(found[2]) - (found[1].lower() == "shorter")
        return Predicate(((number,),)) if 0 <= number <= LONGEST else None
    if found := _HAS.fullmatch(text):
        return Predicate(((found[1].lower(),),))
    found = _CONTAINS.fullmatch(text)
    if found is None:
        return None
    between = re.sub(_QUOTED, "", found[1])
    phrases = [find_tokens(phrase[1:-1]) for phrase in re.findall(_QUOTED, found[1])]
    if len(phrases) > MOST_PHRASES or not all(phrases) or ("and" in between and "or" in between):
        return None
    clauses = (
        [tuple(sorted(set().union(*phrases)))] if "and" in between else [tuple(sorted(set(one))) for one in phrases]
    )
    if max(map(len, clauses)) > MOST_TOKENS:
        return None
    return Predicate(tuple(sorted(set(clauses))))


def find_tokens(text: str) -> tuple[str, ...]:
    """The tokens of a text, as `WordsEncoder` counts them; none where one is a number, a line break, an indentation, or
    not in its vocabulary."""
    tokens = tuple(_load_tokenizer().encode(text, add_special_tokens=False).tokens)
    return () if any(one in ("\u21b5", "\u21e5", "[UNK]") or one.isdecimal() for one in tokens) else tokens


@cache
def _load_tokenizer() -> Tokenizer:
    return Tokenizer.from_buffer(WordsEncoder().files()[TOKENIZER_FILE])


class PredicatesEncoder(Encoder):
    """1 where a predicate holds for a prompt, 0 where it does not.

    Features, float32 (batch, n_predicates); one column of 0 where there is no predicate.

    Args:
        predicates: in the order of the columns.
        name: of the encoder.
    """

    def __init__(self, predicates: Sequence[Predicate] = (), name: str = "predicates") -> None:
        self.predicates, self.name = tuple(predicates), name
        parts = {part for one in self.predicates for clause in one.clauses for part in clause}
        self._lengths = sorted(part for part in parts if isinstance(part, int))
        self._words = WordsEncoder(sorted(part for part in parts if isinstance(part, str) and part not in MARKS))

    def export(self, graph: GraphBuilder) -> tuple[str, str]:
        """Inputs as of `WordsEncoder`; see `Encoder.export`. What is compared are integers and one logarithm."""
        counts, unknown = self._words.export(graph)
        columns = self._words.columns
        parts: list[str | int] = [*columns[:-1], *self._lengths]
        clauses = list(dict.fromkeys(clause for one in self.predicates for clause in one.clauses)) or [(columns[0],)]
        which = np.array([*range(len(columns) - 1), *[len(columns) - 1] * len(self._lengths)])
        # Half a token more, so that no rounding of a logarithm decides.
        bounds = np.array([*[0.5] * (len(columns) - 1), *np.log(np.array(self._lengths, dtype=np.float64) + 0.5)])
        needs = np.array([[part in clause for clause in clauses] for part in parts], dtype=np.float32)
        joins = np.array(
            [[clause in one.clauses for one in self.predicates or [Predicate(())]] for clause in clauses], np.float32
        )
        chosen = graph.node("Gather", [counts, graph.constant(which, "parts")], axis=1)
        found = _exceeds(graph, chosen, bounds)
        all_hold = _exceeds(
            graph, graph.node("MatMul", [found, graph.constant(needs, "clauses")]), needs.sum(axis=0) - 0.5
        )
        ones = np.full(joins.shape[1], 0.5)
        return _exceeds(graph, graph.node("MatMul", [all_hold, graph.constant(joins, "predicates")]), ones), unknown

    def inputs(self, prompts: Sequence[Prompt]) -> list[dict[str, np.ndarray]]:
        """`ids` and `mask`; see `Encoder.inputs`."""
        return self._words.inputs(prompts)

    def spec(self) -> dict[str, Any]:
        """Name and kind of inputs; what the predicates are stands in the graph alone."""
        return {**self._words.spec(), "name": self.name}

    def files(self) -> dict[str, bytes]:
        """The tokenizer, the static encoder's."""
        return self._words.files()


def _exceeds(graph: GraphBuilder, tensor: str, bounds: np.ndarray) -> str:
    """A tensor with 1 where another (batch, n) is above its column's bound (n,), 0 elsewhere."""
    return graph.cast(graph.node("Greater", [tensor, graph.constant(bounds.astype(np.float32), "bounds")]), FLOAT)
