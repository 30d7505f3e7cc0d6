"""`strategy="racing"`: generate for the configs that matter, and where the choice is uncertain.

1. Race. A quarter of the prompts, in `RACE_ROUNDS` rounds, see the last sample of every config still in.
   After each round those are dropped that are dominated for every kind of prompt, by a paired test
   whose level is shared out over rounds, configs and kinds.
2. Portfolio. The fewer configs stay, the more samples of each the budget has. Those stay, in that
   number, of which the best for each kind promises most once it has been chosen by these samples
   (`Posterior.expect_after_sampling`).
3. Common samples. Every prompt gets the same first samples of every kept config. Only these enter
   differences and intervals.
4. What is left goes to the configs between which the choice for a kind is still open. These
   samples teach the learners only.

A kind is a task label; prompts without labels are clustered by their words.

The engine's default is never dropped: the first line of every result is the gain over it, so it gets
the common samples of every prompt. Measured as well as the others, it stays among the choices.

Dropping may use no sample that is judged later: a config kept for its luck would carry that luck
into the gate. So the race takes samples from the end and the common ones are taken from the front;
they meet only where there is one sample alone, and in deterministic configs, which have one outcome
to be used. `benchmarks/claims/sweeping/racing.py` reruns the null worlds under this mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hagpolicy.data.groups import number_groups
from hagpolicy.data.store.cells import View
from hagpolicy.data.table import SweepTable
from hagpolicy.errors import InvalidInput
from hagpolicy.sweeping.strategies.base import (
    Observation,
    Rounds,
    StrategyResult,
    count_possible_samples,
    shuffle_by_group,
)
from hagpolicy.sweeping.strategies.posterior import Posterior, assign_kinds

# Chosen on simulated worlds whose seeds are not among the reported ones.
PILOT = 0.25
RACE_ROUNDS = 3
LEVEL = 0.05
SPENDING_ROUNDS = 3
# The race itself gets no more than this share of the budget.
RACE_SHARE = 0.5
LEAST_KEPT = 3


class _Race:
    """The state of a race: the cells wanted so far, the configs still in, and what was observed."""

    def __init__(self, view: View, budget: int, seed: int) -> None:
        self.n, self.k = len(view.prompts), len(view.space)
        self.limit = count_possible_samples(view)
        self.default = () if view.default is None else (view.default,)
        self.mask = np.zeros((self.n, self.k, int(self.limit.max())), dtype=bool)
        self.kinds = assign_kinds(view.prompts, seed)
        self.groups = number_groups(view.prompts)
        self.order = shuffle_by_group(self.groups, (abs(seed), 1))
        self.seed, self.budget, self.final = seed, budget, False
        self.remaining = list(range(self.k))
        self.table: SweepTable | None = None
        self.log: list[dict[str, Any]] = []

    def add_samples(self, prompts: np.ndarray, configs: list[int], samples: int) -> np.ndarray:
        """The mask with the first `samples` of these configs for these prompts added."""
        wanted = self.mask.copy()
        for config in configs:
            wanted[prompts, config, : min(samples, int(self.limit[config]))] = True
        return wanted

    def observe(self, wanted: np.ndarray, seen: Observation) -> None:
        """Note what was generated."""
        self.mask, self.table, self.budget, self.final = wanted, seen.table, seen.budget, seen.final

    def estimate_posterior(self) -> Posterior | None:
        """The posterior of the configs seen so far; None where nothing was scored yet."""
        if self.table is None or not self.table.counts.any():
            return None
        return Posterior.of(self.table.means, self.kinds, self.groups, self.seed)

    def add_common_samples(self, samples: int) -> np.ndarray:
        """The mask in which every prompt has so many samples of the configs still in, and of the default."""
        return self.add_samples(self.order, self.kept, samples)

    @property
    def kept(self) -> list[int]:
        """The configs still in, and the default."""
        return sorted({*self.remaining, *self.default})

    def count_samples(self, configs: list[int], count: int) -> np.ndarray:
        """float64 (n_kinds, len(configs)): samples of each kind that so many common ones come to."""
        prompts = np.bincount(self.kinds).astype(np.float64)
        return np.asarray(prompts[:, None] * np.minimum(self.limit[configs], count)[None, :])

    def can_afford(self, wanted: np.ndarray) -> bool:
        """True where the cells of a mask are within the budget."""
        return int(wanted.sum()) <= self.budget

    def record(self, what: str, **more: Any) -> None:
        """Add a line to the log."""
        self.log.append({"round": what, "cells": int(self.mask.sum()), "in": list(self.remaining), **more})


def rounds(view: View, budget: int, seed: int) -> Rounds:
    """The rounds of a race; see the module.

    Args:
        view: everything that could be generated.
        budget: generations allowed in all.
        seed: of the order of prompts and of all draws.

    Raises:
        InvalidInput: a budget below one sample of three configs for every prompt.
    """
    race = _Race(view, budget, seed)
    least = race.n * min(LEAST_KEPT, race.k)
    if budget < least:
        do = "Give a larger budget or fewer prompts."
        raise InvalidInput("budget", f"at least {least} generations: three configs for every prompt", budget, do)
    spare = min(RACE_SHARE * budget, budget - least)
    pilot = race.order[: int(min(PILOT * race.n, spare / race.k))]
    for part in np.array_split(pilot, RACE_ROUNDS) if len(pilot) >= RACE_ROUNDS else []:
        wanted = race.mask.copy()
        for config in race.remaining:
            wanted[part, config, race.limit[config] - 1] = True
        race.observe(wanted, (yield wanted))
        _drop_dominated(race)
    most = _keep_portfolio(race)
    common = 1
    wanted = race.add_common_samples(common)
    race.observe(wanted, (yield wanted))
    race.record("common", samples=common)
    while not race.final and common < most and race.can_afford(race.add_common_samples(common + 1)):
        wanted = race.add_common_samples(common + 1)
        race.observe(wanted, (yield wanted))
        # A budget of minutes may end within the round: samples that some prompts lack are not common.
        common += not race.final
        race.record("common", samples=common)
    for turn in range(SPENDING_ROUNDS):
        goal = int(race.mask.sum()) + max(race.budget - int(race.mask.sum()), 0) // (SPENDING_ROUNDS - turn)
        wanted = race.mask if race.final else _add_where_uncertain(race, goal)
        if wanted.sum() > race.mask.sum():
            race.observe(wanted, (yield wanted))
            race.record("added")
    return StrategyResult(tuple(race.kept), common, race.log)


def _drop_dominated(race: _Race) -> None:
    """Drop what is dominated for every kind; errors of the test are shared out over all it may do."""
    level = LEVEL / (RACE_ROUNDS * max(race.k - 1, 1))
    posterior = race.estimate_posterior()
    if posterior is None:
        return
    out = posterior.find_dominated(race.remaining, level)
    dropped = [config for config, is_out in zip(race.remaining, out, strict=True) if is_out]
    race.remaining = [config for config in race.remaining if config not in dropped]
    race.record("race", dominated=dropped)


def _keep_portfolio(race: _Race) -> int:
    """Keep the configs that promise most with the common samples that the budget has for them.

    The sets that compete are nested: the config whose loss is least leaves first. A smaller set gets
    more samples of each config, so that the best of it is better known and easier to prove.

    Returns:
        How many common samples those are.
    """
    posterior = race.estimate_posterior()
    most = max(race.mask.shape[2] - 1, 1)  # the last sample is the race's own
    begun, left = race.remaining, list(race.remaining)
    best: tuple[float, list[int], int] = (-np.inf, begun, 1)
    while left:
        race.remaining = list(left)
        found = [count for count in range(1, most + 1) if race.can_afford(race.add_common_samples(count))]
        promise = 0.0
        if found and posterior is not None:
            promise = posterior.expect_after_sampling(left, race.count_samples(left, found[-1]), found[-1])
        # Where tokens ran low meanwhile and nothing is affordable, the smallest set costs least.
        if not found and best[0] == -np.inf:
            best = -np.inf, race.remaining, 1
        if found and promise > best[0]:
            best = promise, race.remaining, found[-1]
        # Without anything seen the space's order decides.
        left.pop(-1 if posterior is None else int(posterior.expect_losses(left).argmin()))
    race.remaining = best[1]
    race.record("portfolio", dropped=sorted({*begun} - {*race.remaining}), samples=best[2])
    return best[2]


def _add_where_uncertain(race: _Race, goal: int) -> np.ndarray:
    """The mask with samples added where a kind's best config is uncertain, up to `goal` cells in all.

    Every prompt in turn gets one more sample of a kept config, drawn with the weight p (1 - p), where
    p is the chance that it is the best for the prompt's kind: clear winners and losers get none.
    """
    posterior = race.estimate_posterior()
    if posterior is None:
        return race.mask
    chances = posterior.estimate_chances(race.remaining)[race.kinds]
    weights = chances * (1.0 - chances)
    rng = np.random.default_rng([abs(race.seed), 2, int(race.mask.sum())])
    wanted, limit = race.mask.copy(), race.limit[race.remaining]
    left = goal - int(wanted.sum())
    while left > 0:
        have = wanted[:, race.remaining].sum(axis=2)
        open_ = np.where(have < limit, weights, 0.0)
        takers = rng.permutation(np.flatnonzero(open_.sum(axis=1) > 0.0))[:left]
        if not len(takers):
            break
        steps = np.cumsum(open_[takers], axis=1)
        picks = (steps < (rng.random(len(takers)) * steps[:, -1])[:, None]).sum(axis=1)
        configs = np.array(race.remaining)[picks]
        wanted[takers, configs, wanted[takers, configs].argmin(axis=1)] = True  # its first sample not yet wanted
        left -= len(takers)
    return wanted
