"""Draws over groups: intervals of means, and a single best config that every draw chooses for itself.

Prompts of one group are not independent, so every interval is a bootstrap over groups (Efron and Tibshirani, *An
Introduction to the Bootstrap*, 1993).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hagpolicy._checks import is_whole
from hagpolicy.analysis.rule import LEVEL, N_BOOT
from hagpolicy.data.ties import choose_best
from hagpolicy.errors import InvalidInput
from hagpolicy.results import Estimate


class GroupBootstrap:
    """Draws whole groups with replacement; the same draws for everything that is compared.

    Args:
        groups: int64 (n_prompts,).
        n_boot: number of draws.
        seed: of the draws.

    Raises:
        InvalidInput: a seed that is no whole number or below 0.
    """

    def __init__(self, groups: np.ndarray, n_boot: int = N_BOOT, seed: int = 0) -> None:
        if not is_whole(seed, 0):
            raise InvalidInput("seed", "a whole number, at least 0", seed)
        _, self.index = np.unique(groups, return_inverse=True)
        self.n_groups = int(self.index.max()) + 1
        rng = np.random.default_rng(seed)
        uniform = np.full(self.n_groups, 1.0 / self.n_groups)
        self.counts = rng.multinomial(self.n_groups, uniform, size=n_boot).astype(np.float64)
        self.sizes = np.bincount(self.index, minlength=self.n_groups).astype(np.float64)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """float64 (n_groups, k): sums by group of values (n_prompts, k)."""
        total = np.zeros((self.n_groups, values.shape[1]))
        np.add.at(total, self.index, values)
        return total

    def means(self, values: np.ndarray) -> np.ndarray:
        """float64 (n_boot, k): mean over the drawn prompts of values (n_prompts, k)."""
        return np.asarray((self.counts @ self.sums(values)) / (self.counts @ self.sizes)[:, None])

    def mean(self, values: np.ndarray, *, learned: bool = False) -> Estimate:
        """Mean of values (n_prompts,), with its percentile interval; over one group nothing is known.

        Args:
            values: float64 (n_prompts,).
            learned: they are of choices that were learned on the other folds. Choices learned on overlapping prompts
                err together, so an interval that takes prompts for independent covers too rarely. This one is of the
                groups that each draw leaves out, as the gate's, and `rule.WIDER` times as wide.
        """
        if learned and len(self.leaving):
            return estimate_from_draws(float(values.mean()), self.out_of_bag_means(values[:, None])[:, 0])
        if self.n_groups == 1 and values.any():  # every draw is that group: no width, where there is no knowledge
            return estimate_unknown(values)
        return estimate_from_draws(float(values.mean()), self.means(values[:, None])[:, 0])

    @cached_property
    def leaving(self) -> np.ndarray:
        """int64 (n_leaving,): the draws that leave out a group; none where there is only one group."""
        return np.flatnonzero((self.counts == 0.0).any(axis=1))

    def out_of_bag_means(self, values: np.ndarray, some: np.ndarray | None = None) -> np.ndarray:
        """float64 (n_leaving, k): mean of values (n_prompts, k) over the prompts that each such draw leaves out;
        of `some` of these draws, by number."""
        mask = (self.counts[self.leaving if some is None else self.leaving[some]] == 0.0).astype(np.float64)
        return np.asarray((mask @ self.sums(values)) / (mask @ self.sizes)[:, None])

    def narrow(self, draws: np.ndarray, choices: np.ndarray) -> np.ndarray:
        """float64 (n_leaving,): means over left-out prompts, scattering as means over all prompts do.

        A mean over the share f of the groups, drawn without replacement, scatters sqrt((1 - f) / f) times as widely
        as one over all of them (the delete-d jackknife of Shao and Wu, *Annals of Statistics* 17, 1989), which is
        `rule.WIDER` for the share that a draw leaves out. Draws that chose the same differ by that scatter alone,
        and are drawn together by as much. What draws that chose differently differ by is left: it is the price of the
        choice.

        Args:
            draws: float64 (n_leaving,), such as from `left_out`.
            choices: int64 (n_leaving,), what each draw chose.
        """
        _, which = np.unique(choices, return_inverse=True)
        centre = (np.bincount(which, draws) / np.bincount(which))[which]
        share = (self.counts[self.leaving] == 0.0).mean(axis=1)
        return np.asarray(centre + (draws - centre) * np.sqrt(share / (1.0 - share)))


def estimate_unknown(values: np.ndarray) -> Estimate:
    """Mean of values, with an interval that holds every possible one: [-1, 1], or wider where a price makes values
    larger."""
    widest = max(1.0, float(np.abs(values).max()))
    return Estimate(float(values.mean()), -widest, widest)


def estimate_from_draws(value: float, draws: np.ndarray) -> Estimate:
    """`value` with the central 95 % of the draws, widened to hold the value where most draws are equal.

    Rounded, so that exact ties are no gain of the size of a rounding error.
    """
    tail = (1.0 - LEVEL) / 2.0
    low, value, high = np.round([np.quantile(draws, tail), value, np.quantile(draws, 1.0 - tail)], 12) + 0.0
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))


@dataclass(frozen=True)
class DrawnConfig:
    """A config for each draw to compare with: the single best config (SBS), chosen anew in each, or always the same.

    Where configs nearly tie, a choice on the other folds takes, for each fold, the one that does worst on this fold;
    so SBS seemed worse than each of the tied, and a baseline that always named one of them seemed to beat it
    (`benchmarks/claims/fitting/reference.py`). Draws share the choice among them, and intervals over draws pay for it
    (out-of-bag estimate: Breiman, 1996, on bagged predictors).

    A draw holds about as much information as half of the prompts. So where configs nearly tie, this reference is worth
    somewhat less than the config that ships, and gains come out somewhat large; intervals make up for that
    (`benchmarks/claims/fitting/worlds.py`).

    Attributes:
        config: int64 (n_leaving,), the config of each draw that leaves out a group.
        value: float64 (n_leaving,), its mean value on the prompts that the draw leaves out.
        weights: float64 (n_prompts, n_configs), how often each config is that of a draw that leaves the prompt
            out; rows sum to 1. `(weights * Y).sum(axis=1)` is its value, prompt by prompt. A group that no
            draw leaves out gets the best config of all prompts.
    """

    config: np.ndarray
    value: np.ndarray
    weights: np.ndarray

    @classmethod
    def fixed(cls, config: int, Y: np.ndarray, boot: GroupBootstrap) -> DrawnConfig:
        """The same config in every draw; of values, float64 (n_prompts, n_configs)."""
        draws = len(boot.leaving)
        value = boot.out_of_bag_means(Y[:, [config]])[:, 0] if draws else np.empty(0)
        return cls(
            np.full(draws, config), value, np.tile(np.arange(Y.shape[1]) == config, (len(Y), 1)).astype(np.float64)
        )

    @classmethod
    def best(cls, Y: np.ndarray, boot: GroupBootstrap) -> DrawnConfig:
        """The best config of each draw, by values, float64 (n_prompts, n_configs)."""
        best = choose_best(boot.means(Y)[boot.leaving])
        value = boot.out_of_bag_means(Y)[np.arange(len(best)), best]
        left_out = (boot.counts[boot.leaving] == 0.0).astype(np.float64)
        often, times = left_out.T @ np.eye(Y.shape[1])[best], left_out.sum(axis=0)
        never = times == 0.0
        often[never] = np.arange(Y.shape[1]) == choose_best(Y.mean(axis=0))
        return cls(best, value, (often / np.where(never, 1.0, times)[:, None])[boot.index])

    def out_of_bag_means(self, boot: GroupBootstrap, values: Callable[[int], np.ndarray]) -> np.ndarray:
        """float64 (n_leaving, k): mean over the prompts that each draw leaves out of `values(config)`, which is float64
        (n_prompts, k) for the index of the draw's own config."""
        parts = {config: np.flatnonzero(self.config == config) for config in np.unique(self.config).tolist()}
        means = {config: boot.out_of_bag_means(values(config), mine) for config, mine in parts.items()}
        found = np.empty((len(self.config), next(iter(means.values())).shape[1]))
        for config, mine in parts.items():
            found[mine] = means[config]
        return found
