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

__all__ = ["Steps", "Vocabulary", "load_vocabulary"]

# So many pairs of tokens are decoded to see whether their text is their bytes.
_TRIED = 300


@dataclass(frozen=True)
class Steps:
    """Where tokens, or bytes, lead from a state of an automaton's table.

    Attributes:
        reached: int32 (tokens,): next states of the table.
        marks: int32 (tokens,): marks set on the way.
        adds: int32 (tokens,): numbers added.
    """

    reached: np.ndarray
    marks: np.ndarray
    adds: np.ndarray


class Vocabulary:
    """What each token of a model adds to a text.

    Args:
        tokens: bytes of each token, by id; b"" for one that adds none, such as a special one.
        ends: ids of the tokens that end an answer.
        size: ids that the model can give; more than there are tokens, where its output layer is padded.
        grammar_tokenizer: llguidance's tokenizer of the same, for what automata cannot say.

    Attributes:
        ids: int64 (tokens,): ids of the tokens that add something and end nothing.
        single: int64 (bytes,): bytes that are a token by themselves.
    """

    def __init__(self, tokens: Sequence[bytes], ends: Sequence[int], size: int, grammar_tokenizer: Any = None) -> None:
        self.tokens, self.size, self.grammar_tokenizer = tokens, size, grammar_tokenizer
        self.ends = [end for end in ends if end < size]
        ids = [token for token in range(min(len(tokens), size)) if tokens[token] and token not in set(ends)]
        self.ids = np.array(ids, dtype=np.int64)
        self.single = np.array(sorted({tokens[token][0] for token in ids if len(tokens[token]) == 1}), dtype=np.int64)
        self._levels, self._nodes = _build_trie([tokens[token] for token in ids])

    def walk(self, automaton: Automaton, state: int) -> Steps:
        """Where every token leads from a state of the table, in the order of `ids`."""
        now, marks, adds = np.full(1, state, dtype=np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32)
        found = []
        for parents, bytes_ in self._levels:
            at = now[parents] * 256 + bytes_
            now = automaton.table.reshape(-1)[at]
            if automaton.marks is not None:
                marks = marks[parents] | automaton.marks.reshape(-1)[at]
            if automaton.adds is not None:
                adds = adds[parents] + automaton.adds.reshape(-1)[at]
            found.append((now, marks, adds))
        none = np.zeros(len(self.ids), dtype=np.int32)
        reached = np.concatenate([one[0] for one in found])[self._nodes]
        marks = none if automaton.marks is None else np.concatenate([one[1] for one in found])[self._nodes]
        adds = none if automaton.adds is None else np.concatenate([one[2] for one in found])[self._nodes]
        return Steps(reached, marks, adds)


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
