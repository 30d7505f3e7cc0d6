"""The bytes of a tokenizer's tokens, by which an automaton over bytes reads tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from hagpolicy._extras import require
from hagpolicy.engines.constraints.automaton import Automaton
from hagpolicy.errors import EngineError

__all__ = ["TokenEffects", "Vocabulary", "load_vocabulary"]

# So many pairs of tokens are decoded to see whether their text is their bytes.
_TRIED = 300


@dataclass(frozen=True)
class TokenEffects:
    """What tokens do to the states of an automaton's table: most of them do the same as others.

    Attributes:
        kinds: int32 (tokens,): the kind of each token, in the order of `Vocabulary.ids`.
        reached: int16 (states, kinds): next states of the table.
        marks: int32 (states, kinds): marks set on the way; None: none ever is.
        adds: int32 (states, kinds): numbers added; None: nothing ever is.
    """

    kinds: np.ndarray
    reached: np.ndarray
    marks: np.ndarray | None
    adds: np.ndarray | None


class Vocabulary:
    """What each token of a model adds to a text.

    Args:
        tokens: bytes of each token, by id; b"" for one that adds none, such as a special one.
        ends: ids of the tokens that end an answer.
        size: ids that the model can give; more than there are tokens, where its output layer is padded.
        grammar_tokenizer: llguidance's tokenizer of the same, for what automata cannot say.

    Attributes:
        ids: int64 (tokens,): ids of the tokens that add something and end nothing.
    """

    def __init__(self, tokens: Sequence[bytes], ends: Sequence[int], size: int, grammar_tokenizer: Any = None) -> None:
        self.tokens, self.size, self.grammar_tokenizer = tokens, size, grammar_tokenizer
        self.ends = [end for end in ends if end < size]
        ids = [token for token in range(min(len(tokens), size)) if tokens[token] and token not in set(ends)]
        self.ids = np.array(ids, dtype=np.int64)
        self._levels, self._nodes = _build_trie([tokens[token] for token in ids])

    def find_effects(self, automaton: Automaton) -> TokenEffects:
        """What every token does to every state.

        By the trie of the tokens, level by level: what a beginning does is a row of states, one for each that it may
        meet, and beginnings whose rows are equal go on as one. (They are told apart by a random hash of 64 bits.)
        """
        tables = [automaton.table, automaton.marks, automaton.adds]
        known = [table for table in tables if table is not None]
        _, first, classes = np.unique(np.concatenate(known), axis=1, return_index=True, return_inverse=True)
        narrow = [None if table is None else table[:, first] for table in tables]
        states, count = automaton.states, len(first)
        salts = np.random.default_rng(0).integers(1, 1 << 62, (3, states), dtype=np.int64) | 1
        rows = [
            np.arange(states)[None, :],
            *(None if table is None else np.zeros((1, states), int) for table in tables[1:]),
        ]
        found: list[list[np.ndarray | None]] = []
        kinds, begin, numbers = [], 0, np.zeros(1, dtype=np.int64)
        for parents, bytes_ in self._levels:
            pairs, place = np.unique(numbers[parents] * count + classes.reshape(-1)[bytes_], return_inverse=True)
            rows = _go_on(rows, narrow, *np.divmod(pairs, count))
            hashes = sum(row @ salt for row, salt in zip(rows, salts, strict=True) if row is not None)
            _, chosen, same = np.unique(hashes, return_index=True, return_inverse=True)
            rows = [None if row is None else row[chosen] for row in rows]
            numbers = same.reshape(-1)[place.reshape(-1)]
            found.append(rows)
            kinds.append(begin + numbers)
            begin += len(chosen)
        joined = [None if part[0] is None else np.concatenate(part).T for part in zip(*found, strict=True)]
        of_tokens, kinds_of = np.unique(np.concatenate(kinds)[self._nodes], return_inverse=True)
        kept = [None if part is None else np.ascontiguousarray(part[:, of_tokens]) for part in joined]
        assert kept[0] is not None
        return TokenEffects(kinds_of.reshape(-1).astype(np.int32), kept[0].astype(np.int16), kept[1], kept[2])


_Rows = list[np.ndarray | None]


def _go_on(rows: _Rows, tables: _Rows, before: np.ndarray, classes: np.ndarray) -> _Rows:
    """What beginnings do that are one byte longer: (states reached, marks set, numbers added), (beginnings, states)."""
    at, marks, adds = rows
    assert at is not None
    assert tables[0] is not None
    now = at[before]
    more = [None if table is None else table[now, classes[:, None]] for table in tables]
    return [
        more[0],
        None if marks is None or more[1] is None else marks[before] | more[1],
        None if adds is None or more[2] is None else adds[before] + more[2],
    ]


_Level = tuple[np.ndarray, np.ndarray]


def _build_trie(texts: Sequence[bytes]) -> tuple[list[_Level], np.ndarray]:
    """The beginnings of texts, which share them, by their length: (index in the level before, last byte) each; and
    int64 (texts,): where each whole text stands in all levels together."""
    levels: list[tuple[list[int], list[int]]] = []
    places: list[dict[tuple[int, int], int]] = []
    ends: list[tuple[int, int]] = []
    for text in texts:
        node = 0
        for depth, byte in enumerate(text):
            if depth == len(levels):
                levels.append(([], []))
                places.append({})
            parents, bytes_ = levels[depth]
            key = (node, byte)
            if key not in places[depth]:
                places[depth][key] = len(parents)
                parents.append(node)
                bytes_.append(byte)
            node = places[depth][key]
        ends.append((len(text) - 1, node))
    begins = np.cumsum([0, *(len(parents) for parents, _ in levels)])
    made = [(np.array(parents, dtype=np.int32), np.array(bytes_, dtype=np.int32)) for parents, bytes_ in levels]
    return made, np.array([begins[depth] + node for depth, node in ends], dtype=np.int64)


def load_vocabulary(tokenizer: Any, ends: Sequence[int], size: int) -> Vocabulary:
    """The vocabulary of a fast tokenizer of transformers, read by llguidance.

    Args:
        tokenizer: the tokenizer.
        ends: ids of the tokens that end an answer.
        size: ids that the model can give.

    Raises:
        MissingExtra: llguidance is not installed.
        EngineError: it is of a kind whose tokens have no bytes of their own, so that none can be masked by them.
    """
    llguidance = require("llguidance", "sweep", "a constraint met by masks")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise EngineError("constrain='mask' needs a fast tokenizer")
    known = max(size, len(tokenizer))
    end = [one for one in ends if one < known]
    try:
        grammar_tokenizer = llguidance.LLTokenizer(backend.to_str(), n_vocab=known, eos_token=end or None)
    except Exception as error:  # what it does not know it refuses in many words
        raise EngineError(f"constrain='mask' cannot read this tokenizer: {error}") from error
    special = set(tokenizer.all_special_ids)
    tokens = [
        b""
        if token in special or grammar_tokenizer.is_special_token(token)
        else grammar_tokenizer.decode_bytes([token])
        for token in range(len(tokenizer))
    ]
    _check_bytes(tokenizer, tokens)
    return Vocabulary(tokens, ends, size, grammar_tokenizer)


def _check_bytes(tokenizer: Any, tokens: Sequence[bytes]) -> None:
    """Refuse a tokenizer whose texts are not their tokens' bytes one behind the other. Raises EngineError."""
    some = [token for token, data in enumerate(tokens) if data][::-1][:_TRIED]
    for first, second in pairwise(some):
        text = (tokens[first] + tokens[second]).decode("utf-8", "replace")
        if tokenizer.decode([first, second], skip_special_tokens=True).strip() != text.strip():
            raise EngineError("constrain='mask' needs a tokenizer whose texts are the bytes of their tokens")
