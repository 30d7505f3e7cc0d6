"""Which tokens a constraint allows next, so that it can still be met with those that remain.

For every state of the automaton the fewest tokens to where it may end are found backwards from there, over all tokens
(breadth first); a token is allowed where they fit in what remains behind it.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.config.constraints import Constraint
from hagpolicy.engines.constraints.automaton import DEAD, NEVER, Automaton, Edges, build_automaton, count_steps
from hagpolicy.engines.constraints.expressions import TooLarge, either, literal
from hagpolicy.engines.constraints.regex import compile_regex
from hagpolicy.engines.constraints.schema import Beyond, compile_schema
from hagpolicy.engines.constraints.vocabulary import Vocabulary
from hagpolicy.engines.constraints.words import build_words
from hagpolicy.errors import InvalidInput

__all__ = ["Guide", "Guides", "compile_constraint", "find_infeasible"]

# What is kept for all constraints of a model: some 0.05 MB a way, and 0.3 MB or more a guide, at 49,152 tokens.
MOST_WAYS, MOST_GUIDES = 2048, 256


def compile_constraint(constraint: Constraint) -> Automaton:
    """The automaton of a constraint.

    Raises:
        Beyond, TooLarge: it cannot be counted exactly.
    """
    if constraint.kind == "words":
        return build_words(constraint)
    if constraint.choices:
        return build_automaton(either(*(literal(choice.encode()) for choice in constraint.choices)))
    if constraint.schema is not None:
        return build_automaton(compile_schema(constraint.schema))
    return build_automaton(compile_regex(constraint.regex))


class Guide(ABC):
    """What a constraint allows, token by token, for one answer after another.

    Attributes:
        exact: whether the tokens allowed always leave a way to meet the constraint.
        why: it is not.
    """

    exact: bool
    why: str = ""

    @abstractmethod
    def start(self) -> Any:
        """The state before the first token."""

    @abstractmethod
    def advance(self, state: Any, token: int) -> Any:
        """The state behind a token, which takes the place of the one before."""

    @abstractmethod
    def allow(self, state: Any, remaining: int) -> np.ndarray:
        """bool (size,): tokens that may come next, the end tokens among them, with so many left (at least 1)."""

    @abstractmethod
    def is_complete(self, state: Any) -> bool:
        """Whether the constraint is met, and nothing may follow."""

    def count_needed(self, state: Any) -> int:
        """Fewest tokens by which the constraint can be met from here, the end token not counted; 0: not known."""
        return 0


@dataclass(frozen=True)
class _Way:
    """What the tokens do from a full state.

    Attributes:
        needed: int32 (kinds,): fewest tokens to an end behind a token of each kind.
        allowed: bool (size,): tokens with any way to an end, and the end tokens where it may end.
        most: the greatest of `needed` that is a way to an end.
        last: whether no token leads on.
    """

    needed: np.ndarray
    allowed: np.ndarray
    most: int
    last: bool


class _Kept:
    """What was made last, so many of a kind, for all guides of a model together, and for all threads."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.RLock()
        self._values: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value of a key, made where there is none."""
        with self._lock:
            if key not in self._values:
                self._values[key] = make()
                if len(self._values) > self._most:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            return self._values[key]


class AutomatonGuide(Guide):
    """A guide that keeps the promise: see the module.

    Args:
        automaton: of the constraint.
        vocabulary: of the model.
        ways: keeps what tokens do from states.
    """

    exact = True

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary, ways: _Kept) -> None:
        self._automaton, self._vocabulary, self._ways = automaton, vocabulary, ways
        self._effects = vocabulary.find_effects(automaton)
        self._needed = count_steps(automaton, self._list_edges)

    def _list_edges(self, state: int) -> Edges:
        """The distinct steps of tokens from a state of the table that lead on."""
        effects, (sets, numbers) = self._effects, self._automaton.widths
        reached = effects.reached[state].astype(np.int64)
        marks = 0 if effects.marks is None else effects.marks[state]
        adds = 0 if effects.adds is None else np.minimum(effects.adds[state], numbers - 1)
        rest, added = np.divmod(np.unique((reached * sets + marks) * numbers + adds), numbers)
        to, set_ = np.divmod(rest, sets)
        leads = to != DEAD
        return to[leads], set_[leads], added[leads]

    def start(self) -> int:
        """See `Guide.start`."""
        return self._automaton.start

    def advance(self, state: int, token: int) -> int:
        """See `Guide.advance`; an end token leaves the state."""
        tokens = self._vocabulary.tokens
        return self._automaton.advance(state, tokens[token] if token < len(tokens) else b"")

    def allow(self, state: int, remaining: int) -> np.ndarray:
        """See `Guide.allow`."""
        way = self._find_way(state)
        if way.most < remaining:
            return way.allowed
        allowed = way.allowed.copy()
        allowed[self._vocabulary.ids] = (way.needed < remaining)[self._effects.kinds]
        return allowed

    def is_complete(self, state: int) -> bool:
        """See `Guide.is_complete`."""
        return bool(self._automaton.may_end[state]) and self._find_way(state).last

    def count_needed(self, state: int) -> int:
        """See `Guide.count_needed`; 2**30: it cannot be met at all."""
        return int(self._needed[state])

    def _find_way(self, state: int) -> _Way:
        made: _Way = self._ways.get((self, state), lambda: self._make_way(state))
        return made

    def _make_way(self, state: int) -> _Way:
        effects, vocabulary = self._effects, self._vocabulary
        base, marks, number = self._automaton.split(state)
        more = 0 if effects.marks is None else effects.marks[base]
        adds = 0 if effects.adds is None else effects.adds[base]
        reached = effects.reached[base].astype(np.int64)
        needed = self._needed[self._automaton.join(reached, np.asarray(marks | more), np.asarray(number + adds))]
        leads = needed < NEVER
        allowed = np.zeros(vocabulary.size, dtype=bool)
        allowed[vocabulary.ids] = leads[effects.kinds]
        allowed[vocabulary.ends] = self._automaton.may_end[state]
        return _Way(needed, allowed, int(needed[leads].max()) if leads.any() else 0, not leads.any())


class GrammarGuide(Guide):
    """A guide by llguidance, which does not count what remains.

    Args:
        constraint: a schema, an expression or choices that are not counted exactly.
        vocabulary: of the model.
        why: they are not.

    Raises:
        InvalidInput: llguidance cannot compile it either.
    """

    exact = False

    def __init__(self, constraint: Constraint, vocabulary: Vocabulary, why: str) -> None:
        self._llguidance = require("llguidance", "sweep", "a constraint met by masks")
        self._vocabulary, self.why = vocabulary, why
        matcher = self._llguidance.LLMatcher
        if constraint.schema is not None:
            self._grammar = matcher.grammar_from_json_schema(json.dumps(constraint.schema))
        elif constraint.regex:
            self._grammar = matcher.grammar_from_regex(constraint.regex)
        else:
            texts = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in constraint.choices)
            self._grammar = matcher.grammar_from_lark(f"start: {texts}")
        if error := matcher.validate_grammar(self._grammar, vocabulary.grammar_tokenizer):
            raise InvalidInput("constraint", "one that can be masked", str(error))

    def start(self) -> Any:
        """See `Guide.start`."""
        return self._llguidance.LLMatcher(self._vocabulary.grammar_tokenizer, self._grammar)

    def advance(self, state: Any, token: int) -> Any:
        """See `Guide.advance`; the matcher itself goes on."""
        state.consume_token(token)
        return state

    def allow(self, state: Any, remaining: int) -> np.ndarray:
        """See `Guide.allow`."""
        bits = np.frombuffer(state.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: self._vocabulary.size].astype(bool)
        return np.pad(allowed, (0, self._vocabulary.size - len(allowed)))

    def is_complete(self, state: Any) -> bool:
        """See `Guide.is_complete`."""
        return bool(state.is_stopped()) and bool(state.is_accepting())


class Guides:
    """The guides of a model, each made once and kept.

    Args:
        vocabulary: of the model.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._made, self._ways = _Kept(MOST_GUIDES), _Kept(MOST_WAYS)

    def get(self, constraint: Constraint) -> Guide | str:
        """The guide of a constraint, or why there is none."""
        made: Guide | str = self._made.get(constraint.digest, lambda: self._make(constraint))
        return made

    def _make(self, constraint: Constraint) -> Guide | str:
        try:
            try:
                return AutomatonGuide(compile_constraint(constraint), self._vocabulary, self._ways)
            except (Beyond, TooLarge) as error:
                if constraint.kind == "words":
                    raise
                return GrammarGuide(constraint, self._vocabulary, f"not counted exactly: {error.got}")
        except InvalidInput as error:
            return str(error)


def find_infeasible(guide: Guide, limit: int) -> str:
    """Why a constraint cannot be met within so many tokens; "" where it can, or where that is not known."""
    needed = guide.count_needed(guide.start())
    if needed <= limit:
        return ""
    if needed >= NEVER:
        return "the constraint cannot be met with the tokens of this model"
    return f"the constraint cannot be met within {limit} tokens: it takes {needed} at least"
