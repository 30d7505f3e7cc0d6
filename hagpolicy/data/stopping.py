"""Where an answer ends before a string that stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from hagpolicy.data.completion import Completion
from hagpolicy.errors import InvalidInput

__all__ = ["count_to_stop", "cut_at_stop", "find_stop", "parse_stop"]


def parse_stop(given: Any) -> tuple[str, ...]:
    """The strings of `sweep(stop=…)`, each once and in one order, since their order means nothing; none for None.

    Args:
        given: a string, or several.

    Raises:
        InvalidInput: anything else, or an empty string.
    """
    if given is None:
        return ()
    strings = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [None]
    if bad := [one for one in strings if not isinstance(one, str) or not one]:
        raise InvalidInput("stop", "strings of at least one character, such as ['\\n\\n']", bad[0])
    return tuple(sorted(set(strings)))


def find_stop(text: str, stop: Sequence[str]) -> int:
    """Where the first of some strings begins in a text; -1 where it holds none."""
    return min((place for one in stop if (place := text.find(one)) >= 0), default=-1)


def cut_at_stop(completion: Completion, stop: Sequence[str]) -> Completion:
    """The completion with its text cut before the first of some strings, and then ended by "stop"."""
    place = find_stop(completion.text, stop) if stop and completion.finish != "error" else -1
    return completion if place < 0 else replace(completion, text=completion.text[:place], finish="stop")


def count_to_stop(decode: Callable[[Sequence[int]], str], tokens: Sequence[int], stop: Sequence[str]) -> int:
    """How many tokens of an answer it takes until its text holds one of some strings; all where it holds none."""
    low, high = 0, len(tokens)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if find_stop(decode(tokens[:middle]), stop) >= 0 else (middle + 1, high)
    return low
