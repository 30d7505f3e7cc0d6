"""`sweep(until=…)`: prompts in random order, each under all configs, until a check at planned looks says enough."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from hagpolicy.data.groups import number_groups
from hagpolicy.data.looks import Look
from hagpolicy.data.prompts import Prompt
from hagpolicy.data.store.cells import View
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.sweeping.strategies.base import (
    Rounds,
    Strategy,
    StrategyResult,
    count_possible_samples,
    shuffle_by_group,
)

MOST_LOOKS = 5
UNTIL = "until"
"""Name of the strategy, in stored plans."""


class Check(Protocol):
    """Tells at each planned look whether a sweep has seen enough."""

    @property
    def shares(self) -> Sequence[float]:
        """Of the prompts at each look, rising to 1."""

    def __call__(self, table: SweepTable, number: int, planned: int) -> Look:
        """The look at the table of the prompts seen so far; `number` is its own from 0, `planned` all prompts."""


def check_looks(until: object, strategy: str) -> Check:
    """What was given as `until`, where it is a check.

    Args:
        until: what was given.
        strategy: its name: looks are at prompts that have all their cells, so it must be "full".

    Raises:
        InvalidInput: no check, looks that are not rising shares up to 1, or another strategy.
    """
    if strategy != "full":
        raise InvalidInput("until", "no strategy beside it", strategy, "Leave one of them out.")
    shares = getattr(until, "shares", None)
    if not callable(until) or not isinstance(shares, Sequence):
        do = "For the gate's own: until=hag.until_proven(). On the command line: --until proven."
        raise InvalidInput("until", "a check, or None", until, do)
    rising = len(shares) > 0 and all(a < b for a, b in itertools.pairwise((0.0, *shares)))
    if not rising or len(shares) > MOST_LOOKS or shares[-1] != 1.0:
        raise InvalidInput("until", f"1 to {MOST_LOOKS} looks at rising shares of the prompts, the last 1.0", shares)
    return until  # type: ignore[return-value]  # as far as can be told before it is called


def order_prompts(prompts: Sequence[Prompt], seed: int) -> list[int]:
    """Indices of the prompts with whole groups in random order: the first of them are a fair sample of all.

    The order follows from the seed and the prompts themselves, not from the order in which they are given.
    """
    known = sorted(range(len(prompts)), key=lambda index: prompts[index].digest)
    groups = number_groups(tuple(prompts[index] for index in known))
    return [known[place] for place in shuffle_by_group(groups, (abs(seed), 3))]


def make_rounds(check: Check) -> Strategy:
    """The rounds of a sweep of prompts in the order of `order_prompts`, which ends by a check."""

    def rounds(view: View, budget: int, seed: int) -> Rounds:
        groups = number_groups(view.prompts)
        limits = count_possible_samples(view)
        cells = np.arange(int(limits.max()))[None, :] < limits[:, None]
        looks: list[Look] = []
        seen = 0
        for number, share in enumerate(check.shares):
            seen = _count_prompts(groups, share)
            mask = np.zeros((len(view.prompts), *cells.shape), dtype=bool)
            mask[:seen] = cells
            observed = yield mask
            if observed.final:  # the budget ended within the look: it is none
                break
            table = observed.table.take(np.arange(seen))
            before = tuple(look for look in table.looks if look.planned != len(view.prompts))
            looks.append(check(replace(table, looks=(*before, *looks)), number, len(view.prompts)))
            if looks[-1].outcome != "open":
                break
        log = [{"look": str(look)} for look in looks]
        return StrategyResult(tuple(range(len(view.space))), None, log, seen, tuple(looks))

    rounds.__name__ = UNTIL
    return rounds


def _count_prompts(groups: np.ndarray, share: float) -> int:
    """How many of the first prompts are a share of all, with whole groups."""
    if share >= 1.0:
        return len(groups)
    seen = math.ceil(share * len(groups))
    while seen < len(groups) and groups[seen] == groups[seen - 1]:
        seen += 1
    return seen


def describe_end(looks: Sequence[Look], planned: int) -> str:
    """How a sweep of so many prompts with a check ended, in plain words."""
    if not looks or (looks[-1].outcome == "open" and looks[-1].prompts < planned):
        return "until: the budget ended before the answer was certain"
    words = {"proven": "proven", "futile": "cannot be proven", "open": "not proven"}
    return f"until: {words[looks[-1].outcome]}; {looks[-1]}"
