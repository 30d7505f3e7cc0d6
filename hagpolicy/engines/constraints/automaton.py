"""Automata over bytes that are in one state at a time, and the fewest steps to where they may end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from hagpolicy.engines.constraints.expressions import Expression, Nfa, TooLarge

__all__ = ["DEAD", "NEVER", "Automaton", "Edges", "build_automaton", "count_steps"]

DEAD = 0
"""The state from which nothing is accepted."""
NEVER = np.int32(1 << 30)
"""So many steps: the end cannot be reached."""
Edges: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""int32 (edges,) each: next states of the table, marks set, numbers added."""
MOST_STATES, MOST_PRODUCT, MOST_EDGES = 4096, 1 << 17, 1 << 24


@dataclass(frozen=True)
class Automaton:
    """A deterministic automaton over bytes, which may count beside its states.

    What is counted: marks that a byte sets and nothing unsets (a word that had to stand there does), and a number
    that a byte adds to. A full state is (state, marks, number), as one whole number; see `join`.

    Attributes:
        table: int32 (states, 256): next state; state 0 is dead, state 1 the start.
        accepting: bool (states,): where it may end, as far as its state tells.
        marks: int32 (states, 256): marks that a byte sets, as bits; None: none are set.
        final: int32 (states,): marks that ending there sets.
        adds: int32 (states, 256): what a byte adds to the number; None: nothing.
        full: all marks that must be set at the end.
        least: least number at the end.
        most: greatest; None: any.
    """

    table: np.ndarray
    accepting: np.ndarray
    marks: np.ndarray | None = None
    final: np.ndarray | None = None
    adds: np.ndarray | None = None
    full: int = 0
    least: int = 0
    most: int | None = None

    @property
    def states(self) -> int:
        """Number of states of the table."""
        return len(self.table)

    @property
    def widths(self) -> tuple[int, int]:
        """How many values the marks, and the number, can have. Beyond what is asked for, a number is not told apart."""
        return self.full + 1, (self.least if self.most is None else self.most + 1) + 1

    def join(self, state: np.ndarray, marks: np.ndarray, number: np.ndarray) -> np.ndarray:
        """int32: full states; numbers beyond the last one that is told apart are that one."""
        sets, numbers = self.widths
        joined = (state * sets + marks) * numbers + np.minimum(number, numbers - 1)
        return np.asarray(joined, dtype=np.int32)

    @property
    def start(self) -> int:
        """The full state before the first byte."""
        sets, numbers = self.widths
        return sets * numbers

    @cached_property
    def may_end(self) -> np.ndarray:
        """bool (full states,): where an answer may end."""
        sets, numbers = self.widths
        final = np.zeros(self.states, dtype=np.int32) if self.final is None else self.final
        met = (np.arange(sets)[None, :] | final[:, None]) & self.full == self.full
        number = np.arange(numbers)
        counted = (number >= self.least) & (True if self.most is None else number <= self.most)
        return np.asarray((self.accepting[:, None] & met)[:, :, None] & counted, dtype=bool).reshape(-1)

    def split(self, whole: int) -> tuple[int, int, int]:
        """(state, marks, number) of a full state."""
        sets, numbers = self.widths
        rest, number = divmod(whole, numbers)
        return (*divmod(rest, sets), number)

    def advance(self, whole: int, data: bytes) -> int:
        """The full state behind some bytes."""
        state, marks, number = self.split(whole)
        for byte in data:
            marks |= 0 if self.marks is None else int(self.marks[state, byte])
            number += 0 if self.adds is None else int(self.adds[state, byte])
            state = int(self.table[state, byte])
        sets, numbers = self.widths
        return (state * sets + marks) * numbers + min(number, numbers - 1)

    def accepts(self, data: bytes) -> bool:
        """Whether these bytes are accepted as a whole."""
        return bool(self.may_end[self.advance(self.start, data)])


