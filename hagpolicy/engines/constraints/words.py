"""Words to include, to avoid and to count, as one automaton."""

from __future__ import annotations

import numpy as np

from hagpolicy.config.constraints import Constraint, fold
from hagpolicy.engines.constraints.automaton import DEAD, Automaton

__all__ = ["build_words"]

# States beside those within a word that is looked for: at the start and behind a space; behind punctuation; within a
# word that is not looked for.
_APART, _BEHIND, _OTHER = 1, 2, 3
_SPACES = frozenset(b" \t\n\r\x0b\x0c")
_LETTERS = frozenset(byte for byte in range(256) if byte >= 0x80 or chr(byte).isalnum() or byte == ord("_"))
_AVOIDED = -1


def build_words(constraint: Constraint) -> Automaton:
    """The automaton of a constraint of words.

    A word that is looked for is a run of ASCII letters, digits, _ and characters that are not ASCII; words are counted
    as what spaces part.
    """
    included = list(dict.fromkeys(fold(word) for word in constraint.include))
    nodes, meaning = _build_trie(included, [fold(word) for word in constraint.avoid])
    states, places = _OTHER + 1 + len(nodes), {node: place for place, node in enumerate(nodes)}
    table = np.zeros((states, 256), dtype=np.int32)
    marks, adds = np.zeros_like(table), np.zeros_like(table)
    final, accepting = np.zeros(states, dtype=np.int32), np.ones(states, dtype=bool)
    accepting[DEAD] = False
    for state in range(1, states):
        prefix = nodes[state - _OTHER - 1] if state > _OTHER else None
        means = meaning.get(prefix, 0) if prefix is not None else 0
        final[state], accepting[state] = max(means, 0), means != _AVOIDED
        begun = b"" if state in (_APART, _BEHIND) else prefix
        for byte in range(256):
            if byte in _LETTERS:
                longer = None if begun is None else begun + bytes([byte]).lower()
                table[state, byte] = _OTHER + 1 + places[longer] if longer in places else _OTHER
            elif means != _AVOIDED:
                table[state, byte] = _APART if byte in _SPACES else _BEHIND
                marks[state, byte] = means
            adds[state, byte] = state == _APART and byte not in _SPACES
    counted = constraint.min_words is not None or constraint.max_words is not None
    return Automaton(
        table,
        accepting,
        marks,
        final,
        adds if counted else None,
        (1 << len(included)) - 1,
        constraint.min_words or 0,
        constraint.max_words,
    )


def _build_trie(included: list[str], avoided: list[str]) -> tuple[list[bytes], dict[bytes, int]]:
    """Every beginning of a word, and what it means to have read just it: the mark of a word, or that it is avoided."""
    words = [*included, *avoided]
    nodes = list(dict.fromkeys(word.encode()[: end + 1] for word in words for end in range(len(word.encode()))))
    meaning = {word.encode(): 1 << place for place, word in enumerate(included)}
    return nodes, meaning | {word.encode(): _AVOIDED for word in avoided}
