"""Two tables as one: which rows and columns they share, and cells of both in one array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from hagpolicy.data.groups import number_groups
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput

__all__ = ["Axis", "agree", "join_cells", "join_groups_of", "unite"]

K = TypeVar("K")
_DO = "Join tables of other prompts or other configs, or take what is right of one."


@dataclass(frozen=True)
class Axis(Generic[K]):
    """The prompts or configs of two tables.

    Attributes:
        items: those of the first, then what the second has beside them.
        places: int64 (n_first,) and (n_second,): where each one's items stand among all.
        shared: how many are of both.
    """

    items: tuple[K, ...]
    places: tuple[np.ndarray, np.ndarray]
    shared: int

    @property
    def same(self) -> bool:
        """Both tables have all of them."""
        return all(len(places) == len(self.items) for places in self.places)


def unite(name: str, one: Sequence[K], other: Sequence[K]) -> Axis[K]:
    """The items of both, each once. Raises InvalidInput where one of them has an item twice."""
    for items in (one, other):
        if len(set(items)) < len(items):
            raise InvalidInput(name, "each once in a table that is joined", "one that repeats another", "Take it once.")
    at = {item: place for place, item in enumerate(dict.fromkeys((*one, *other)))}
    places = tuple(np.array([at[item] for item in items], dtype=np.int64) for items in (one, other))
    return Axis(tuple(at), (places[0], places[1]), len(one) + len(other) - len(at))


def join_cells(
    name: str, rows: Axis[Any], columns: Axis[Any], samples: int, one: np.ndarray | None, other: np.ndarray | None
) -> np.ndarray | None:
    """float (n_prompts, n_configs, samples): cells of both arrays, NaN where neither knows one; None for no array.

    Raises:
        InvalidInput: a cell that both know otherwise.
    """
    if one is None and other is None:
        return None
    joined = np.full((len(rows.items), len(columns.items), samples), np.nan)
    for part, row, column in zip((one, other), rows.places, columns.places, strict=True):
        if part is None:
            continue
        at = np.ix_(row, column, np.arange(part.shape[2]))
        before = joined[at]
        apart = ~np.isnan(before) & ~np.isnan(part) & (before != part)
        if apart.any():
            i, j, k = (int(number) for number in np.argwhere(apart)[0])
            found = f"{before[i, j, k]:g} and {part[i, j, k]:g}"
            got = f"{apart.sum()} that differ, the first at prompt {row[i]}, config {column[j]}, sample {k}: {found}"
            raise InvalidInput(f"other.{name}", "cells that agree where both tables have them", got, _DO)
        joined[at] = np.where(np.isnan(part), before, part)
    return joined


def join_groups_of(prompts: Sequence[Prompt], rows: Axis[Any], one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """int64 (n_prompts,): prompts stay together that do so in either table, or by what they declare, transitively."""
    joined = number_groups(prompts)
    parts = [np.unique(groups, return_inverse=True)[1] for groups in (one, other)]
    before = None
    while before is None or (joined != before).any():  # the smallest number of each group, until nothing changes
        before = joined.copy()
        for places, numbers in zip(rows.places, parts, strict=True):
            lowest = np.full(int(numbers.max(initial=-1)) + 1, len(prompts))
            np.minimum.at(lowest, numbers, joined[places])
            reached = np.arange(len(prompts))
            np.minimum.at(reached, joined[places], lowest[numbers])
            joined = reached[joined]
    _, at, number = np.unique(joined, return_index=True, return_inverse=True)
    return np.asarray(at.argsort().argsort()[number], dtype=np.int64)


def agree(name: str, one: Any, other: Any, unknown: Any) -> Any:
    """What both tables say of themselves; unknown where one of them does not know.

    Raises:
        InvalidInput: they say different things.
    """
    if one == unknown or other == unknown:
        return unknown
    if isinstance(one, Mapping) and name == "scorers":  # by task
        apart = [task for task in one.keys() & other.keys() if one[task] != other[task]]
        if not apart:
            return {**one, **other}
        one, other = one[apart[0]], other[apart[0]]
    if one != other:
        raise InvalidInput(f"other.{name}", f"that of this table, {one}", other, "Outcomes of both cannot be compared.")
    return one