def build_automaton(expression: Expression) -> Automaton:
    """The smallest automaton of a regular expression, by its sets of states.

    Raises:
        TooLarge: it has more than 4,096 states.
    """
    nfa = Nfa()
    begin = nfa.add()
    end = expression(nfa, begin)
    edges = sorted({0, 256, *(edge for moves in nfa.moves for low, high, _ in moves for edge in (low, high + 1))})
    # Bytes between two edges do the same everywhere.
    places = {edge: place for place, edge in enumerate(edges)}
    by_class = [[(places[low], places[high + 1], to) for low, high, to in moves] for moves in nfa.moves]
    known = {frozenset[int](): DEAD, nfa.close([begin]): 1}
    order = list(known)
    rows: list[list[int]] = []
    closed: dict[frozenset[int], frozenset[int]] = {}
    for states in order:
        moves = [move for state in states for move in by_class[state]]
        cuts = sorted({0, len(edges) - 1, *(cut for first, last, _ in moves for cut in (first, last))})
        row: list[int] = []
        for begin_class, end_class in pairwise(cuts):
            some = frozenset(to for first, last, to in moves if first <= begin_class < last)
            if some not in closed:
                closed[some] = nfa.close(some)
            reached = closed[some]
            if reached not in known:
                known[reached] = len(order)
                order.append(reached)
            row += [known[reached]] * (end_class - begin_class)
        rows.append(row)
        if len(order) > MOST_STATES:
            raise TooLarge("constraint", f"an automaton of at most {MOST_STATES:,} states", "a larger one")
    accepting = np.array([end in states for states in order])
    table = np.array(rows, dtype=np.int32)
    table, accepting = _minimise(table, accepting)
    return Automaton(np.repeat(table, np.diff(edges), axis=1), accepting)


def _minimise(table: np.ndarray, accepting: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Table and ends with states joined that nothing tells apart (Moore 1956); dead and start stay 0 and 1.

    Rows of labels are told apart by a random hash of 64 bits, which takes a twentieth of the time of sorting them.
    """
    draw = np.random.default_rng(0)
    values, salts = (draw.integers(1, 1 << 62, size, dtype=np.int64) | 1 for size in (len(table), table.shape[1] + 1))
    labels, count = accepting.astype(np.int64), 0
    while True:
        seen = values[labels]
        _, labels = np.unique(seen * salts[-1] + seen[table] @ salts[:-1], return_inverse=True)
        labels = labels.reshape(-1)
        if labels.max() == count:
            break
        count = int(labels.max())
    if labels[0] == labels[1]:  # nothing is accepted
        return np.zeros((2, table.shape[1]), dtype=np.int32), np.zeros(2, dtype=bool)
    order = np.full(count + 1, -1)
    order[labels[0]], order[labels[1]] = 0, 1
    rest = np.flatnonzero(order < 0)
    order[rest] = np.arange(2, 2 + len(rest))
    new = order[labels]
    _, first = np.unique(new, return_index=True)
    return new[table[first]].astype(np.int32), accepting[first]


def count_steps(automaton: Automaton, list_edges: Callable[[int], Edges]) -> np.ndarray:
    """int32 (full states,): the fewest steps to where an answer may end; `NEVER` where there are none.

    Args:
        automaton: the automaton.
        list_edges: for a state, the distinct (next state, marks set, number added) of its steps.

    Raises:
        TooLarge: there is too much to count through.
    """
    sets, numbers = automaton.widths
    if automaton.states * sets * numbers > MOST_PRODUCT:
        expected, do = f"at most {MOST_PRODUCT:,} states with what they count", "Ask for fewer words."
        raise TooLarge("constraint", expected, "more", do)
    marks, number = np.arange(sets)[:, None, None], np.arange(numbers)[None, :, None]
    targets, sizes, total = [], [], 0
    for state in range(automaton.states):
        to, sets_marks, adds = list_edges(state)
        targets.append(automaton.join(to[None, None, :], marks | sets_marks, number + adds).reshape(-1))
        sizes.append(np.full(sets * numbers, len(to)))
        total += targets[-1].size
        if total > MOST_EDGES:
            raise TooLarge("constraint", f"at most {MOST_EDGES:,} ways on", "more", "Ask for fewer words.")
    target, size = np.concatenate(targets), np.concatenate(sizes)
    begins, some = size.cumsum() - size, size > 0
    steps = np.where(automaton.may_end, 0, NEVER).astype(np.int32)
    while True:
        found = steps.copy()
        found[some] = np.minimum(steps[some], np.minimum.reduceat(steps[target], begins[some]) + 1)
        found = np.minimum(found, NEVER)
        if np.array_equal(found, steps):
            return steps
        steps = found
