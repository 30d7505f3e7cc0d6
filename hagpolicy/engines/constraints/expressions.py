"""Regular expressions over UTF-8 as functions that add states to an automaton (McNaughton, Yamada, Thompson)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from hagpolicy.errors import InvalidInput

__all__ = [
    "Characters",
    "Expression",
    "Nfa",
    "TooLarge",
    "characters",
    "complement",
    "either",
    "literal",
    "optional",
    "repeat",
    "sequence",
]

Characters: TypeAlias = Sequence[tuple[int, int]]
"""Ranges of code points, both ends included."""
MOST_STATES = 50_000
# In the steps of one text that are kept: some 30 MB.
MOST_HELD = 500_000
LAST, SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)


class TooLarge(InvalidInput):
    """An automaton has more states than can be counted through."""


class Nfa:
    """An automaton over bytes in the making: it may be in several states at once.

    Attributes:
        moves: for each state (first byte, last byte, next state).
        jumps: for each state those that it may be in as well.
    """

    def __init__(self) -> None:
        self.moves: list[list[tuple[int, int, int]]] = []
        self.jumps: list[list[int]] = []

    def add(self) -> int:
        """A new state.

        Raises:
            TooLarge: there are too many.
        """
        if len(self.moves) >= MOST_STATES:
            do = "Bound it more tightly."
            raise TooLarge("constraint", f"an automaton of at most {MOST_STATES:,} states", "a larger one", do)
        self.moves.append([])
        self.jumps.append([])
        return len(self.moves) - 1

    def close(self, states: Iterable[int]) -> frozenset[int]:
        """These states with all that can be jumped to."""
        found = set(states)
        todo = list(found)
        while todo:
            for other in self.jumps[todo.pop()]:
                if other not in found:
                    found.add(other)
                    todo.append(other)
        return frozenset(found)

    def accepts(self, data: bytes, start: int, end: int) -> bool:
        """Whether bytes lead from a state to another, in time linear in their number."""
        now, held = self.close([start]), 0
        # What followed before, as in automata that are made deterministic while they run: most answers repeat a few.
        known: dict[tuple[frozenset[int], int], frozenset[int]] = {}
        for byte in data:
            then = known.get((now, byte))
            if then is None:
                then = self.close(to for state in now for low, high, to in self.moves[state] if low <= byte <= high)
                held += len(then) + 1
                if held <= MOST_HELD:
                    known[now, byte] = then
            if not then:
                return False
            now = then
        return end in now


Expression: TypeAlias = Callable[[Nfa, int], int]
"""Adds an expression to an automaton behind a state, and returns the state at its end."""


def literal(data: bytes) -> Expression:
    """These bytes."""

    def add(nfa: Nfa, state: int) -> int:
        for byte in data:
            end = nfa.add()
            nfa.moves[state].append((byte, byte, end))
            state = end
        return state

    return add


def characters(ranges: Characters) -> Expression:
    """One character of these ranges, in UTF-8; half of a surrogate pair is none."""
    paths = [path for low, high in ranges for path in _split_utf8(low, min(high, LAST))]

    def add(nfa: Nfa, state: int) -> int:
        end = nfa.add()
        known: dict[tuple[tuple[int, int], ...], int] = {(): end}
        for path in paths:
            # Paths that end alike share their end.
            for at in range(len(path) - 1, 0, -1):
                if path[at:] not in known:
                    known[path[at:]] = nfa.add()
                    nfa.moves[known[path[at:]]].append((*path[at], known[path[at + 1 :]]))
            nfa.moves[state].append((*path[0], known[path[1:]]))
        return end

    return add


def complement(ranges: Characters) -> list[tuple[int, int]]:
    """All characters but these."""
    left, at = [], 0
    for low, high in sorted(ranges):
        if low > at:
            left.append((at, low - 1))
        at = max(at, high + 1)
    return [*left, (at, LAST)] if at <= LAST else left


def sequence(*parts: Expression) -> Expression:
    """The parts one after the other."""
    return lambda nfa, state: functools.reduce(lambda at, part: part(nfa, at), parts, state)


def either(*parts: Expression) -> Expression:
    """One of the parts."""

    def add(nfa: Nfa, state: int) -> int:
        end = nfa.add()
        for part in parts:
            begin = nfa.add()
            nfa.jumps[state].append(begin)
            nfa.jumps[part(nfa, begin)].append(end)
        return end

    return add


def repeat(part: Expression, least: int = 0, most: int | None = None) -> Expression:
    """A part so many times; `most` None: any number."""

    def add(nfa: Nfa, state: int) -> int:
        for _ in range(least):
            state = part(nfa, state)
        end = nfa.add()
        if most is None:
            loop = nfa.add()
            nfa.jumps[state].append(loop)
            nfa.jumps[part(nfa, loop)].append(loop)
            nfa.jumps[loop].append(end)
            return end
        nfa.jumps[state].append(end)
        for _ in range(most - least):
            begin = nfa.add()
            nfa.jumps[state].append(begin)
            state = part(nfa, begin)
            nfa.jumps[state].append(end)
        return end

    return add


def optional(part: Expression) -> Expression:
    """A part, or nothing."""
    return repeat(part, 0, 1)


def _split_utf8(low: int, high: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Ranges of bytes that together are the UTF-8 of a range of characters: all of a path's combinations are."""
    for edge in (0x7F, 0x7FF, SURROGATES[0] - 1, SURROGATES[1], 0xFFFF):
        if low <= edge < high:
            yield from _split_utf8(low, edge)
            yield from _split_utf8(edge + 1, high)
            return
    if low > high or SURROGATES[0] <= low <= SURROGATES[1]:
        return
    first, last = chr(low).encode(), chr(high).encode()
    for at in range(1, len(first)):
        # Below the place where they differ first, each must run through all of its six bits.
        mask = (1 << 6 * at) - 1
        if low & ~mask != high & ~mask:
            if low & mask:
                yield from _split_utf8(low, low | mask)
                yield from _split_utf8((low | mask) + 1, high)
                return
            if high & mask != mask:
                yield from _split_utf8(low, (high & ~mask) - 1)
                yield from _split_utf8(high & ~mask, high)
                return
    yield tuple(zip(first, last, strict=True))
